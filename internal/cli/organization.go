package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

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
			o, err := s.chosenOrganization(ctx)
			if err != nil {
				return err
			}
			role, err := s.chosenRole(ctx)
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

// invite is `dunlin organization invite`.
func (a *app) invite() *cobra.Command {
	return group(&cobra.Command{
		Use:   "invite",
		Short: "Ask people to join an organization",
		Long:  "Ask people to join an organization.\n\nThe server sends no e-mail: it makes a token that you hand on.",
	}, a.inviteCreate(), a.inviteList(), a.inviteRemove(), a.inviteAccept())
}

func (a *app) inviteCreate() *cobra.Command {
	var message string
	cmd := jsonFlag(a.roleFlag(a.orgFlag(&cobra.Command{
		Use:               "create EMAIL",
		Short:             "Invite somebody, and print the token to hand on",
		Example:           "  dunlin organization invite create ann@example.com --role observer",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, err := s.chosenOrganization(ctx)
			if err != nil {
				return err
			}
			role, err := s.chosenRole(ctx)
			if err != nil {
				return err
			}
			i, err := s.Invite(ctx, o.ID, args[0], role.ID, message)
			if client.StatusOf(err) == http.StatusConflict {
				return fault.Newf(fault.Conflict, "%s is invited to %s already", args[0], o.Handle).
					WithHint("`dunlin organization invite rm` takes the invitation back; then invite again")
			}
			if err != nil {
				return fmt.Errorf("cannot invite %s: %w", args[0], err)
			}
			if s.asJSON {
				return printJSON(s.out(), i)
			}
			var t sheet
			t.line("Invited", args[0])
			t.line("To", o.Handle)
			t.line("As", role.Name)
			t.line("Token", i.Token)
			if err := t.print(s.out()); err != nil {
				return err
			}
			return s.say("\nThe token is shown this once. With an account on %s, the invited run:\n\n  dunlin organization invite accept %s", s.URL, i.Token)
		}),
	})))
	cmd.Flags().StringVarP(&message, "message", "m", "", "`TEXT` to go with it")
	return cmd
}

func (a *app) inviteList() *cobra.Command {
	return jsonFlag(a.orgFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List invitations nobody has accepted yet",
		Example: "  dunlin organization invite list --org home",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			o, err := s.chosenOrganization(ctx)
			if err != nil {
				return err
			}
			all, err := s.Invites(ctx, o.ID)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			t := table{header: []string{"ID", "EMAIL", "ROLE", "INVITED", "MESSAGE"}}
			for _, i := range all {
				t.add(strconv.FormatInt(i.ID, 10), i.Invitee.Value().Email, i.Role.Value().Name, ago(s.now, i.CreatedAt), i.Message)
			}
			return t.print(s.out())
		}),
	}))
}

func (a *app) inviteRemove() *cobra.Command {
	return a.orgFlag(&cobra.Command{
		Use:               "rm EMAIL",
		Aliases:           []string{"remove"},
		Short:             "Take an invitation back",
		Example:           "  dunlin organization invite rm ann@example.com",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			o, err := s.chosenOrganization(ctx)
			if err != nil {
				return err
			}
			all, err := s.Invites(ctx, o.ID)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(all, func(i client.Invite) bool {
				return i.Invitee.Value().Email == strings.ToLower(args[0]) || strconv.FormatInt(i.ID, 10) == args[0]
			})
			if i < 0 {
				return fault.Newf(fault.NotFound, "nobody invited %q to %s", args[0], o.Handle).WithHint("`dunlin organization invite list` lists invitations")
			}
			if err := s.Delete(ctx, client.Key("invitee__is_invited_to__organization", all[i].ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot take the invitation back: %w", err)
			}
			return s.say("Took back the invitation of %s.", plain(all[i].Invitee.Value().Email, false))
		}),
	})
}

func (a *app) inviteAccept() *cobra.Command {
	return &cobra.Command{
		Use:               "accept TOKEN",
		Short:             "Join the organization you were invited to",
		Example:           "  dunlin organization invite accept 3fQ…",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			if err := s.AcceptInvite(ctx, args[0]); err != nil {
				return fmt.Errorf("cannot accept the invitation: %w", err)
			}
			return s.advise("You are a member now.", "`dunlin organization list` lists your organizations.")
		}),
	}
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

// roleFlag gives a command --role.
func (a *app) roleFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("role", "developer", "observer, operator, developer or owner")
	return cmd
}

// chosenRole is the one of --role.
func (s *session) chosenRole(ctx context.Context) (client.Role, error) {
	name, err := s.cmd.Flags().GetString("role")
	if err != nil {
		return client.Role{}, err
	}
	return s.role(ctx, name)
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

func (a *app) organizationNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	who, err := c.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.Organizations(ctx, who.TypeID)
	return each(all, func(o client.Organization) string { return o.Handle }), err
}
