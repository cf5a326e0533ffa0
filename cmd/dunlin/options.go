package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
)

// options are the server's settings. Each is a flag, an environment variable DUNLIN_<FLAG> and a key of the config
// file, in this order of precedence; the flags are the one list of them.
type options struct {
	config       string
	data         string
	database     string
	listen       string
	sshListen    string
	host         string
	sshHost      string
	tls          string
	behindProxy  bool
	tlsCert      string
	tlsKey       string
	engine       string
	goCommand    string
	buildTimeout time.Duration
	deltaJobs    int
	deltaSpace   string
	deltaBytes   int64 // deltaSpace, read
	deltaMemory  string
	memoryBytes  int64 // deltaMemory, read
	deltaTimeout time.Duration
	deltaWait    time.Duration
	adminUser    string
	adminEmail   string
	adminPass    string
	registration string
	proxies      []string
	proxyNets    []netip.Prefix // proxies, read
	privateHosts []string
	logLevel     string
	logFormat    string
}

// Ways to serve HTTP.
const (
	tlsAuto    = "auto"    // off on loopback, own everywhere else
	tlsOff     = "off"     // plain HTTP: on loopback, or behind a proxy that ends TLS
	tlsOwn     = "own"     // certificate of the server's own private CA
	tlsFiles   = "files"   // certificate and key from files
	envPrefix  = "DUNLIN_" // of the environment variables
	fileFlag   = "config"
	minTimeout = time.Minute
	maxTimeout = 2 * time.Hour // the registry's sweep spares what is younger than a build can be
)

func (o *options) flags(f *pflag.FlagSet) {
	f.StringVar(&o.config, fileFlag, "", "YAML file with these settings, by the flags' names")
	f.StringVar(&o.data, "data", "/var/lib/dunlin", "folder of everything the server keeps")
	f.StringVar(&o.database, "database", "", "database: a file for SQLite, or postgres://USER:PASSWORD@HOST:PORT/DATABASE, better set by "+envPrefix+"DATABASE (default: dunlin.db in the data folder)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the HTTP(S) port")
	f.StringVar(&o.sshListen, "ssh-listen", "127.0.0.1:2222", "address of the SSH port that git pushes to")
	f.StringVar(&o.host, "host", "", "public host and port by which devices and people reach the HTTP port (default: the listen address)")
	f.StringVar(&o.sshHost, "ssh-host", "", "public host and port of the SSH port (default: the public host with the SSH port)")
	f.StringVar(&o.tls, "tls", tlsAuto, "auto, off, own (a private CA) or files")
	f.BoolVar(&o.behindProxy, "behind-proxy", false, "with --tls off: a proxy in front ends TLS, and people and devices reach it by https")
	f.StringVar(&o.tlsCert, "tls-cert", "", "file of the certificate chain, PEM, for --tls files")
	f.StringVar(&o.tlsKey, "tls-key", "", "file of the private key, PEM, for --tls files")
	f.StringVar(&o.engine, "engine", "", "Docker Engine that builds Dockerfiles, for example unix:///var/run/docker.sock (default: DOCKER_HOST, or the local one)")
	f.StringVar(&o.goCommand, "go", "go", "Go command that builds Go modules without a Dockerfile")
	f.DurationVar(&o.buildTimeout, "build-timeout", time.Hour, "how long the build of one image may take")
	f.IntVar(&o.deltaJobs, "delta-jobs", 1, "how many deltas are made at the same time; 0 makes none")
	f.StringVar(&o.deltaSpace, "delta-space", "20GB", "room on the disk for deltas; those that were not used for the longest time make room for others (0: no bound)")
	f.StringVar(&o.deltaMemory, "delta-memory", "1GB", "memory that making one delta may use, roughly")
	f.DurationVar(&o.deltaTimeout, "delta-timeout", 30*time.Minute, "how long making one delta may take")
	f.DurationVar(&o.deltaWait, "delta-wait", 45*time.Second, "how long a device that asks for a delta that is being made is kept waiting before it is told to ask again")
	f.StringVar(&o.adminUser, "admin-user", "admin", "name of the first user, made at the first start")
	f.StringVar(&o.adminEmail, "admin-email", "", "email address of the first user")
	f.StringVar(&o.adminPass, "admin-password", "", "password of the first user (default: one is made and printed once); better set by "+envPrefix+"ADMIN_PASSWORD")
	f.StringVar(&o.registration, "registration", auth.RegistrationInvited, "who may have an account made: open (anybody), invited (who has an invitation, and by administrators) or closed (by administrators alone)")
	f.StringSliceVar(&o.proxies, "proxy", nil, "with --behind-proxy: address or network of a proxy whose X-Forwarded-For is believed; may be given several times (default: whoever connects)")
	f.StringSliceVar(&o.privateHosts, "private-host", nil, "host (and port) in a private network that submodules, images of other registries and sources that are pushed by url may be fetched from; may be given several times")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
}

