package balenatest

import (
	"fmt"
	"strings"
	"testing"
)

// listed is a variable as `balena env list --json` has it.
type listed struct {
	ID      int64
	Name    string
	Value   string
	Device  string `json:"deviceUUID"`
	Service string `json:"serviceName"`
}

func (w *world) variables(t testing.TB, args ...string) map[string]listed {
	t.Helper()
	var all []listed
	w.p.json(t, &all, append([]string{"env", "list", "--json"}, args...)...)
	by := map[string]listed{}
	for _, v := range all {
		by[v.Name] = v
	}
	return by
}

func variables(t *testing.T, w *world) {
	w.fleet(t, "mill")
	w.p.balena(t, "push", "admin/mill", "--source", w.p.write(t, "mill", project("the mill")))
	uuid := w.register(t, "mill", "5a5a0000111122223333444455556666")
	// What a variable is of, for the commands that take its number, and the resource it is a row of.
	levels := []struct{ of, level, resource, service string }{
		{"--fleet admin/mill", "", "application_environment_variable", ""},
		{"--fleet admin/mill --service main", "--service", "service_environment_variable", "main"},
		{"--device " + uuid, "--device", "device_environment_variable", ""},
		{"--device " + uuid + " --service main", "--device --service", "device_service_environment_variable", "main"},
	}
	for i, l := range levels {
		name := fmt.Sprintf("LEVEL_%d", i)
		w.p.balena(t, append([]string{"env", "set", name, "first"}, strings.Fields(l.of)...)...)
		w.p.balena(t, append([]string{"env", "set", name, "a=b 'c'"}, strings.Fields(l.of)...)...)
		want(t, "the value of "+name, w.api.one(t, l.resource+"?$filter=name eq '"+name+"'")["value"], "a=b 'c'")
		got, ok := w.variables(t, strings.Fields(l.of)...)[name]
		if !ok || got.Value != "a=b 'c'" || l.service != "" && got.Service != l.service {
			t.Fatalf("%s is listed as %+v", name, got)
		}
		w.p.balena(t, append([]string{"env", "rename", fmt.Sprint(got.ID), "other"}, strings.Fields(l.level)...)...)
		want(t, "the value of "+name, w.api.one(t, l.resource+"?$filter=name eq '"+name+"'")["value"], "other")
	}
	// A device's list has what comes from its fleet too.
	all := w.variables(t, "--device", uuid)
	want(t, "the variables that concern the device", len(all), len(levels))
	w.p.shown(t, []string{"LEVEL_0", "LEVEL_3", "admin/mill", uuid[:7]}, "env", "list", "--device", uuid[:7])
	for i, l := range levels {
		name := fmt.Sprintf("LEVEL_%d", i)
		w.p.balena(t, append([]string{"env", "rm", fmt.Sprint(all[name].ID), "--yes"}, strings.Fields(l.level)...)...)
		if got := w.api.rows(t, l.resource+"?$filter=name eq '"+name+"'"); len(got) != 0 {
			t.Errorf("the removed variable is there: %v", got)
		}
	}
	w.p.refused(t, "No environment variables found", "env", "list", "--fleet", "admin/mill")

	const interval = "BALENA_SUPERVISOR_POLL_INTERVAL"
	for _, l := range []struct{ of, level, resource string }{
		{"--fleet admin/mill", "--config", "application_config_variable"},
		{"--device " + uuid, "--config --device", "device_config_variable"},
	} {
		of := strings.Fields(l.of)
		w.p.balena(t, append([]string{"env", "set", interval, "900000"}, of...)...)
		got := w.variables(t, append(of, "--config")...)[interval]
		want(t, "the configuration", got.Value, "900000")
		w.p.balena(t, append([]string{"env", "rename", fmt.Sprint(got.ID), "800000"}, strings.Fields(l.level)...)...)
		want(t, "the configuration", w.api.one(t, fmt.Sprintf("%s(%d)", l.resource, got.ID))["value"], "800000")
		w.p.balena(t, append([]string{"env", "rm", fmt.Sprint(got.ID), "--yes"}, strings.Fields(l.level)...)...)
		if got := w.api.rows(t, fmt.Sprintf("%s(%d)", l.resource, got.ID)); len(got) != 0 {
			t.Errorf("the removed configuration is there: %v", got)
		}
	}
	w.p.refused(t, "cannot be set per service", "env", "set", interval, "1", "--fleet", "admin/mill", "--service", "main")
	w.p.refused(t, "cannot be a variable's name", "env", "set", "1 BAD NAME", "x", "--fleet", "admin/mill")
}
