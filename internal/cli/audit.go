package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// audit is `dunlin audit`.
func (a *app) audit() *cobra.Command {
	var since, user, resource string
	var most int
	cmd := jsonFlag(&cobra.Command{
		Use:   "audit",
		Short: "Say who did what, when and from where",
		Long: "Say who did what, when and from where, newest first.\n\n" +
			"An owner of an organization sees what concerns it; everybody sees his own actions. Values of variables and keys\n" +
			"are never in it.",
		Example: "  dunlin audit\n  dunlin audit --since 2d --user bob\n  dunlin audit --resource device -n 0 --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			if most < 0 {
				return fault.New(fault.Invalid, "the number of rows cannot be negative").WithHint("use -n 0 for all")
			}
			var filters []string
			if since != "" {
				from, err := parseSince(s.now, since)
				if err != nil {
					return err
				}
				filters = append(filters, client.Filter("created_at ge ?", from))
			}
			if user != "" {
				filters = append(filters, client.Filter("actor_name eq ?", user))
			}
			if resource != "" {
				filters = append(filters, client.Filter("resource eq ?", resource))
			}
			all, err := s.Audit(ctx, client.And(filters...), most)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("Nothing of that is on the trail.")
				return nil
			}
			t := table{header: []string{"WHEN", "WHO", "FROM", "WHAT", "DETAILS"}}
			for _, e := range all {
				t.add(ago(s.now, e.CreatedAt), doer(e), e.Address, deed(e), details(e.Details))
			}
			return t.print(s.out())
		}),
	})
	cmd.Flags().StringVar(&since, "since", "", "only what was done since: 2h, 7d, 2026-01-31")
	cmd.Flags().StringVar(&user, "user", "", "only what this `NAME` did: a user, a device's uuid, or a fleet's slug")
	cmd.Flags().StringVar(&resource, "resource", "", "only what concerns this `RESOURCE`, such as device or application")
	cmd.Flags().IntVarP(&most, "number", "n", 50, "at most so many; 0 for all")
	return cmd
}

// doer is who did it.
func doer(e client.AuditEvent) string {
	switch {
	case e.Kind == "user":
		return e.Who
	case e.Kind == "device" && len(e.Who) > 7:
		return "device " + abbreviated(e.Who)
	case e.Who == "":
		return e.Kind
	}
	return e.Kind + " " + e.Who
}

// deed is what was done.
func deed(e client.AuditEvent) string {
	if e.RowID == nil {
		return e.Verb + " " + e.Resource
	}
	return fmt.Sprintf("%s %s(%d)", e.Verb, e.Resource, *e.RowID)
}

// details are an object's fields on one line.
func details(raw json.RawMessage) string {
	text := strings.TrimSpace(string(raw))
	if text == "{}" || text == "null" {
		return ""
	}
	return text
}
