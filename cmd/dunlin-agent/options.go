package main

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/dunlin/dunlin/internal/agent"
	"github.com/dunlin/dunlin/internal/fault"
)

const defaultData = "/var/lib/dunlin-agent"

// errHelp means that what was asked for was help, and has been given.
var errHelp = flag.ErrHelp

// options are the flags. Each has a variable of its name in the environment: --device-type is DUNLIN_DEVICE_TYPE.
type options struct {
	server, fleet, key, deviceType, name string
	data, engine, ca, config, root       string
	level                                slog.Level
	json, purge                          bool
	getenv                               func(string) string
}

func parse(command string, args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	o := options{getenv: getenv}
	f := flag.NewFlagSet("dunlin-agent "+command, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.server, "server", "", "`URL` of the server")
	f.StringVar(&o.fleet, "fleet", "", "`FLEET` of the device, by id or ORG/NAME; without it the provisioning key's own")
	f.StringVar(&o.key, "key", "", "provisioning `KEY`, used once")
	f.StringVar(&o.deviceType, "device-type", "", "`SLUG` of the device type; without it the board's own")
	f.StringVar(&o.name, "name", "", "`NAME` of the device; without it the server finds one")
	f.StringVar(&o.config, "config", "", "a config.json `FILE` made by the server, instead of --server, --fleet and --key")
	f.StringVar(&o.data, "data", defaultData, "`FOLDER` of the device's identity and memory")
	f.StringVar(&o.engine, "engine", "", "container engine, like unix:///var/run/docker.sock; without it the first `HOST` found")
	f.StringVar(&o.ca, "ca", "", "PEM `FILE` with the server's certificate authority, if it is not a public one")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "`LEVEL` of the log: debug, info, warn or error")
	switch command {
	case "install", "uninstall":
		f.StringVar(&o.root, "root", "", "install under this `FOLDER` without starting anything: for images and tests")
		if command == "uninstall" {
			f.BoolVar(&o.purge, "purge", false, "remove the device's identity and memory too")
		}
	case "status":
		f.BoolVar(&o.json, "json", false, "for programs")
	}
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		f.SetOutput(stderr)
		f.PrintDefaults()
		return o, errHelp
	}
	if err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%s takes no %q; see dunlin-agent --help", command, f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	f.VisitAll(func(fl *flag.Flag) {
		variable := "DUNLIN_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v := getenv(variable); v != "" && !given[fl.Name] && err == nil {
			if set := f.Set(fl.Name, v); set != nil {
				err = fmt.Errorf("%s: %w", variable, set)
			}
		}
	})
	return o, err
}

// configure brings what was given into the device's config.json. A device that is registered keeps its identity and
// its fleet; where its server is and whom to trust may change.
func (o options) configure() error {
	c, err := agent.LoadConfig(o.data)
	if err != nil {
		return err
	}
	before, err := json.Marshal(c)
	if err != nil {
		return err
	}
	fresh := !c.Registered()
	if o.config != "" {
		given, err := readConfig(o.config)
		if err != nil {
			return err
		}
		if fresh {
			uuid, key := c.UUID, c.DeviceAPIKey
			c = given
			if c.UUID == "" && uuid != "" {
				c.UUID, c.DeviceAPIKey = uuid, key // a try under way goes on
			}
		} else {
			c.APIEndpoint = cmp.Or(given.APIEndpoint, c.APIEndpoint)
			c.RootCA = cmp.Or(given.RootCA, c.RootCA)
		}
	}
	if o.server != "" {
		u, err := url.Parse(o.server)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fault.Newf(fault.Invalid, "%q is not the URL of a server", o.server).WithHint("give one like https://dunlin.example.org with --server")
		}
		c.APIEndpoint = strings.TrimRight(o.server, "/")
	}
	if o.ca != "" {
		b, err := os.ReadFile(o.ca)
		if err != nil {
			return fmt.Errorf("read certificate authority: %w", err)
		}
		if block, _ := pem.Decode(b); block == nil {
			return fault.Newf(fault.Invalid, "%s holds no PEM certificate", o.ca)
		}
		c.RootCA = base64.StdEncoding.EncodeToString(b)
	}
	if fresh {
		if strings.Trim(o.fleet, "0123456789") == "" {
			c.ApplicationID = json.Number(cmp.Or(o.fleet, c.ApplicationID.String()))
		} else if strings.Count(o.fleet, "/") != 1 {
			return fault.Newf(fault.Invalid, "%q does not name a fleet", o.fleet).WithHint("give its id, or ORG/NAME")
		} else {
			c.ApplicationID, c.ApplicationSlug = "", o.fleet
		}
		c.APIKey = cmp.Or(o.key, c.APIKey)
		c.DeviceType = cmp.Or(o.deviceType, c.DeviceType)
		c.DeviceName = cmp.Or(o.name, c.DeviceName)
	}
	if c.APIEndpoint == "" || fresh && c.APIKey == "" && c.UUID == "" {
		return fault.New(fault.Invalid, "this device does not know its server and has no provisioning key").
			WithHint("give --server URL and --key KEY (dunlin provisioning-key create FLEET makes one), or --config FILE")
	}
	after, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if string(before) == string(after) && o.config == "" {
		return nil
	}
	return c.Save(o.data)
}

func readConfig(file string) (agent.Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return agent.Config{}, fmt.Errorf("read config: %w", err)
	}
	return agent.ParseConfig(b)
}

// engineHost is the engine that was named, or the first whose socket is there.
func (o options) engineHost() string {
	if host := cmp.Or(o.engine, o.getenv("DOCKER_HOST")); host != "" {
		return host
	}
	sockets := []string{"/run/balena-engine.sock", "/var/run/docker.sock", "/run/podman/podman.sock"}
	for _, socket := range sockets {
		if _, err := os.Stat(filepath.Join("/", o.root, socket)); err == nil {
			return "unix://" + socket
		}
	}
	return "unix:///var/run/docker.sock"
}
