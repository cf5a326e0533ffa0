package cli

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// defaultSSHPort is where a server listens for git if it does not say otherwise.
const defaultSSHPort = 2222

// remote is `dunlin remote`.
func (a *app) remote() *cobra.Command {
	var port int
	var name string
	cmd := jsonFlag(&cobra.Command{
		Use:               "remote FLEET",
		Short:             "Say how to push to a fleet with git",
		Example:           "  dunlin remote porch\n  $(dunlin remote porch) && git push dunlin main",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			if port < 0 || port > 65535 {
				return fault.Newf(fault.Invalid, "%d is not a port", port)
			}
			if strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \t'\"$`\\;&|<>()*?[]") || name == "" {
				return fault.Newf(fault.Invalid, "%q cannot be the name of a remote", name)
			}
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			info, err := s.Info(ctx)
			if err != nil {
				return err
			}
			u, err := gitURL(s.URL, info, port, f.Slug)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), struct {
					Name string `json:"name"`
					URL  string `json:"url"`
				}{name, u})
			}
			return s.say("git remote add %s %s", name, u)
		}),
	})
	cmd.Flags().IntVar(&port, "ssh-port", 0, "`PORT` of the server for git, if it is reached by another than the server knows")
	cmd.Flags().StringVar(&name, "name", "dunlin", "what to call the remote")
	return cmd
}

// gitURL is where a fleet's repository is: at the address the server gives, else at the server's host.
func gitURL(server string, info client.Info, port int, slug string) (string, error) {
	u := &url.URL{Scheme: "ssh", User: url.User("git")}
	if info.GitServerURL != "" {
		said, err := url.Parse(info.GitServerURL)
		if err != nil || said.Scheme != "ssh" || said.Host == "" {
			return "", fault.Newf(fault.Internal, "the server says that git is at %q, which is no ssh address", info.GitServerURL).
				WithHint("set the server's public address for git")
		}
		u.Host = said.Host
		if said.User.Username() != "" {
			u.User = url.User(said.User.Username())
		}
	} else {
		of, err := url.Parse(server)
		if err != nil {
			return "", err
		}
		u.Host = net.JoinHostPort(of.Hostname(), strconv.Itoa(defaultSSHPort))
	}
	if port != 0 {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	}
	u.Path = "/" + slug + ".git"
	return u.String(), nil
}
