package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// apiKey is `dunlin api-key`.
func (a *app) apiKey() *cobra.Command {
	return group(&cobra.Command{
		Use:   "api-key",
		Short: "Make keys with which programs act as you",
		Long: "Make keys with which programs act as you: DUNLIN_TOKEN for this command, the password of git over HTTPS, the token\n" +
			"of `balena login --token`.",
	}, a.apiKeyCreate(), a.apiKeyList(), a.apiKeyRemove())
}

func (a *app) apiKeyCreate() *cobra.Command {
	var description, expires string
	var fromStdin bool
	cmd := jsonFlag(&cobra.Command{
		Use:   "create NAME",
		Short: "Make a key that can do what you can; it asks for your password",
		Long: "Make a key that can do what you can, and print it. It is shown this once.\n\n" +
			"It outlives your session, so the server wants your password again, unless you have just logged in.",
		Example: "  dunlin api-key create laptop\n" +
			"  dunlin api-key create ci --expires 90d --description 'pushes from the build server'",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			var until time.Time
			if expires != "never" {
				d, err := parseSpan(expires)
				if err != nil || d == 0 {
					return fault.Newf(fault.Invalid, "%q is not how long a key can be good", expires).WithHint("write it as 24h or 90d, or never")
				}
				until = s.now.Add(d)
			}
			if fromStdin {
				if err := s.prove(ctx, fromStdin); err != nil {
					return err
				}
			}
			key, err := s.CreateAPIKey(ctx, args[0], description, until)
			if client.StatusOf(err) == http.StatusUnauthorized && !fromStdin {
				if err := s.prove(ctx, false); err != nil {
					return err
				}
				key, err = s.CreateAPIKey(ctx, args[0], description, until)
			}
			if err != nil {
				return fmt.Errorf("cannot make the key: %w", err)
			}
			if s.asJSON {
				return printJSON(s.out(), map[string]string{"key": key, "name": args[0]})
			}
			s.note("This is shown once:")
			return s.say("%s", key)
		}),
	})
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringVar(&expires, "expires", "never", "how long it is good, such as 90d, or never")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

// prove gives the session of this command a younger one, for which the user gives the password. It is not kept.
func (s *session) prove(ctx context.Context, fromStdin bool) error {
	if isKey(s.Token) {
		return fault.New(fault.Denied, "a key cannot make keys").WithHint("log in with user name and password: dunlin login")
	}
	password, err := "", error(nil)
	if fromStdin {
		password, err = readSecret(s.cmd, "password")
	} else {
		in, ok := terminal(s.cmd.InOrStdin())
		if !ok {
			return fault.New(fault.Invalid, "there is no terminal to ask for your password").WithHint("use --password-stdin")
		}
		password, err = prompt(ctx, s.cmd, in, "Password: ", true)
	}
	if err != nil {
		return err
	}
	token, err := s.Prove(ctx, password)
	if client.StatusOf(err) == http.StatusUnauthorized {
		return fault.New(fault.Unauthenticated, "the password is wrong")
	}
	if err != nil {
		return err
	}
	s.Token = token
	return nil
}

// isKey tells an API key from a session, which is a JWT.
func isKey(token string) bool { return strings.Count(token, ".") != 2 }

func (a *app) apiKeyList() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List your keys",
		Example: "  dunlin api-key list",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			all, err := s.myKeys(ctx)
			if err != nil {
				return err
			}
			return s.printAPIKeys(all)
		}),
	})
}

func (s *session) myKeys(ctx context.Context) ([]client.APIKey, error) {
	who, err := s.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	return s.APIKeys(ctx, who.ID)
}

func (s *session) printAPIKeys(all []client.APIKey) error {
	if s.asJSON {
		return printJSON(s.out(), all)
	}
	if len(all) == 0 {
		s.note("There is no key.")
		return nil
	}
	t := table{header: []string{"ID", "NAME", "MADE", "EXPIRES", "DESCRIPTION"}}
	for _, k := range all {
		good := "never"
		if k.Expires != nil {
			good = ago(s.now, *k.Expires)
		}
		t.add(strconv.FormatInt(k.ID, 10), k.Name, ago(s.now, k.CreatedAt), good, k.Description)
	}
	return t.print(s.out())
}

func (a *app) apiKeyRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm KEY",
		Aliases:           []string{"remove", "revoke"},
		Short:             "Revoke a key, by its id or name",
		Example:           "  dunlin api-key rm laptop\n  dunlin api-key rm 12",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			all, err := s.myKeys(ctx)
			if err != nil {
				return err
			}
			return s.revoke(ctx, all, args[0], "dunlin api-key list")
		}),
	}
}

// revoke removes the one of some keys that a word means; list is the command that shows them.
func (s *session) revoke(ctx context.Context, all []client.APIKey, word, list string) error {
	var found []client.APIKey
	for _, k := range all {
		if strconv.FormatInt(k.ID, 10) == word || k.Name == word && word != "" {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 0:
		return fault.Newf(fault.NotFound, "there is no key %q", word).WithHint("`" + list + "` lists them")
	case len(found) > 1:
		return ambiguous(word, "keys", each(found, func(k client.APIKey) string { return strconv.FormatInt(k.ID, 10) }))
	}
	if err := s.Delete(ctx, client.Key("api_key", found[0].ID), client.Query{}); err != nil {
		return fmt.Errorf("cannot revoke the key: %w", err)
	}
	return s.say("Revoked key %s.", plain(word, false))
}
