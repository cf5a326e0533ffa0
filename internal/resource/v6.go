package resource

import (
	"slices"
)

// V6 is the model by the names of /v6, which old supervisors, the scripts of old balenaOS and old SDKs call (protocol
// §6.1). The rows, the rules and who hears of changes are those of m.
func (m *Model) V6() *Model {
	old := *m
	old.schema = m.v6
	return &old
}

// tableV6 is the table as /v6 has it. What is not amended here is as in /v7, and what only /v7 has is no harm.
func tableV6() []resource {
	all := table()
	for i := range all {
		switch r := &all[i]; first(r.name) {
		case "device":
			// The pin has the name that in /v7 is of what should run, which /v6 has not.
			r.remove("should_be_running__release")
			r.rename("is_pinned_on__release", "should_be_running__release")
			r.amend("overall_status", overallStatusV6)
			r.add(field{"logs_channel", text, "NULL", "", 0},
				field{"vpn_address", text, "NULL", "", 0},
				field{"is_managed_by__device", ref, "NULL", "device", 0})
		case "release":
			r.add(field{"release_type", text, "(CASE WHEN {t}.revision IS NULL THEN 'draft' ELSE 'final' END)", "", 0})
		case "application":
			r.add(field{"depends_on__application", ref, "NULL", "application", 0})
			mine := *r
			mine.name = "my_application"
			mine.access = []grant{{who: user, may: read, rows: "{t}.id IN " + myFleets}}
			all = append(all, mine)
		}
	}
	// update-balena-supervisor asks for the supervisor to run; without an answer a device keeps what its image came with.
	supervisors := empty("supervisor_release", []field{
		{"supervisor_version", text, "", "", 0}, {"image_name", text, "", "", 0}, {"is_public", boolean, "", "", 0},
		{"note", text, "", "", 0}, {"is_for__device_type", ref, "", "device_type", 0},
	}, nav{"should_manage__device", "device", "should_be_managed_by__release"})
	downloads := empty("gateway_download", []field{
		{"image", ref, "", "image", 0}, {"status", text, "", "", 0}, {"download_progress", number, "", "", 0},
		{"is_downloaded_by__device", ref, "", "device", 0},
	})
	supervisors.access = []grant{{who: known, may: read, rows: everyRow}}
	downloads.access = supervisors.access
	return append(all, supervisors, downloads)
}

// overallStatusV6 has other words for the same states.
const overallStatusV6 = `replace(replace(replace(` + overallStatus + `, 'disconnected', 'offline'), 'operational', 'idle'), 'reduced-functionality', 'idle')`

func (r *resource) add(fields ...field) { r.fields = slices.Concat(r.fields, fields) }

func (r *resource) remove(name string) {
	r.fields = slices.DeleteFunc(slices.Clone(r.fields), func(f field) bool { return called(f.name, name) })
}

// rename shows a field under another name; what it was called is a synonym that rules know it by.
func (r *resource) rename(name, shown string) {
	r.fields = slices.Clone(r.fields)
	for i := range r.fields {
		if f := &r.fields[i]; called(f.name, name) {
			f.name += " " + shown
		}
	}
	r.shown = map[string]string{name: shown}
}

func (r *resource) amend(name, sql string) {
	r.fields = slices.Clone(r.fields)
	for i := range r.fields {
		if f := &r.fields[i]; called(f.name, name) {
			f.sql = sql
		}
	}
}
