package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// env is `dunlin env`.
func (a *app) env() *cobra.Command {
	return group(&cobra.Command{
		Use:   "env",
		Short: "Set the variables of fleets, devices and services",
		Long: "Set the variables of fleets, devices and services.\n\n" +
			"A variable of a device goes before one of its fleet, one of a service before one of all services.\n" +
			"Names that begin with BALENA_ or RESIN_ are config variables: the device itself obeys them, containers never\nsee them.",
	}, a.envSet(), a.envList(), a.envRemove())
}

func (a *app) envSet() *cobra.Command {
	return a.scopeFlags(&cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Set variables; the services they concern are restarted",
		Example: "  dunlin env set THRESHOLD=20 --fleet porch\n" +
			"  dunlin env set ZONE=left DEBUG= --device brave-heron --service main\n" +
			"  dunlin env set BALENA_SUPERVISOR_POLL_INTERVAL=60000 --fleet porch",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			pairs := make([][2]string, len(args))
			for i, arg := range args {
				name, value, found := strings.Cut(arg, "=")
				if !found {
					return fault.Newf(fault.Invalid, "%q has no value", arg).WithHint("write it as NAME=VALUE; NAME= sets it to nothing")
				}
				if err := checkVariableName(name); err != nil {
					return err
				}
				pairs[i] = [2]string{name, value}
			}
			at, err := s.place(ctx)
			if err != nil {
				return err
			}
			names, err := s.VariableNames(ctx)
			if err != nil {
				return err
			}
			for _, p := range pairs {
				scope, err := at.of(names, p[0])
				if err != nil {
					return err
				}
				if err := s.SetVariable(ctx, scope, p[0], p[1]); err != nil {
					return fmt.Errorf("cannot set %s of %s: %w", p[0], at.name, err)
				}
				kind := ""
				if scope.Config {
					kind = "config variable "
				}
				if err := s.say("Set %s%s of %s.", kind, p[0], at.name); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

func checkVariableName(name string) error {
	if !variableName.MatchString(name) {
		return fault.Newf(fault.Invalid, "%q cannot be the name of a variable", name).WithHint("use letters, digits and underscores, and no digit first")
	}
	return nil
}

func (a *app) envRemove() *cobra.Command {
	return a.scopeFlags(&cobra.Command{
		Use:               "rm NAME...",
		Aliases:           []string{"remove"},
		Short:             "Remove variables; the services they concern are restarted",
		Example:           "  dunlin env rm THRESHOLD --fleet porch\n  dunlin env rm ZONE --device brave-heron --service main",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			for _, name := range args {
				if err := checkVariableName(name); err != nil {
					return err
				}
			}
			at, err := s.place(ctx)
			if err != nil {
				return err
			}
			names, err := s.VariableNames(ctx)
			if err != nil {
				return err
			}
			for _, name := range args {
				scope, err := at.of(names, name)
				if err != nil {
					return err
				}
				if err := s.RemoveVariable(ctx, scope, name); err != nil {
					return fmt.Errorf("cannot remove %s of %s: %w", name, at.name, err)
				}
				if err := s.say("Removed %s of %s.", name, at.name); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

func (a *app) envList() *cobra.Command {
	return jsonFlag(a.scopeFlags(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List variables; those of a device with those it has from its fleet",
		Example: "  dunlin env list --fleet porch\n  dunlin env list --device brave-heron --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			at, err := s.place(ctx)
			if err != nil {
				return err
			}
			all, err := s.FleetVariables(ctx, at.fleet)
			if err == nil && at.scope.Device != 0 {
				var own []client.Variable
				own, err = s.DeviceVariables(ctx, at.scope.Device)
				all = append(all, own...)
			}
			if err != nil {
				return err
			}
			if at.service != "" {
				all = slices.DeleteFunc(all, func(v client.Variable) bool { return v.Config || v.Service != "" && v.Service != at.service })
			}
			slices.SortStableFunc(all, func(a, b client.Variable) int {
				if a.Name != b.Name {
					return strings.Compare(a.Name, b.Name)
				}
				return strings.Compare(a.Service, b.Service)
			})
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("No variable is set for %s.", at.name)
				return nil
			}
			t := table{header: []string{"NAME", "VALUE", "SCOPE", "SERVICE"}}
			for _, v := range all {
				what := v.Service
				switch {
				case v.Config:
					what = "(config)"
				case what == "":
					what = "(all)"
				}
				value := v.Value
				if value == "" {
					value = "(empty)"
				}
				t.add(v.Name, value, v.Scope, what)
			}
			return t.print(s.out())
		}),
	}))
}

// scopeFlags gives a command the flags that say whose variables are meant.
func (a *app) scopeFlags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringP("fleet", "f", "", "variables of this `FLEET`")
	cmd.Flags().StringP("device", "d", "", "variables of this `DEVICE`")
	cmd.Flags().StringP("service", "s", "", "variables of this `SERVICE` only")
	a.completeFlag(cmd, "fleet", a.fleetNames)
	a.completeFlag(cmd, "device", a.deviceNames)
	return cmd
}

// place is whose variables are meant.
type place struct {
	scope   client.VariableScope
	fleet   int64  // the fleet, or the device's fleet
	name    string // for people
	service string // "" for all
}

// place reads the flags of scopeFlags.
func (s *session) place(ctx context.Context) (p place, err error) {
	flag := func(name string) string { return s.cmd.Flags().Lookup(name).Value.String() }
	inFleet, onDevice, service := flag("fleet"), flag("device"), flag("service")
	if (inFleet == "") == (onDevice == "") {
		return p, fault.New(fault.Invalid, "say whose variables: of one fleet, or of one device").WithHint("use --fleet FLEET or --device DEVICE")
	}
	var f client.Fleet
	if inFleet != "" {
		if f, err = s.fleet(ctx, inFleet); err != nil {
			return p, err
		}
		p.scope.Fleet, p.name = f.ID, f.Slug
	} else {
		d, err := s.device(ctx, onDevice)
		if err != nil {
			return p, err
		}
		f = client.Fleet{Row: client.Row{ID: d.Fleet.ID}, Slug: d.Fleet.Value().Slug}
		p.scope.Device, p.name = d.ID, plain(fullName(d), false)
	}
	p.fleet = f.ID
	if service != "" {
		svc, err := s.service(ctx, f, service)
		if err != nil {
			return p, err
		}
		p.scope.Service, p.service = svc.ID, svc.Name
		p.name += ", service " + svc.Name
	}
	return p, nil
}

// of is where a variable of that name is kept.
func (p place) of(names client.VariableNames, name string) (client.VariableScope, error) {
	scope := p.scope
	if scope.Config = names.Config(name); scope.Config && p.service != "" {
		return scope, fault.Newf(fault.Invalid, "%s is a config variable: the device obeys it, services never see it", name).WithHint("leave out --service")
	}
	return scope, nil
}
