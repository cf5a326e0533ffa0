package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dunlin/dunlin/internal/agent"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/fault"
)

// Where the agent is installed.
const (
	binaryPath = "/usr/local/bin/dunlin-agent"
	unitPath   = "/etc/systemd/system/dunlin-agent.service"
)

// install puts the agent, its config and its service in their places and starts it. Done again it brings them up to
// date: with another binary, another server, or nothing changed.
func install(ctx context.Context, o options, stdout, _ io.Writer) error {
	if err := o.mayInstall("install"); err != nil {
		return err
	}
	data, err := filepath.Abs(o.data)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	o.data = filepath.Join(o.root, data)
	if err := o.configure(); err != nil {
		return err
	}
	c, err := agent.LoadConfig(o.data)
	if err != nil {
		return err
	}
	if err := o.copyBinary(); err != nil {
		return err
	}
	if err := o.trust(c, stdout); err != nil {
		return err
	}
	if err := place(filepath.Join(o.root, unitPath), []byte(unit(data, o.engine, o.level.String())), 0o644); err != nil {
		return err
	}
	if o.root != "" {
		// Enabled the way systemctl would, for a system that does not run.
		link := filepath.Join(o.root, "/etc/systemd/system/multi-user.target.wants/dunlin-agent.service")
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return fmt.Errorf("enable service: %w", err)
		}
		if err := os.Symlink(unitPath, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("enable service: %w", err)
		}
		return nil
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "dunlin-agent"}, {"restart", "dunlin-agent"}} {
		if err := systemctl(ctx, args...); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "dunlin-agent runs and starts with the machine.\nSee what it does with: journalctl -fu dunlin-agent\n")
	return nil
}

// mayInstall says early what would fail half way.
func (o options) mayInstall(what string) error {
	if o.root != "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return fault.New(fault.Denied, "cannot "+what+" the agent: it takes root").WithHint("run it with sudo")
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return fault.Wrap(fault.Unavailable, err, "cannot "+what+" the agent: this machine has no systemd").
			WithHint("have your init system run `dunlin-agent --data " + o.data + "`")
	}
	return nil
}

func (o options) copyBinary() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	to := filepath.Join(o.root, binaryPath)
	if same(self, to) {
		return nil
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return fmt.Errorf("copy binary: %w", err)
	}
	return place(to, b, 0o755)
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// trust lets the engine trust the registry, which is at the server's address and behind the same certificate.
func (o options) trust(c agent.Config, stdout io.Writer) error {
	u, err := url.Parse(c.APIEndpoint)
	if err != nil {
		return fmt.Errorf("server's URL: %w", err)
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" && !strings.HasPrefix(u.Hostname(), "127.") {
		fmt.Fprintf(stdout, "The server is without TLS: name %q among the engine's insecure-registries (/etc/docker/daemon.json), or it pulls no image.\n", u.Host)
	}
	if c.RootCA == "" || u.Scheme != "https" {
		return nil
	}
	pem, err := base64.StdEncoding.DecodeString(c.RootCA)
	if err != nil {
		return fmt.Errorf("decode certificate authority: %w", err)
	}
	return place(filepath.Join(o.root, "/etc/docker/certs.d", u.Host, "ca.crt"), pem, 0o644)
}

// unit is the systemd service. Its name for the engine is Docker's; with another engine the order does not matter, for
// the agent waits for it.
func unit(data, engine, level string) string {
	command := []string{binaryPath, "run", "--data", data}
	if engine != "" {
		command = append(command, "--engine", engine)
	}
	if level != "INFO" {
		command = append(command, "--log-level", level)
	}
	for i, word := range command {
		if strings.ContainsAny(word, " \t\"'\\$%") {
			word = strconv.Quote(word)
			word = strings.NewReplacer("$", "$$", "%", "%%").Replace(word)
			command[i] = word
		}
	}
	return `[Unit]
Description=Dunlin device agent
Wants=network-online.target
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
ExecStart=` + strings.Join(command, " ") + `
Restart=always
RestartSec=5
# The containers are the engine's; only the agent itself stops with the service.
KillMode=process
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
`
}

// uninstall takes the service away. What runs goes on, and so may a later agent.
func uninstall(ctx context.Context, o options, stdout, _ io.Writer) error {
	if err := o.mayInstall("uninstall"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.root, unitPath)); err == nil && o.root == "" {
		if err := systemctl(ctx, "disable", "--now", "dunlin-agent"); err != nil {
			return err
		}
	}
	for _, path := range []string{unitPath, "/etc/systemd/system/multi-user.target.wants/dunlin-agent.service", binaryPath} {
		if err := os.Remove(filepath.Join(o.root, path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("uninstall: %w", err)
		}
	}
	if o.root == "" {
		if err := systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	data := filepath.Join(o.root, o.data)
	if o.purge {
		if err := os.RemoveAll(data); err != nil {
			return fmt.Errorf("remove data: %w", err)
		}
		fmt.Fprintln(stdout, "dunlin-agent and its data are gone. Its containers run on: docker ps -f label=io.balena.supervised")
		return nil
	}
	fmt.Fprintf(stdout, "dunlin-agent is gone. Its containers run on; its identity is in %s.\n", data)
	return nil
}

func systemctl(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// place writes a file by rename, so that a running binary can be replaced and nobody reads a half.
func place(path string, content []byte, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".dunlin-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// service is a line of status about one container.
type service struct {
	Name, Status, Image string
	Since               time.Time
}

func status(ctx context.Context, o options, stdout, stderr io.Writer) error {
	s, err := agent.ReadStatus(o.data)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fault.Wrap(fault.Denied, err, "cannot read the device's data").WithHint("run it with sudo")
		}
		return err
	}
	if s.UUID == "" {
		return fault.New(fault.NotFound, "this machine is not a device yet").WithHint("make it one with dunlin-agent install --server URL --key KEY")
	}
	services, err := o.services(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "dunlin-agent: services are not known: %v\n", err)
	}
	if o.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(struct {
			agent.Status
			Services []service
		}{s, services})
	}
	w := tabwriter.NewWriter(stdout, 0, 4, 2, ' ', 0)
	row := func(k, v string) { fmt.Fprintf(w, "%s\t%s\n", k, v) }
	row("NAME", s.Name)
	row("UUID", s.UUID)
	row("SERVER", s.Server)
	switch {
	case !s.Registered:
		row("STATE", "waits to be registered")
	case s.Contact.IsZero():
		row("STATE", "registered; the server has not answered yet")
	default:
		row("CONTACT", time.Since(s.Contact).Round(time.Minute).String()+" ago")
	}
	for _, f := range s.Fleets {
		row("FLEET", f.Name)
		row("RELEASE", release(f))
	}
	for _, c := range services {
		row("SERVICE", fmt.Sprintf("%s, %s since %s", c.Name, c.Status, c.Since.Local().Format(time.DateTime)))
	}
	return w.Flush()
}

func release(f agent.FleetStatus) string {
	switch {
	case f.Wanted == "":
		return "none"
	case f.Runs == f.Wanted:
		return f.Runs
	case f.Runs == "":
		return "on its way to " + f.Wanted
	default:
		return f.Runs + ", on its way to " + f.Wanted
	}
}

func (o options) services(ctx context.Context) ([]service, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	e, err := dockerengine.New(o.engineHost())
	if err != nil {
		return nil, err
	}
	state, err := e.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	var list []service
	for _, c := range state.Containers {
		list = append(list, service{c.Labels[engine.LabelServiceName], string(c.Status), c.Image, c.StartedAt})
	}
	return list, nil
}
