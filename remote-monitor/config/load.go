package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time_zone: works in an image that has no files of its own
)

// Sources are all places a configuration comes from. The zero value is a device that was told nothing.
type Sources struct {
	File string // name of YAML, for errors
	YAML []byte // the YAML file; nil: there is none

	AppConfFile string // name of AppConf, for errors
	AppConf     []byte // the original's app.conf; nil: there is none

	Environ []string // in the form of os.Environ
	Host    string   // the device's name when nothing says it
	Data    string   // the folder for what is kept when nothing says it

	// Secret looks up what ${NAME} and a variable stand for: the value, and whether there is one. It is also given
	// references that begin with op://. Nil: Environ alone.
	Secret func(name string) (string, bool, error)
}

// Files that are read when nothing names one, the first that exists.
var defaultFiles = [...]string{"/data/remote-monitor.yaml", "/etc/remote-monitor.yaml"}

// Read collects the sources from the machine: the environment, and the file it names or that is named to it. A file
// whose name ends in .conf is the original's app.conf. An error is of a file that was named and cannot be read.
func Read(file string, environ []string, host string) (Sources, error) {
	env := environment(environ)
	s := Sources{Environ: environ, Host: host}
	if info, err := os.Stat("/data"); err == nil && info.IsDir() {
		s.Data = "/data"
	}
	file = cmp.Or(file, env["REMOTE_MONITOR_CONFIG"])
	named := file
	inline := env["REMOTE_MONITOR_YAML"]
	if inline != "" && named != "" && !isAppConf(named) {
		return Sources{}, Error{fmt.Sprintf("REMOTE_MONITOR_YAML is set, and %s is named too; keep one of them", named)}
	}
	if inline != "" {
		s.File, s.YAML = "REMOTE_MONITOR_YAML", []byte(inline)
	}
	if file == "" && inline == "" {
		for _, f := range defaultFiles {
			if _, err := os.Stat(f); err == nil {
				file = f
				break
			}
		}
	}
	if file != "" {
		text, err := read(file)
		if err != nil {
			return Sources{}, err
		}
		if isAppConf(file) {
			s.AppConfFile, s.AppConf = filepath.Base(file), text
		} else {
			s.File, s.YAML = filepath.Base(file), text
		}
	}
	if conf := env["REMOTE_MONITOR_APP_CONF"]; conf != "" {
		if s.AppConf != nil {
			return Sources{}, Error{fmt.Sprintf("REMOTE_MONITOR_APP_CONF=%s: %s is named too; keep one of them", conf, file)}
		}
		text, err := read(conf)
		if err != nil {
			return Sources{}, err
		}
		s.AppConfFile, s.AppConf = filepath.Base(conf), text
	}
	return s, nil
}

func isAppConf(file string) bool { return strings.HasSuffix(file, ".conf") }

// read reads a file that somebody named. What is there and empty is not nil.
func read(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, Error{fmt.Sprintf("%s: there is no such file; correct its name", file)}
	case err != nil:
		return nil, Error{fmt.Sprintf("cannot read the configuration: %v", err)}
	case text == nil:
		text = []byte{}
	}
	return text, nil
}

// environment makes a map of os.Environ. A variable that is set to nothing counts as not set: that is how a fleet
// takes one away.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.TrimSpace(v) != "" {
			env[k] = strings.TrimSpace(v)
		}
	}
	return env
}

// DataFolder is where things are kept as far as the environment says it, for who needs it before Load; empty: nowhere.
func (s Sources) DataFolder() string {
	env := environment(s.Environ)
	for _, v := range []string{env["REMOTE_MONITOR_DATA"], env["STATE_DIRECTORY"], s.Data} {
		if v != "" {
			return v
		}
	}
	return ""
}

// Defaults and bounds of the loop.
const (
	DefaultInterval  = 50 * time.Millisecond
	DefaultHeartbeat = time.Minute

	leastInterval = 10 * time.Millisecond
	mostInterval  = 10 * time.Second
)

// Load makes one configuration of all sources and checks it. The error is an Error: everything that is wrong, a
// sentence each with its place and what to write instead.
func Load(s Sources) (Config, error) {
	p := &problems{}
	d := &draft{problems: p, env: newVariables(p, s), source: s.File}
	if d.source == "" {
		d.source = "the YAML file"
	}
	if s.AppConfFile == "" {
		s.AppConfFile = "app.conf"
	}
	readable := true
	if s.YAML != nil {
		r := &reader{problems: p, source: d.source, secret: d.env.inFile}
		if m := r.document(s.YAML); m != nil {
			d.file(m)
		} else {
			readable = len(p.found) == 0
		}
	}
	if readable { // else all that refers to the file would be complained about
		d.board()
		d.original(s)
		d.variables()
		d.finish(s)
	}
	d.unknown()
	c := d.Config
	if s := d.env.set["NO_START"]; s != "" {
		c = Config{NoStart: true, Device: d.Device, TimeZone: time.UTC, Interval: DefaultInterval, Heartbeat: DefaultHeartbeat}
		c.Notes = []string{"NO_START is set, so nothing is watched; take the variable away to start"}
		if err := p.err(); err != nil {
			c.Notes = append(c.Notes, "the configuration would be refused: "+strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return c, nil
	}
	if err := p.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (d *draft) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(d.Notes, n) {
		d.Notes = append(d.Notes, n)
	}
}
