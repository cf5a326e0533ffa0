package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// maxKeyFile bounds a file that should hold a public key, in bytes.
const maxKeyFile = 64 << 10

// key is `dunlin key`.
func (a *app) key() *cobra.Command {
	return group(&cobra.Command{Use: "key", Short: "Manage the SSH keys you push with"}, a.keyAdd(), a.keyList(), a.keyRemove())
}

func (a *app) keyAdd() *cobra.Command {
	var title string
	cmd := jsonFlag(&cobra.Command{
		Use:     "add [FILE]",
		Short:   "Add a public key; without FILE the newest ~/.ssh/*.pub",
		Example: "  dunlin key add\n  dunlin key add ~/.ssh/id_ed25519.pub --title laptop\n  ssh-add -L | dunlin key add -",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			line, comment, err := readPublicKey(s.cmd.InOrStdin(), file)
			if err != nil {
				return err
			}
			if title == "" {
				title = comment
			}
			if title == "" {
				title = "key of " + s.now.Format(time.DateOnly)
			}
			me, err := s.me(ctx)
			if err != nil {
				return err
			}
			k, err := s.AddSSHKey(ctx, me, title, line)
			if client.StatusOf(err) == http.StatusConflict {
				return fault.New(fault.Conflict, "cannot add the key: somebody has added it already").WithHint("`dunlin key list` lists yours")
			}
			if err != nil {
				return fmt.Errorf("cannot add the key: %w", err)
			}
			if s.asJSON {
				return printJSON(s.out(), k)
			}
			kind, print := fingerprint(line)
			return s.say("Added key %s (%s %s).", plain(title, false), kind, print)
		}),
	})
	cmd.Flags().StringVar(&title, "title", "", "what to call it (default: the key's comment)")
	return cmd
}

// readPublicKey reads a public key in the form of authorized_keys from a file, from in if the file is "-", or from
// the newest public key of the user if it is "".
func readPublicKey(in io.Reader, file string) (line, comment string, err error) {
	switch file {
	case "":
		if file, err = newestPublicKey(); err != nil {
			return "", "", err
		}
		fallthrough
	default:
		f, err := os.Open(file)
		if err != nil {
			return "", "", fault.Wrap(fault.Invalid, err, "cannot read the key")
		}
		defer f.Close() // only read
		in = f
	case "-":
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeyFile))
	if err != nil {
		return "", "", fault.Wrap(fault.Invalid, err, "cannot read the key")
	}
	if bytes.Contains(b, []byte("PRIVATE KEY")) {
		return "", "", fault.New(fault.Invalid, "that is a private key, which must never leave this machine").WithHint("give the file that ends in .pub")
	}
	pub, comment, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return "", "", fault.New(fault.Invalid, "that is not an SSH public key").WithHint("it is one line like: ssh-ed25519 AAAA… you@laptop")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), comment, nil
}

func newestPublicKey() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find your keys: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(home, ".ssh", "*.pub"))
	if err != nil {
		return "", fmt.Errorf("find your keys: %w", err)
	}
	newest, at := "", time.Time{}
	for _, f := range files {
		// A certificate (id_ed25519-cert.pub) is no key.
		if info, err := os.Stat(f); err == nil && !strings.HasSuffix(f, "-cert.pub") && info.ModTime().After(at) {
			newest, at = f, info.ModTime()
		}
	}
	if newest == "" {
		return "", fault.New(fault.NotFound, "there is no public key in ~/.ssh").WithHint("make one with: ssh-keygen -t ed25519")
	}
	return newest, nil
}

// fingerprint is the type of a public key and its fingerprint as ssh-keygen -l prints it.
func fingerprint(line string) (kind, print string) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", ""
	}
	return pub.Type(), ssh.FingerprintSHA256(pub)
}

func (a *app) keyList() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List your public keys",
		Example: "  dunlin key list",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			all, err := s.SSHKeys(ctx)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("There is no key yet. `dunlin key add` adds one.")
				return nil
			}
			t := table{header: []string{"ID", "TITLE", "TYPE", "FINGERPRINT", "ADDED"}}
			for _, k := range all {
				kind, print := fingerprint(k.PublicKey)
				t.add(strconv.FormatInt(k.ID, 10), k.Title, kind, print, ago(s.now, k.CreatedAt))
			}
			return t.print(s.out())
		}),
	})
}

func (a *app) keyRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm KEY",
		Aliases:           []string{"remove"},
		Short:             "Remove a public key, by its id, title or fingerprint",
		Example:           "  dunlin key rm laptop\n  dunlin key rm 3",
		Args:              words,
		ValidArgsFunction: a.complete(a.keyTitles),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			all, err := s.SSHKeys(ctx)
			if err != nil {
				return err
			}
			var found []client.SSHKey
			for _, k := range all {
				if _, print := fingerprint(k.PublicKey); strconv.FormatInt(k.ID, 10) == args[0] || k.Title == args[0] || print == args[0] {
					found = append(found, k)
				}
			}
			switch {
			case len(found) == 0:
				return fault.Newf(fault.NotFound, "you have no key %q", args[0]).WithHint("`dunlin key list` lists them")
			case len(found) > 1:
				return ambiguous(args[0], "keys", each(found, func(k client.SSHKey) string { return strconv.FormatInt(k.ID, 10) }))
			}
			if err := s.Delete(ctx, client.Key("user__has__public_key", found[0].ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove the key: %w", err)
			}
			return s.say("Removed key %s.", plain(found[0].Title, false))
		}),
	}
}
