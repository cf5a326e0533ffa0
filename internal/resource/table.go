package resource

import (
	"slices"
	"strings"
)

// table is the model: what there is, what each is made of, and who may do what with which rows. What is not here does
// not exist for a caller, and what is not granted is denied. Secrets (hashes of passwords and keys, session secrets, a
// device's supervisor secret) are not here.
//
// What users may do with the fleets of their organizations goes by their rank: an observer reads, an operator changes
// devices, a developer all of a fleet, an owner says who is in the organization. A device reads its own fleet and
// itself, and writes its own variables, tags, name and note. A provisioning key finds devices of its fleet by uuid.
func table() []resource {
	return slices.Concat(people(), teams(), invites(), keys(), trail(), catalog(), fleets(), releases(), devices(), absent())
}

// catalog is what there is in the world. It is for all to read.
func catalog() []resource {
	return []resource{
		{
			name: "cpu_architecture", table: "cpu_architectures",
			fields: []field{{"slug", text, "", "", 0}},
			navs:   []nav{{"device_type is_supported_by__device_type", "device_type", "is_of__cpu_architecture"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "device_manufacturer", table: "device_manufacturers",
			fields: []field{
				{"slug", text, "", "", 0},
				{"name", text, "", "", 0},
			},
			navs:   []nav{{"manufactures__device_family device_family", "device_family", "is_manufactured_by__device_manufacturer"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "device_family", table: "device_families",
			fields: []field{
				{"slug", text, "", "", 0},
				{"name", text, "", "", 0},
				{"is_manufactured_by__device_manufacturer", ref, "manufacturer", "device_manufacturer", 0},
			},
			navs:   []nav{{"device_type", "device_type", "belongs_to__device_family"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "device_type", table: "device_types",
			fields: []field{
				{"slug", text, "", "", 0},
				{"name", text, "", "", 0},
				{"is_of__cpu_architecture supports__cpu_architecture", ref, "cpu_architecture", "cpu_architecture", 0},
				{"belongs_to__device_family", ref, "family", "device_family", 0},
				{"logo", text, "", "", 0},
				{"contract", document, "", "", 0},
				{"is_private", boolean, "FALSE", "", 0},
			},
			navs: []nav{
				{"is_default_for__application", "application", "is_for__device_type"},
				{"describes__device device", "device", "is_of__device_type"},
				{"device_type_alias device_type__is_referenced_by__alias is_referenced_by__alias", "device_type_alias", "device_type"},
			},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "device_type_alias device_type__is_referenced_by__alias", table: "device_type_aliases",
			fields: []field{
				{"device_type", ref, "", "device_type", 0},
				{"is_referenced_by__alias", text, "alias", "", 0},
			},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "application_type", table: "application_types",
			fields: []field{
				{"name", text, "", "", 0},
				{"slug", text, "", "", 0},
				{"description", text, "CAST(NULL AS TEXT)", "", 0},
				{"supports_multicontainer", boolean, "", "", 0},
				{"supports_web_url", boolean, "FALSE", "", 0},
				{"supports_gateway_mode", boolean, "FALSE", "", 0},
				{"requires_payment", boolean, "FALSE", "", 0},
				{"is_legacy", boolean, "FALSE", "", 0},
				{"needs__os_version_range", text, "CAST(NULL AS TEXT)", "", 0},
				{"maximum_device_count", number, "NULL", "", 0},
			},
			navs:   []nav{{"is_of__application", "application", "application_type"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
	}
}

// absent is what balena's model has and nothing is behind here: always empty, but not unknown.
func absent() []resource {
	return []resource{
		empty("config", []field{{"key", text, "", "", 0}, {"value", text, "", "", 0}, {"scope", text, "", "", 0}, {"description", text, "", "", 0}}),
		empty("scheduled_job_run", []field{{"name", text, "", "", 0}, {"start_timestamp", moment, "", "", 0}, {"end_timestamp", moment, "", "", 0}, {"status", text, "", "", 0}}),
		empty("service_instance", []field{{"service_type", text, "", "", 0}, {"ip_address", text, "", "", 0}, {"last_heartbeat", moment, "", "", 0}},
			nav{"manages__device", "device", "is_managed_by__service_instance"}),
	}
}

// empty is a resource without rows.
func empty(name string, fields []field, navs ...nav) resource {
	fields = append([]field{{"id", number, "", "", 0}, {"created_at", moment, "", "", 0}, {"modified_at", moment, "", "", 0}}, fields...)
	var columns []string
	for _, f := range fields {
		columns = append(columns, f.kind.null()+" AS "+f.column())
	}
	return resource{
		name: name, virtual: true, table: "(SELECT " + strings.Join(columns, ", ") + " WHERE FALSE)",
		fields: fields, navs: navs, access: []grant{{who: user, may: read, rows: everyRow}},
	}
}

// variables is a resource of names and values that belong to parent. Who may change the parent may change them.
func variables(name, table string, parent field, check rule, a affects) resource {
	return resource{
		name: name, table: table,
		fields: []field{parent, {"name", text, "", "", mandatory}, {"value", text, "", "", mandatory}},
		access: ownedBy(parent), affects: &a, before: check,
	}
}

// tags is a resource of keys and values that belong to parent and that devices do not see.
func tags(name, table string, parent field) resource {
	return resource{
		name: name, table: table,
		fields: []field{parent, {"tag_key", text, "", "", mandatory}, {"value", text, "", "", mandatory}},
		access: ownedBy(parent), before: checkTag,
	}
}

// ownedBy grants what the parent's grants do: who reads it reads these, who changes it changes these.
func ownedBy(parent field) []grant {
	via := first(parent.name)
	access := []grant{{who: user, may: all, via: via}}
	if parent.to == "device" {
		return append(access, grant{who: device, may: all, via: via})
	}
	return append(access, grant{who: device, may: read, via: via})
}
