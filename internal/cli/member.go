package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// member is `dunlin organization member`.
func (a *app) member() *cobra.Command {
	return group(&cobra.Command{Use: "member", Short: "Say who is in an organization, and as what"},
		a.memberList(), a.memberAdd(), a.memberRole(), a.memberRemove())
}

func (a *app) memberList() *cobra.Command {
	return jsonFlag(a.orgFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the members of an organization",
		Example: "  dunlin organization member list\n  dunlin organization member list --org home --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			all, err := s.membersOf(ctx)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			t := table{header: []string{"USER", "ROLE", "SINCE"}}
			for _, m := range all {
				t.add(m.User.Value().Username, m.Role.Value().Name, ago(s.now, m.CreatedAt))
			}
			return t.print(s.out())
		}),
	}))
}

// membersOf are the members of the organization of --org.
func (s *session) membersOf(ctx context.Context) ([]client.Member, error) {
	o, err := s.chosenOrganization(ctx)
	if err != nil {
		return nil, err
	}
	return s.Members(ctx, o.ID)
}

func (a *app) memberAdd() *cobra.Command {
	return a.roleFlag(a.orgFlag(&cobra.Command{
		Use:               "add USER",
		Short:             "Make a user of this server a member",
		Example:           "  dunlin organization member add bob --role operator\n  dunlin organization member add bob --org home --role owner",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, role, err := s.asWhat(ctx)
			if err != nil {
				return err
			}
			err = s.AddMember(ctx, o.ID, args[0], role.ID)
			if client.StatusOf(err) == http.StatusConflict {
				return fault.Newf(fault.Conflict, "%s is a member of %s already", args[0], o.Handle).WithHint("`dunlin organization member role` changes the role")
			}
			if err != nil {
				return fmt.Errorf("cannot add %s to %s: %w", args[0], o.Handle, err)
			}
			return s.say("Added %s to %s as %s.", plain(args[0], false), o.Handle, role.Name)
		}),
	}))
}

func (a *app) memberRole() *cobra.Command {
	return a.orgFlag(&cobra.Command{
		Use:               "role USER ROLE",
		Short:             "Give a member another role",
		Long:              "Give a member another role: observer, operator, developer or owner; or member, who sees only the fleets that a\nrole in one fleet or a team gives.",
		Example:           "  dunlin organization member role bob developer --org home",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			m, err := s.memberNamed(ctx, args[0])
			if err != nil {
				return err
			}
			role, err := s.role(ctx, args[1])
			if err != nil {
				return err
			}
			if err := s.Patch(ctx, client.Key("organization_membership", m.ID), client.Query{}, map[string]any{"organization_membership_role": role.ID}); err != nil {
				return fmt.Errorf("cannot change the role of %s: %w", args[0], err)
			}
			return s.say("%s is %s now.", m.User.Value().Username, role.Name)
		}),
	})
}

func (a *app) memberRemove() *cobra.Command {
	return a.orgFlag(&cobra.Command{
		Use:               "rm USER",
		Aliases:           []string{"remove"},
		Short:             "End a membership",
		Example:           "  dunlin organization member rm bob --org home",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			m, err := s.memberNamed(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.Delete(ctx, client.Key("organization_membership", m.ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove %s: %w", args[0], err)
			}
			return s.say("Removed %s.", m.User.Value().Username)
		}),
	})
}

// memberNamed finds a member of the organization of --org.
func (s *session) memberNamed(ctx context.Context, username string) (client.Member, error) {
	all, err := s.membersOf(ctx)
	if err != nil {
		return client.Member{}, err
	}
	for _, m := range all {
		if m.User.Value().Username == strings.ToLower(username) {
			return m, nil
		}
	}
	return client.Member{}, fault.Newf(fault.NotFound, "there is no member %q", username).WithHint("`dunlin organization member list` lists them")
}

// roleFlag gives a command --role.
func (a *app) roleFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("role", "developer", "observer, operator, developer or owner")
	return cmd
}

// asWhat is the organization of --org and the role of --role.
func (s *session) asWhat(ctx context.Context) (o client.Organization, r client.Role, err error) {
	if o, err = s.chosenOrganization(ctx); err != nil {
		return o, r, err
	}
	name, err := s.cmd.Flags().GetString("role")
	if err != nil {
		return o, r, err
	}
	r, err = s.role(ctx, name)
	return o, r, err
}

// role finds a role by its name.
func (s *session) role(ctx context.Context, name string) (client.Role, error) {
	all, err := s.Roles(ctx)
	if err != nil {
		return client.Role{}, err
	}
	for _, r := range all {
		if r.Name == strings.ToLower(name) {
			return r, nil
		}
	}
	return client.Role{}, fault.Newf(fault.Invalid, "there is no role %q", name).
		WithHint("use one of " + strings.Join(each(all, func(r client.Role) string { return r.Name }), ", "))
}
