package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// provisioningKey is `dunlin provisioning-key`.
func (a *app) provisioningKey() *cobra.Command {
	var name, expires string
	create := jsonFlag(&cobra.Command{
		Use:   "create FLEET",
		Short: "Make a key with which devices join a fleet, and say how",
		Long: "Make a key with which devices join a fleet, and print the command to run on the device.\n\n" +
			"The key can do nothing else. It is shown this once.",
		Example: "  dunlin provisioning-key create porch\n" +
			"  dunlin provisioning-key create porch --expires 1h --name workbench\n" +
			"  dunlin provisioning-key create porch --expires never --json",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			k := client.NewKey{Name: name, Description: "made with dunlin provisioning-key create"}
			if expires != "never" {
				d, err := parseSpan(expires)
				if err != nil || d == 0 {
					return fault.Newf(fault.Invalid, "%q is not how long a key can be good", expires).WithHint("write it as 30m, 24h or 7d, or never")
				}
				k.Expires = s.now.Add(d)
			}
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			k.Fleet = f.ID
			key, err := s.CreateProvisioningKey(ctx, k)
			if err != nil {
				return fmt.Errorf("cannot make a provisioning key for %s: %w", f.Slug, err)
			}
			return s.printProvisioningKey(f, k, key)
		}),
	})
	create.Flags().StringVar(&name, "name", "", "what to call it")
	create.Flags().StringVar(&expires, "expires", "24h", "how long it lets devices in, or never")
	return group(&cobra.Command{Use: "provisioning-key", Short: "Make keys with which devices join a fleet"},
		create, a.provisioningKeyList(), a.provisioningKeyRemove())
}

func (s *session) printProvisioningKey(f client.Fleet, k client.NewKey, key string) error {
	command := fmt.Sprintf("dunlin-agent install --server %s --fleet %d --device-type %s --key %s", s.URL, f.ID, f.Type.Value().Slug, key)
	if s.ownCA {
		command += " --ca ca.crt"
		s.note("The device has to trust the server's own certificate authority: put its root certificate, which is at %s/ca.crt, there as ca.crt.", s.URL)
	}
	if s.asJSON {
		answer := struct {
			Key     string     `json:"key"`
			Slug    string     `json:"slug"`
			Expires *time.Time `json:"expiry_date"`
			Command string     `json:"command"`
		}{Key: key, Slug: f.Slug, Command: command}
		if !k.Expires.IsZero() {
			at := k.Expires.UTC()
			answer.Expires = &at
		}
		return printJSON(s.out(), answer)
	}
	good := "never"
	if !k.Expires.IsZero() {
		good = ago(s.now, k.Expires)
	}
	var t sheet
	t.line("Key", key)
	t.line("Fleet", f.Slug)
	t.line("Expires", good)
	if err := t.print(s.out()); err != nil {
		return err
	}
	return s.say("\nOn the device, as root:\n\n  %s", command)
}

func (a *app) provisioningKeyList() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:               "list FLEET",
		Aliases:           []string{"ls"},
		Short:             "List the keys with which devices can join a fleet",
		Example:           "  dunlin provisioning-key list porch",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			_, all, err := s.provisioningKeys(ctx, args[0])
			if err != nil {
				return err
			}
			return s.printAPIKeys(all)
		}),
	})
}

func (a *app) provisioningKeyRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm FLEET KEY",
		Aliases:           []string{"remove"},
		Short:             "Revoke a key, by its id or name; devices that joined with it stay",
		Example:           "  dunlin provisioning-key rm porch 12\n  dunlin provisioning-key rm porch workbench",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			_, all, err := s.provisioningKeys(ctx, args[0])
			if err != nil {
				return err
			}
			return s.revoke(ctx, all, args[1], "dunlin provisioning-key list")
		}),
	}
}

// provisioningKeys are the keys of a fleet.
func (s *session) provisioningKeys(ctx context.Context, word string) (client.Fleet, []client.APIKey, error) {
	f, err := s.fleet(ctx, word)
	if err != nil {
		return f, nil, err
	}
	actor, err := s.FleetActor(ctx, f.ID)
	if err != nil {
		return f, nil, err
	}
	all, err := s.APIKeys(ctx, actor)
	return f, all, err
}
