package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// organizations is `dunlin organization`.
func (a *app) organizations() *cobra.Command {
	return group(&cobra.Command{
		Use:     "organization",
		Aliases: []string{"org"},
		Short:   "Make organizations, and say who is in them",
		Long: "Make organizations, and say who is in them.\n\n" +
			"An organization owns fleets. Its members have roles: an observer looks, an operator also operates devices, a\n" +
			"developer also pushes source and changes fleets, an owner also says who is a member.",
	}, a.organizationList(), a.organizationCreate(), a.organizationRename(), a.organizationRemove(), a.member(), a.invite())
}

func (a *app) organizationList() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the organizations you are in",
		Example: "  dunlin organization list",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			me, err := s.me(ctx)
			if err != nil {
				return err
			}
			all, err := s.Organizations(ctx, me)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			t := table{header: []string{"HANDLE", "NAME"}}
			for _, o := range all {
				t.add(o.Handle, o.Name)
			}
			return t.print(s.out())
		}),
	})
}

func (a *app) organizationCreate() *cobra.Command {
	var handle string
	cmd := jsonFlag(&cobra.Command{
		Use:               "create NAME",
		Short:             "Make an organization; you own it",
		Example:           "  dunlin organization create 'Harbour Office'\n  dunlin organization create Home --handle home",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, err := s.CreateOrganization(ctx, args[0], handle)
			if client.StatusOf(err) == http.StatusConflict {
				return fault.New(fault.Conflict, "cannot create the organization: its handle is taken").WithHint("choose another with --handle")
			}
			if err != nil {
				return fmt.Errorf("cannot create organization %s: %w", args[0], err)
			}
			if s.asJSON {
				return printJSON(s.out(), o)
			}
			return s.advise(fmt.Sprintf("Created organization %s.", o.Handle),
				fmt.Sprintf("Next: `dunlin organization member add NAME --org %s` lets others in.", o.Handle))
		}),
	})
	cmd.Flags().StringVar(&handle, "handle", "", "short `NAME` that fleets' names begin with (default: made of NAME)")
	return cmd
}

func (a *app) organizationRename() *cobra.Command {
	return &cobra.Command{
		Use:               "rename ORGANIZATION NAME",
		Short:             "Give an organization another name; its handle stays",
		Example:           "  dunlin organization rename home 'Our house'",
		Args:              words,
		ValidArgsFunction: a.complete(a.organizationNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, err := s.organization(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.Patch(ctx, client.Key("organization", o.ID), client.Query{}, map[string]any{"name": args[1]}); err != nil {
				return fmt.Errorf("cannot rename %s: %w", o.Handle, err)
			}
			return s.say("Renamed %s to %s.", o.Handle, plain(args[1], false))
		}),
	}
}

func (a *app) organizationRemove() *cobra.Command {
	return yesFlag(&cobra.Command{
		Use:               "rm ORGANIZATION",
		Aliases:           []string{"remove"},
		Short:             "Remove an organization with all its fleets",
		Example:           "  dunlin organization rm home",
		Args:              words,
		ValidArgsFunction: a.complete(a.organizationNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, err := s.organization(ctx, args[0])
			if err != nil {
				return err
			}
			fleets, err := s.FleetNames(ctx, client.Filter("organization eq ?", o.ID))
			if err != nil {
				return err
			}
			what := fmt.Sprintf("Organization %s will be gone for good, with %s, their devices, releases, variables and logs.", o.Handle, counted(len(fleets), "fleet"))
			if err := confirm(ctx, s.cmd, o.Handle, what); err != nil {
				return err
			}
			if err := s.Delete(ctx, client.Key("organization", o.ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove %s: %w", o.Handle, err)
			}
			return s.say("Removed %s.", o.Handle)
		}),
	})
}

// orgFlag gives a command --org.
func (a *app) orgFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("org", "", "`HANDLE` of the organization; not needed if you are in one only")
	a.completeFlag(cmd, "org", a.organizationNames)
	return cmd
}

// chosenOrganization is the one of --org.
func (s *session) chosenOrganization(ctx context.Context) (client.Organization, error) {
	handle, err := s.cmd.Flags().GetString("org")
	if err != nil {
		return client.Organization{}, err
	}
	return s.organization(ctx, handle)
}

func (a *app) organizationNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	who, err := c.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.Organizations(ctx, who.TypeID)
	return each(all, func(o client.Organization) string { return o.Handle }), err
}
