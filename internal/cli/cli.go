// Package cli owns the words people type and what they get to read: commands, flags, tables, JSON, exit codes,
// hints, completion. What it asks the server it asks through package client; it owns no HTTP and no rule of the
// platform.
//
// There is one file per noun that people type, which is why the package is longer than others; cli.go, exit.go,
// config.go, name.go, table.go, when.go and terminal.go are what they share.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// The groups under which help lists the commands.
const (
	groupAccount = "account"
	groupFleet   = "fleet"
	groupProgram = "program"
)

// app is what the commands share.
type app struct {
	version  string
	now      func() time.Time
	patience time.Duration // of a press of the Tab key; after it, nothing is offered
	calls    bool          // print each call to the server
}

// New returns the root command with all commands for people. A program adds its own to it and hands it to
// [Execute]. version is what `dunlin version` says.
func New(version string) *cobra.Command {
	return (&app{version: version, now: time.Now, patience: 2 * time.Second}).root()
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "dunlin",
		Short: "Turn git push into running containers on every device of a fleet",
		Long: "Dunlin turns git push into running containers on every device of a fleet.\n\n" +
			"Begin with `dunlin login`, `dunlin key add` and `dunlin fleet create`.",
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.Version = a.version
	root.SetVersionTemplate("dunlin {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&a.calls, "show-calls", false, "print each call to the server on standard error")
	root.AddGroup(
		&cobra.Group{ID: groupAccount, Title: "Account:"},
		&cobra.Group{ID: groupFleet, Title: "Fleets and devices:"},
		&cobra.Group{ID: groupProgram, Title: "This program:"},
	)
	in := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	in(groupAccount, a.login(), a.logout(), a.whoami(), a.key(), a.apiKey(), a.organizations(), a.audit())
	in(groupFleet, a.fleet(), a.device(), a.deviceType(), a.push(), a.release(), a.delta(), a.env(), a.tag(), a.logs(), a.events(), a.remote(), a.provisioningKey())
	in(groupProgram, a.api(), a.completion(), a.manual(), a.versionCommand())
	root.AddCommand(topics()...)
	root.SetHelpCommandGroupID(groupProgram)
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which version of dunlin this is",
		Example: "  dunlin version",
		Args:    words,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "dunlin %s (%s, %s/%s)\n", a.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// session is one command being run for somebody who is logged in.
type session struct {
	*client.Client
	cmd    *cobra.Command
	now    time.Time
	asJSON bool // print for programs
	ownCA  bool // the server's certificate is of an authority of its own
}

// run makes a RunE of a function that needs the server.
func (a *app) run(f func(ctx context.Context, s *session, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, cfg, err := a.connect(cmd.Context(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		s := &session{Client: c, cmd: cmd, now: a.now(), ownCA: cfg.CA != ""}
		if flag := cmd.Flags().Lookup("json"); flag != nil {
			s.asJSON = flag.Value.String() == "true"
		}
		return s.explain(cmd.Context(), f(cmd.Context(), s, args))
	}
}

// explain tells a token that is no longer good from a thing that may not be done: the protocol answers 401 to both.
func (s *session) explain(ctx context.Context, err error) error {
	if client.StatusOf(err) != http.StatusUnauthorized {
		return err
	}
	_, who := s.Whoami(ctx)
	switch {
	case who == nil:
		var no *client.Error
		if !errors.As(err, &no) || no.Message == http.StatusText(http.StatusUnauthorized) {
			return fault.New(fault.Denied, "you may not do that")
		}
		return fault.New(fault.Denied, err.Error()).WithHint(no.Hint)
	case client.StatusOf(who) == http.StatusUnauthorized:
		return notLoggedIn("the session at " + s.URL + " has ended, or its key was removed")
	}
	return err
}

// say prints a sentence about what was done.
func (s *session) say(format string, args ...any) error {
	_, err := fmt.Fprintf(s.out(), format+"\n", args...)
	return err
}

// advise prints what to do next, below the sentence about what was done.
func (s *session) advise(done, next string) error {
	err := s.say("%s", done)
	s.note("%s", next)
	return err
}

// note prints what is not part of the answer, beside it.
func (s *session) note(format string, args ...any) {
	_, _ = fmt.Fprintf(s.cmd.ErrOrStderr(), format+"\n", args...) // nothing depends on it
}

func (s *session) out() io.Writer { return s.cmd.OutOrStdout() }

// printJSON is the one way in which answers are written for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// jsonFlag gives a command --json.
func jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("json", false, "print JSON for programs, as 'dunlin help json' says")
	return cmd
}

// group makes a command that only has commands below it: alone it shows its help, with an unknown word it says so.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, word string) error {
	e := fault.Newf(fault.Invalid, "unknown command %q", cmd.CommandPath()+" "+word)
	if similar := cmd.SuggestionsFor(word); len(similar) > 0 {
		return e.WithHint("did you mean `" + cmd.CommandPath() + " " + strings.Join(similar, "` or `"+cmd.CommandPath()+" ") + "`?")
	}
	return e.WithHint("`" + cmd.CommandPath() + " --help` lists the commands")
}

func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0)) // an unknown word is the reason that its flags are unknown
	}
	return fault.New(fault.Invalid, err.Error()).WithHint("`" + cmd.CommandPath() + " --help` lists the flags")
}

// words checks the number of arguments against the command's own usage line: NAME must be there, [NAME] may, and
// after NAME... there may be more.
func words(cmd *cobra.Command, args []string) error {
	var names []string
	least, most := 0, 0
	for _, w := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(w, "-") {
			break // flags come last
		}
		most++
		if !strings.HasPrefix(w, "[") {
			least++
			names = append(names, strings.TrimSuffix(w, "..."))
		}
		if strings.Contains(w, "...") {
			most = 1 << 20
		}
	}
	hint := "usage: " + cmd.UseLine()
	switch {
	case len(args) < least:
		return fault.Newf(fault.Invalid, "%s is missing", names[len(args)]).WithHint(hint)
	case len(args) > most:
		return fault.Newf(fault.Invalid, "%q is one word too many", args[most]).WithHint(hint)
	}
	for i, arg := range args {
		if strings.TrimSpace(arg) == "" && i < least && names[i] != "TEXT" {
			return fault.Newf(fault.Invalid, "%s is empty", names[i]).WithHint(hint)
		}
	}
	return nil
}
