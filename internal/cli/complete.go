package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// names lists what an argument may be; args are those before it.
type names func(ctx context.Context, c *client.Client, args []string) ([]string, error)

// completion is `dunlin completion`.
func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell: bash, zsh or fish",
		Long: "Print the completion script of a shell: bash, zsh or fish.\n\n" +
			"It completes commands and flags, and asks the server for the names of fleets, devices and releases.",
		Example: "  source <(dunlin completion bash)\n" +
			"  dunlin completion zsh > \"${fpath[1]}/_dunlin\"\n" +
			"  dunlin completion fish > ~/.config/fish/completions/dunlin.fish",
		Args:      words,
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root, out := cmd.Root(), cmd.OutOrStdout(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return fault.Newf(fault.Invalid, "there is no completion for %q", args[0]).WithHint("use bash, zsh or fish")
		},
	}
}

// complete completes arguments, the first one with the first function and so on.
func (a *app) complete(of ...names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(of) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.offer(cmd, of[len(args)], args, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag completes the value of a flag.
func (a *app) completeFlag(cmd *cobra.Command, flag string, of names) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.offer(cmd, of, args, typed), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(fmt.Sprintf("cli: completion of --%s: %v", flag, err)) // the flag was made a line before
	}
}

// offer lists the names that begin as typed. Whatever goes wrong, a press of Tab stays silent.
func (a *app) offer(cmd *cobra.Command, of names, args []string, typed string) []string {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	c, _, err := a.connect(ctx, io.Discard)
	if err != nil {
		return nil
	}
	all, err := of(ctx, c, args)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range all {
		if strings.HasPrefix(n, typed) && n == cellText(n) {
			out = append(out, n)
		}
	}
	return out
}

// unique lists short names where they are unambiguous, and full names where not, or where one has begun to type one.
func unique[T any](all []T, name, full func(T) string) []string {
	count := map[string]int{}
	for _, v := range all {
		count[name(v)]++
	}
	var out []string
	for _, v := range all {
		if count[name(v)] == 1 {
			out = append(out, name(v))
		}
	}
	return append(out, each(all, full)...)
}

func (a *app) fleetNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	all, err := c.FleetNames(ctx, "")
	return unique(all, func(f client.Fleet) string { return f.Name }, func(f client.Fleet) string { return f.Slug }), err
}

func (a *app) deviceNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	all, err := c.DeviceNames(ctx, "")
	return unique(all, func(d client.Device) string { return d.Name }, fullName), err
}

// deviceOrFleetNames is for commands that take either.
func (a *app) deviceOrFleetNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	devices, err := a.deviceNames(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	fleets, err := a.fleetNames(ctx, c, nil)
	return append(devices, fleets...), err
}

// releaseNames offers the commits of good releases: of the fleet or the device's fleet before it, if there is one.
func (a *app) releaseNames(ctx context.Context, c *client.Client, args []string) ([]string, error) {
	filter := "status eq 'success'"
	if len(args) > 0 {
		s := &session{Client: c}
		id := int64(0)
		if d, err := s.device(ctx, args[0]); err == nil {
			id = d.Fleet.ID
		} else if f, err := s.fleet(ctx, args[0]); err == nil {
			id = f.ID
		}
		filter = client.And(filter, client.Filter("belongs_to__application eq ?", id))
	}
	all, err := c.Releases(ctx, filter, 50)
	return each(all, func(r client.Release) string { return abbreviated(r.Commit) }), err
}

func (a *app) deviceTypeNames(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	all, err := c.DeviceTypes(ctx, "")
	return each(all, func(t client.DeviceType) string { return t.Slug }), err
}

func (a *app) keyTitles(ctx context.Context, c *client.Client, _ []string) ([]string, error) {
	all, err := c.SSHKeys(ctx)
	return each(all, func(k client.SSHKey) string { return k.Title }), err
}