// settingsOf is the flags of o, and nothing else.
func settingsOf(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	o.flags(f)
	return f
}

// complete fills what no flag said from the environment, then from the file, and checks the result. Flags of a command
// that are no settings of the server are left alone.
func (o *options) complete(cmd *cobra.Command, environ func(string) (string, bool)) error {
	flags, settings := cmd.Flags(), settingsOf(&options{})
	var err error
	set := func(origin, name, value string) {
		if e := flags.Set(name, value); e != nil && err == nil {
			err = fault.Newf(fault.Invalid, "%s: %v", origin, e)
		}
	}
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	settings.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := environ(name); ok && !given[f.Name] {
			given[f.Name] = true
			set(name, f.Name, value)
		}
	})
	if err != nil {
		return err
	}
	file, err := readConfig(o.config, settings)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(file) {
		if !given[name] {
			set(o.config+": "+name, name, file[name])
		}
	}
	if err != nil {
		return err
	}
	return o.check()
}

// readConfig reads the config file: a flat map from flag names to values. An unknown key is an error, since a
// setting that is silently ignored is worse than none.
func readConfig(path string, flags *pflag.FlagSet) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the config file: %v", err)
	}
	var settings map[string]setting
	if err := yaml.Unmarshal(text, &settings); err != nil {
		return nil, fault.Newf(fault.Invalid, "config file %s: %s", path, yaml.FormatError(err, false, true)).
			WithHint("write a line NAME: VALUE for each setting")
	}
	all := map[string]string{}
	for key, value := range settings {
		if flags.Lookup(key) == nil || key == fileFlag {
			return nil, fault.Newf(fault.Invalid, "config file %s: there is no setting %q", path, key).
				WithHint("dunlin server --help lists the settings")
		}
		if value != "" {
			all[key] = string(value)
		}
	}
	return all, nil
}

// setting is a value of the config file as it is written there, or the items of a list with commas between. A
// password of digits stays what it is.
type setting string

