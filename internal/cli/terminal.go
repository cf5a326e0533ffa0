package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/internal/fault"
)

// terminal is the terminal that a command reads from, if it does.
func terminal(r io.Reader) (*os.File, bool) {
	f, ok := r.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// colours reports whether w may be sent colours: a terminal, and nobody has said no (no-color.org).
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// prompt asks on a terminal for a line; a secret is not shown as it is typed.
func prompt(ctx context.Context, cmd *cobra.Command, in *os.File, question string, secret bool) (string, error) {
	if _, err := fmt.Fprint(cmd.ErrOrStderr(), question); err != nil {
		return "", err
	}
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask for an answer: %w", err)
	}
	type answer struct {
		text string
		err  error
	}
	// A read from a terminal cannot be called off. After Ctrl-C it is left behind, and ends with the program.
	answers := make(chan answer, 1)
	go func() {
		if secret {
			b, err := term.ReadPassword(int(in.Fd()))
			answers <- answer{string(b), err}
			return
		}
		s, err := readLine(in)
		answers <- answer{s, err}
	}()
	select {
	case a := <-answers:
		if secret {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr())
		}
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(a.err, io.EOF) || a.err == nil && a.text == "":
			return "", fault.New(fault.Invalid, "nothing was typed")
		case a.err != nil:
			return "", fmt.Errorf("read the answer: %w", a.err)
		}
		return a.text, nil
	case <-ctx.Done():
		_ = term.Restore(int(in.Fd()), state)
		_, _ = fmt.Fprintln(cmd.ErrOrStderr())
		return "", ctx.Err()
	}
}

// readLine reads one line without its end. That the input ends without a line break is no error, that there is
// nothing at all is.
func readLine(r io.Reader) (string, error) {
	s, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	if err == io.EOF && s != "" {
		err = nil
	}
	return strings.TrimRight(s, "\r\n"), err
}

// confirm makes sure that somebody means it: they have said --yes, or type the name of the thing. what says what
// will be gone.
func confirm(ctx context.Context, cmd *cobra.Command, name, what string) error {
	if yes, err := cmd.Flags().GetBool("yes"); err != nil || yes {
		return err
	}
	in, ok := terminal(cmd.InOrStdin())
	if !ok {
		return fault.New(fault.Invalid, "there is no terminal to ask whether you mean it").WithHint("add --yes to go on without asking")
	}
	typed, err := prompt(ctx, cmd, in, plain(what, false)+"\nType "+plain(name, false)+" to go on: ", false)
	if err != nil {
		return err
	}
	if strings.TrimSpace(typed) != name {
		return fault.New(fault.Conflict, "that is not its name; nothing was changed")
	}
	return nil
}

// yesFlag gives a command --yes, for confirm.
func yesFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolP("yes", "y", false, "do it without asking")
	return cmd
}
