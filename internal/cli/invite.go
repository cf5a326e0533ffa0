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
			o, role, err := s.asWhat(ctx)
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
