// Command dunlin-agent makes a machine a device: it keeps the containers of the machine's fleet as the server wants
// them. This package owns the agent's flags, environment and installation; what an agent does is in internal/agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/agent"
	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/fault"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

const usage = `dunlin-agent makes this machine a device of a fleet.

usage:
  dunlin-agent [run] [flags]     work until stopped; what runs on the device goes on
  dunlin-agent install [flags]   install the agent as a systemd service and start it
  dunlin-agent uninstall         remove the service; containers and data stay (--purge removes the data)
  dunlin-agent status [--json]   what this device is and runs
  dunlin-agent version

flags, each of which may also come from the environment:
`

func main() {
	if len(os.Args) == 2 && os.Args[1] == delivery.Command {
		os.Exit(delivery.Work(os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute is the whole program but for the process: it returns the exit code.
func execute(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	commands := map[string]func(context.Context, options, io.Writer, io.Writer) error{
		"run": run, "install": install, "uninstall": uninstall, "status": status,
		"version": func(_ context.Context, _ options, stdout, _ io.Writer) error {
			_, err := fmt.Fprintln(stdout, "dunlin-agent", version)
			return err
		},
	}
	do, ok := commands[command]
	if !ok {
		fmt.Fprintf(stderr, "dunlin-agent: there is no command %q\n\n%s", command, usage)
		return 2
	}
	o, err := parse(command, args, getenv, stderr)
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "dunlin-agent: %v\n", err)
		return 2
	}
	if err := do(ctx, o, stdout, stderr); err != nil {
		say(stderr, err)
		return 1
	}
	return 0
}

// say tells the person at the terminal, or the one who reads the journal, what went wrong and what to do.
func say(stderr io.Writer, err error) {
	fmt.Fprintf(stderr, "dunlin-agent: %v\n", err)
	if hint := fault.Hint(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
}

func run(ctx context.Context, o options, _, stderr io.Writer) error {
	// An agent lives beside what the device is for: better collect often than grow.
	debug.SetGCPercent(50)
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	if err := o.configure(); err != nil {
		return err
	}
	host := o.engineHost()
	e, err := dockerengine.New(host)
	if err != nil {
		return err
	}
	log.Info("agent starting", "version", version, "data", o.data, "engine", host)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	apply := delivery.Process{Program: self, Args: []string{delivery.Command}}.Apply
	a := &agent.Agent{Apply: apply, Data: o.data, Engine: e, Socket: strings.TrimPrefix(host, "unix://"), Version: version, Log: log}
	if !strings.HasPrefix(host, "unix://") {
		a.Socket = ""
	}
	return a.Run(ctx)
}
