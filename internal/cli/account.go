package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// login is `dunlin login`.
func (a *app) login() *cobra.Command {
	var o struct {
		user, ca            string
		password, fromStdin bool
	}
	cmd := &cobra.Command{
		Use:   "login [URL]",
		Short: "Log in to a server, and remember it for all other commands",
		Long: "Log in to a server, and remember it for all other commands.\n\n" +
			"Without flags it asks for user name and password. Without URL it is the server of the last log-in.",
		Example: "  dunlin login https://dunlin.example.com\n" +
			"  dunlin login https://dunlin.example.com --user admin --password-stdin < password\n" +
			"  dunlin login https://dunlin.example.com --token-stdin < api-key\n" +
			"  dunlin login https://192.168.1.10:8443 --ca ca.crt",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.password && o.fromStdin || o.password && o.user == "" || o.fromStdin && o.user != "" {
			return fault.New(fault.Invalid, "these flags do not go together").
				WithHint("use --user NAME with --password-stdin, or --token-stdin alone")
		}
		cfg, err := loginServer(args, o.ca)
		if err != nil {
			return err
		}
		if strings.HasPrefix(cfg.URL, "http://") && !loopbackURL(cfg.URL) {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "note: "+cfg.URL+" is not encrypted; whoever listens can read the password and the token")
		}
		c, err := a.client(cfg)
		if err != nil {
			return err
		}
		if o.fromStdin {
			c.Token, err = readSecret(cmd, "token")
		} else {
			c.Token, err = askPassword(cmd, c, o.user, o.password)
		}
		if err != nil {
			return err
		}
		who, err := c.Whoami(cmd.Context())
		if client.StatusOf(err) == http.StatusUnauthorized {
			return fault.New(fault.Unauthenticated, cfg.URL+" does not know this token").WithHint("an API key is shown once, when it is made")
		}
		if err != nil {
			return err
		}
		if who.Type != "user" {
			return fault.Newf(fault.Denied, "this is the key of a %s, not of a user", strings.Replace(who.Type, "application", "fleet", 1))
		}
		cfg.Token, cfg.Username = c.Token, who.Username
		if err := saveConfig(cfg); err != nil {
			return err
		}
		if os.Getenv("DUNLIN_TOKEN") != "" {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "note: DUNLIN_TOKEN is set and is used instead of this log-in")
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Logged in to %s as %s.\n", cfg.URL, who.Username)
		return err
	}
	cmd.Flags().StringVarP(&o.user, "user", "u", "", "user name or e-mail address")
	cmd.Flags().BoolVar(&o.password, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&o.fromStdin, "token-stdin", false, "read an API key or session token from standard input")
	cmd.Flags().StringVar(&o.ca, "ca", "", "`FILE` with the root certificate of the server's own certificate authority")
	return cmd
}

// loginServer is the server to log in to: what was typed, or the one that other commands would use.
func loginServer(args []string, ca string) (config, error) {
	cfg, _, err := effective()
	if err != nil {
		return cfg, err
	}
	if len(args) > 0 {
		typed := args[0]
		if ca != "" && !strings.Contains(typed, "://") {
			typed = "https://" + typed // a certificate authority says so
		}
		u, err := serverURL(typed)
		if err != nil {
			return cfg, err
		}
		if u != cfg.URL {
			cfg = config{URL: u}
		}
	}
	if cfg.URL == "" {
		return cfg, fault.New(fault.Invalid, "URL is missing").WithHint("usage: dunlin login https://dunlin.example.com")
	}
	if ca != "" {
		if strings.HasPrefix(cfg.URL, "http://") {
			return cfg, fault.Newf(fault.Invalid, "--ca is of no use with %s", cfg.URL).WithHint("write the address with https://")
		}
		if cfg.CA, err = readCA(ca); err != nil {
			return cfg, err
		}
	}
	cfg.Token = "" // a log-in is asked for as nobody
	return cfg, nil
}

func loopbackURL(u string) bool {
	s, err := serverURL(strings.TrimPrefix(u, "http://"))
	return err == nil && strings.HasPrefix(s, "http://")
}

// askPassword logs in with a password from the terminal, or from standard input.
func askPassword(cmd *cobra.Command, c *client.Client, user string, fromStdin bool) (token string, err error) {
	var password string
	if fromStdin {
		password, err = readSecret(cmd, "password")
	} else {
		in, ok := terminal(cmd.InOrStdin())
		if !ok {
			return "", fault.New(fault.Invalid, "there is no terminal to ask for a password").
				WithHint("use --user NAME --password-stdin, or --token-stdin")
		}
		if user == "" {
			if user, err = prompt(cmd.Context(), cmd, in, "User name: ", false); err != nil {
				return "", err
			}
		}
		password, err = prompt(cmd.Context(), cmd, in, "Password: ", true)
	}
	if err != nil {
		return "", err
	}
	token, err = c.Login(cmd.Context(), user, password)
	if client.StatusOf(err) == http.StatusUnauthorized {
		return "", fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	return token, err
}

func readSecret(cmd *cobra.Command, what string) (string, error) {
	s, err := readLine(cmd.InOrStdin())
	if err != nil || strings.TrimSpace(s) == "" {
		return "", fault.Newf(fault.Invalid, "there is no %s on standard input", what)
	}
	if what == "token" {
		s = strings.TrimSpace(s)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fault.Newf(fault.Invalid, "the %s on standard input has control characters", what)
	}
	return s, nil
}

// logout is `dunlin logout`.
func (a *app) logout() *cobra.Command {
	return &cobra.Command{
		Use:     "logout",
		Short:   "Forget the session; the server's address is kept",
		Example: "  dunlin logout",
		Args:    words,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			if cfg.Token == "" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "You were not logged in.")
				return err
			}
			if err := saveConfig(config{URL: cfg.URL, CA: cfg.CA}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Logged out of %s.\n", cfg.URL)
			return err
		},
	}
}

// whoami is `dunlin whoami`.
func (a *app) whoami() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "whoami",
		Short:   "Say who you are, and at which server",
		Example: "  dunlin whoami\n  dunlin whoami --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			who, err := s.Whoami(ctx)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), struct {
					client.Actor
					URL string `json:"url"`
				}{who, s.URL})
			}
			name := who.Username
			if name == "" {
				name = who.Type + " " + who.Slug + who.UUID
			}
			return s.say("%s at %s", plain(name, false), s.URL)
		}),
	})
}

// me is the id of the user who is logged in.
func (s *session) me(ctx context.Context) (int64, error) {
	who, err := s.Whoami(ctx)
	if err != nil {
		return 0, err
	}
	if who.Type != "user" {
		return 0, fault.Newf(fault.Denied, "this takes a user; the token is that of a %s", who.Type)
	}
	return who.TypeID, nil
}