// UnmarshalYAML takes a plain value or a list of them.
func (s *setting) UnmarshalYAML(node ast.Node) error {
	switch n := node.(type) {
	case *ast.NullNode:
		*s = ""
	case *ast.SequenceNode:
		var items []string
		for _, item := range n.Values {
			var one setting
			if err := one.UnmarshalYAML(item); err != nil {
				return err
			}
			items = append(items, string(one))
		}
		*s = setting(strings.Join(items, ","))
	case ast.ScalarNode:
		*s = setting(n.GetToken().Value)
	default:
		return fmt.Errorf("line %d: a setting is a plain value or a list of them", node.GetToken().Position.Line)
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// check resolves the defaults that depend on each other and refuses what cannot work.
func (o *options) check() error {
	host, port, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fault.Newf(fault.Invalid, "--listen %q is not HOST:PORT", o.listen).WithHint("for example 127.0.0.1:8080, or :443 for all addresses")
	}
	_, sshPort, err := net.SplitHostPort(o.sshListen)
	if err != nil {
		return fault.Newf(fault.Invalid, "--ssh-listen %q is not HOST:PORT", o.sshListen)
	}
	if o.database == "" {
		o.database = filepath.Join(o.data, "dunlin.db")
	}
	loopback := isLoopback(host)
	if o.tls == tlsAuto {
		switch {
		case o.tlsCert != "":
			o.tls = tlsFiles
		case loopback:
			o.tls = tlsOff
		default:
			o.tls = tlsOwn
		}
	}
	if o.host == "" {
		if host == "" || net.ParseIP(host).IsUnspecified() {
			return fault.Newf(fault.Invalid, "--listen %s listens on every address, so the server does not know its own name", o.listen).
				WithHint("add --host NAME[:PORT], as devices and people will reach it")
		}
		o.host = net.JoinHostPort(host, port)
	}
	o.host = strings.ToLower(o.host)
	if o.tls == tlsOff && !loopback && !o.behindProxy {
		return fault.New(fault.Invalid, "--tls off would send passwords and keys in clear").
			WithHint("listen on loopback, or add --behind-proxy if a proxy in front ends TLS")
	}
	o.host = strings.TrimSuffix(o.host, map[bool]string{true: ":443", false: ":80"}[o.https()])
	if o.sshHost == "" {
		o.sshHost = net.JoinHostPort(o.hostname(), sshPort)
	}
	switch o.tls {
	case tlsOff, tlsOwn:
	case tlsFiles:
		if o.tlsCert == "" || o.tlsKey == "" {
			return fault.New(fault.Invalid, "--tls files needs --tls-cert and --tls-key")
		}
	default:
		return fault.Newf(fault.Invalid, "--tls is %q", o.tls).WithHint("choose auto, off, own or files")
	}
	switch o.registration {
	case auth.RegistrationOpen, auth.RegistrationInvited, auth.RegistrationClosed:
	default:
		return fault.Newf(fault.Invalid, "--registration is %q", o.registration).WithHint("choose open, invited or closed")
	}
	if len(o.proxies) > 0 && !o.behindProxy {
		return fault.New(fault.Invalid, "--proxy is given, and no proxy is in front of the server").WithHint("add --behind-proxy")
	}
	if o.proxyNets, err = networks(o.proxies); err != nil {
		return err
	}
	if err := o.checkDeltas(); err != nil {
		return err
	}
	if o.buildTimeout < minTimeout || o.buildTimeout > maxTimeout {
		return fault.Newf(fault.Invalid, "--build-timeout is %s", o.buildTimeout).WithHint(fmt.Sprintf("give %s to %s", minTimeout, maxTimeout))
	}
	return nil
}

// Bounds of the settings of deltas.
const (
	maxDeltaJobs    = 64
	minDeltaMemory  = 128_000_000
	minDeltaTimeout = 10 * time.Second
	maxDeltaTimeout = 24 * time.Hour
	maxDeltaWait    = 55 * time.Second // a stock supervisor gives up after 59
)

func (o *options) checkDeltas() (err error) {
	if o.deltaBytes, err = parseBytes("--delta-space", o.deltaSpace); err != nil {
		return err
	}
	if o.memoryBytes, err = parseBytes("--delta-memory", o.deltaMemory); err != nil {
		return err
	}
	switch {
	case o.deltaJobs < 0 || o.deltaJobs > maxDeltaJobs:
		return fault.Newf(fault.Invalid, "--delta-jobs is %d", o.deltaJobs).WithHint(fmt.Sprintf("give 0 to %d", maxDeltaJobs))
	case o.memoryBytes < minDeltaMemory:
		return fault.Newf(fault.Invalid, "--delta-memory is %s", o.deltaMemory).WithHint("give 128MB or more")
	case o.deltaTimeout < minDeltaTimeout || o.deltaTimeout > maxDeltaTimeout:
		return fault.Newf(fault.Invalid, "--delta-timeout is %s", o.deltaTimeout).WithHint(fmt.Sprintf("give %s to %s", minDeltaTimeout, maxDeltaTimeout))
	case o.deltaWait < 0 || o.deltaWait > maxDeltaWait:
		return fault.Newf(fault.Invalid, "--delta-wait is %s", o.deltaWait).WithHint(fmt.Sprintf("give 0s to %s", maxDeltaWait))
	}
	return nil
}

// parseBytes reads a number of bytes as people write it: 500MB, 20GB, 1GiB, or without a unit.
func parseBytes(flag, text string) (int64, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range []struct {
		name string
		n    int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
	} {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, unit = strings.TrimSpace(number[:len(number)-len(u.name)]), u.n
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fault.Newf(fault.Invalid, "%s is %q, which is no number of bytes", flag, text).WithHint("for example 500MB or 20GB")
	}
	return n * unit, nil
}

// networks reads addresses and networks.
func networks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if ip, e := netip.ParseAddr(text); e == nil {
			p, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "--proxy %q is no address and no network", text).WithHint("for example 10.0.0.2 or 10.0.0.0/8")
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// hostname is the public host without its port.
func (o *options) hostname() string {
	if h, _, err := net.SplitHostPort(o.host); err == nil {
		return h
	}
	return strings.Trim(o.host, "[]")
}

// url is the public address of the HTTP port.
func (o *options) url() string {
	if o.https() {
		return "https://" + o.host
	}
	return "http://" + o.host
}

// https reports whether people and devices speak TLS, with the server or with a proxy in front of it.
func (o *options) https() bool { return o.tls != tlsOff || o.behindProxy }

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
