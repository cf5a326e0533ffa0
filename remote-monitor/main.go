// Command remote-monitor watches motion detectors, tells what happens and drives relays. It runs as a container or on
// its own. It is the wiring of its rooms and owns nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/secret"
)

// hello is said at the start. Change it, push, and see the new one in the log.
const hello = "Hello from Remote Monitor"

// version may be set by the linker (-X main.version=…).
var version = "0.2.0"

// The exit codes: after a stop it was asked for, when it cannot go on, and when it was told something that makes no
// sense, which no restart mends.
const (
	fine   = 0
	failed = 1
	misled = 2
)

// command is one word after remote-monitor.
type command struct {
	name, args, what string
	run              func(*call) error
}

// call is one run of a command.
type call struct {
	context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          *flag.FlagSet
	args           []string // after the flags
	environ        []string
}

func commands() []command {
	return []command{
		{"run", "[--config FILE] [--record FILE]", "watch until stopped (what it does without a command)", runMonitor},
		{"check", "[--config FILE]", "print what the configuration means, or what is wrong with it", runCheck},
		{"detect", "", "list buses, chips and conflicts", runDetect},
		{"calibrate", "[--config FILE] [--for 30s] ZONE", "measure the levels of a loop, state by state", runCalibrate},
		{"record", "[--config FILE] [--for 24h] FILE", "write what the inputs read as CSV; outputs stay off", runRecord},
		{"replay", "[--config FILE] RECORDING", "run a configuration over a recording and print the events", runReplay},
		{"evaluate", "--recording FILE --labels FILE [--config FILE]…", "compare configurations on a labelled recording", runEvaluate},
		{"simulate", "[--home NAME] --recording FILE --labels FILE", "make a labelled recording from a model of a home", runSimulate},
		{"health", "", "ask the one that runs here whether all is well", runHealth},
		{"example", "", "print a configuration with every key and what it means", runExample},
		{"version", "", "print the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := dispatch(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// dispatch is the program with its exit code.
func dispatch(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name := "run"
	switch {
	case len(args) == 1 && (args[0] == "help" || isHelp(args[0])):
		help(stdout)
		return fine
	case len(args) == 1 && args[0] == "--version":
		name, args = "version", nil
	case len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		name, args = args[0], args[1:]
	}
	var names []string
	for _, c := range commands() {
		if c.name != name {
			names = append(names, c.name)
			continue
		}
		k := &call{Context: ctx, stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, args: args}
		k.flags = flag.NewFlagSet(name, flag.ContinueOnError)
		k.flags.SetOutput(io.Discard)
		k.flags.Usage = func() {} // an error says where help is
		err := c.run(k)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stdout, "Usage: remote-monitor %s %s\n\n%s.\n", c.name, c.args, strings.ToUpper(c.what[:1])+c.what[1:])
			k.flags.SetOutput(stdout)
			k.flags.PrintDefaults()
			return fine
		}
		return k.end(err)
	}
	fmt.Fprintf(stderr, "remote-monitor: there is no command %q\nhint: there are %s\n", name, strings.Join(names, ", "))
	return misled
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// parse reads the flags and how many arguments are wanted.
func (k *call) parse(least, most int) error {
	if err := k.flags.Parse(k.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError(err.Error())
	}
	if k.args = k.flags.Args(); len(k.args) < least {
		return usageError("an argument is missing")
	} else if len(k.args) > most {
		return usageError(fmt.Sprintf("%q is one argument too many", k.args[most]))
	}
	return nil
}

// usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// end says what went wrong, once, and gives the exit code.
func (k *call) end(err error) int {
	var usage usageError
	var wrong config.Error
	switch {
	case err == nil:
		return fine
	case errors.As(err, &usage):
		fmt.Fprintf(k.stderr, "remote-monitor: %v\nhint: see remote-monitor %s --help\n", err, k.flags.Name())
		return misled
	case errors.As(err, &wrong):
		fmt.Fprintf(k.stderr, "remote-monitor: the configuration makes no sense:\n%v\nhint: remote-monitor example shows every key, remote-monitor help every variable\n", wrong)
		return misled
	}
	fmt.Fprintf(k.stderr, "remote-monitor: %v\n", err)
	return failed
}

func help(w io.Writer) {
	fmt.Fprint(w, "Remote Monitor watches motion detectors, tells what happens, one line of JSON per event, and drives relays.\n\nUsage:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(t, "  remote-monitor %s\t%s\n", c.name, c.what)
	}
	t.Flush()
	fmt.Fprint(w, "\nremote-monitor COMMAND --help says more of one.\n\nIt is configured by /data/remote-monitor.yaml or /etc/remote-monitor.yaml, by environment variables, or by the original's app.conf:\n")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range config.Variables() {
		if v.Default != "" {
			v.Default = "(" + v.Default + ")"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", v.Name, v.Meaning, v.Default)
	}
	t.Flush()
}

// configuration reads and checks what it is told. file may be empty.
func (k *call) configuration(file string) (config.Config, error) {
	host, _ := os.Hostname()
	sources, err := config.Read(file, k.environ, host)
	if err != nil {
		return config.Config{}, err
	}
	secrets := &secret.Resolver{Environ: k.environ, Folder: secret.Folder, Log: textLog(k.stderr)}
	if folder := sources.DataFolder(); folder != "" {
		secrets.Cache = folder + "/secrets.json"
	}
	sources.Secret = func(name string) (string, bool, error) { return secrets.Lookup(k, name) }
	return config.Load(sources)
}

func runVersion(k *call) error {
	if err := k.parse(0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(k.stdout, "remote-monitor %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

func runExample(k *call) error {
	if err := k.parse(0, 0); err != nil {
		return err
	}
	_, err := io.WriteString(k.stdout, config.Example)
	return err
}

func runCheck(k *call) error {
	file := k.flags.String("config", "", "the configuration `FILE`")
	if err := k.parse(0, 0); err != nil {
		return err
	}
	c, err := k.configuration(*file)
	if err != nil {
		return err
	}
	_, err = io.WriteString(k.stdout, c.Describe())
	return err
}
