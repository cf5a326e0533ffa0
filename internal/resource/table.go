package resource

// table is the model: what there is, what each is made of, and who may do what with which rows. What is not here does
// not exist for a caller, and what is not granted is denied. Secrets (hashes of passwords and keys, session secrets, a
// device's supervisor secret) are not here.
//
// Users have the run of what belongs to the organizations they are members of. A device reads its own fleet and
// itself, and writes its own variables, tags, name and note. A provisioning key finds devices of its fleet by uuid.
func table() []resource {
	return []resource{
		{
			name: "user", table: "users",
			fields: []field{
				{"actor", ref, "", "", 0},
				{"username", text, "", "", 0},
				{"email", text, "", "", 0},
			},
			navs: []nav{
				{"user__has__public_key user_public_key", "user__has__public_key", "user"},
				{"organization_membership user__is_member_of__organization is_member_of__organization", "organization_membership", "user"},
				{"has_direct_access_to__application", "user__has_direct_access_to__application", "user"},
			},
			access: []grant{{who: user, may: read, rows: "{t}.id = {me}"}},
		},
		{
			name: "user__has__public_key user_public_key", table: "ssh_keys",
			fields: []field{
				{"user", ref, "user_id", "user", onCreate},
				{"title", text, "", "", atFirst},
				{"public_key", text, "", "", atFirst},
			},
			access: []grant{{who: user, may: read | create | remove, rows: "{t}.user_id = {me}"}},
			before: addSSHKey,
		},
		{
			name: "organization", table: "organizations",
			fields: []field{
				{"name", text, "", "", 0},
				{"handle", text, "", "", 0},
			},
			navs: []nav{
				{"organization_membership user__is_member_of__organization includes__user", "organization_membership", "is_member_of__organization"},
				{"application is_of__application", "application", "organization"},
			},
			access: []grant{{who: user, may: read, rows: "{t}.id IN (SELECT m.organization FROM organization_memberships m WHERE m.user_id = {me})"}},
		},
		{
			name: "organization_membership user__is_member_of__organization", table: "organization_memberships",
			fields: []field{
				{"user includes__user", ref, "user_id", "user", 0},
				{"is_member_of__organization organization", ref, "organization", "organization", 0},
			},
			access: []grant{{who: user, may: read, via: "is_member_of__organization"}},
		},
		{
			name: "api_key", table: "api_keys",
			fields: []field{
				{"is_of__actor", ref, "actor", "", 0},
				{"name", text, "", "", onUpdate | orNull},
				{"description", text, "", "", onUpdate | orNull},
				{"expiry_date", moment, "", "", 0},
			},
			access: []grant{
				{who: user, may: read | update | remove, rows: "{t}.actor = {actor}"},
				{who: user, may: read | update | remove, rows: "{t}.actor IN (SELECT o.actor FROM fleets o WHERE o.id IN " + myFleets + ")"},
				{who: user, may: read | update | remove, rows: "{t}.actor IN (SELECT d.actor FROM devices d WHERE d.fleet IN " + myFleets + ")"},
			},
			before: describeKey,
		},

		// The catalog. It is for all to read.
		{
			name: "cpu_architecture", table: "cpu_architectures",
			fields: []field{{"slug", text, "", "", 0}},
			navs:   []nav{{"device_type is_supported_by__device_type", "device_type", "is_of__cpu_architecture"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},
		{
			name: "device_type", table: "device_types",
			fields: []field{
				{"slug", text, "", "", 0},
				{"name", text, "", "", 0},
				{"is_of__cpu_architecture", ref, "cpu_architecture", "cpu_architecture", 0},
				{"logo", text, "NULL", "", 0},
				{"contract", document, "NULL", "", 0},
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
				{"description", text, "NULL", "", 0},
				{"supports_multicontainer", boolean, "", "", 0},
				{"supports_web_url", boolean, "FALSE", "", 0},
				{"supports_gateway_mode", boolean, "FALSE", "", 0},
				{"requires_payment", boolean, "FALSE", "", 0},
				{"is_legacy", boolean, "FALSE", "", 0},
			},
			navs:   []nav{{"is_of__application", "application", "application_type"}},
			access: []grant{{who: anyone, may: read, rows: everyRow}},
		},

		// Fleets.
		{
			name: "application", table: "fleets",
			fields: []field{
				{"actor", ref, "", "", 0},
				{"app_name", text, "name", "", mandatory},
				{"slug", text, "", "", 0},
				{"uuid", text, "", "", 0},
				{"organization", ref, "", "organization", atFirst},
				{"is_of__class", text, "class", "", onCreate},
				{"is_for__device_type", ref, "device_type", "device_type", atFirst},
				{"application_type", ref, "", "application_type", onCreate},
				{"should_track_latest_release", boolean, "track_latest", "", always},
				{"should_be_running__release", ref, "target_release", "release", onUpdate | orNull},
				{"is_host", boolean, "", "", 0},
				{"is_archived", boolean, "", "", 0},
				{"is_public", boolean, "", "", 0},
			},
			navs: []nav{
				{"owns__device", "device", "belongs_to__application"},
				{"owns__release", "release", "belongs_to__application"},
				{"service application__has__service_name", "service", "application"},
				{"application_environment_variable application__has__env_var_name", "application_environment_variable", "application"},
				{"application_config_variable application__has__config_var_name", "application_config_variable", "application"},
				{"application_tag application__has__tag_key", "application_tag", "application"},
				{"is_directly_accessible_by__user", "user__has_direct_access_to__application", "has_direct_access_to__application"},
			},
			access: []grant{
				{who: user, may: all | hold, rows: "{t}.id IN " + myFleets},
				{who: device | provisioning, may: read, rows: "{t}.id = {fleet}"},
			},
			affects: &affects{"{t}.id", "NULL"},
			before:  editFleet, after: followFleet,
		},
		{
			// The cross of fleets and the users who may use them; a caller sees only himself in it.
			name: "user__has_direct_access_to__application", virtual: true,
			table: "(SELECT f.id AS id, m.user_id AS user_id FROM fleets f JOIN organization_memberships m ON m.organization = f.organization)",
			fields: []field{
				{"user", ref, "user_id", "user", 0},
				{"has_direct_access_to__application", ref, "id", "application", 0},
			},
			access: []grant{{who: user, may: read, rows: "{t}.user_id = {me}"}},
		},
		variables("application_environment_variable application__has__env_var_name", "fleet_variables",
			field{"application", ref, "fleet", "application", atFirst}, checkVariable, affects{"{t}.fleet", "NULL"}),
		variables("application_config_variable application__has__config_var_name", "fleet_config_variables",
			field{"application", ref, "fleet", "application", atFirst}, checkConfigVariable, affects{"{t}.fleet", "NULL"}),
		tags("application_tag application__has__tag_key", "fleet_tags", field{"application", ref, "fleet", "application", atFirst}),

		// Services and what is built of them.
		{
			name: "service application__has__service_name", table: "services",
			fields: []field{
				{"application", ref, "fleet", "application", 0},
				{"service_name", text, "name", "", 0},
			},
			navs: []nav{
				{"service_environment_variable service__has__name application__has__service_name__has__name", "service_environment_variable", "service"},
				{"service_install device__installs__service device__installs__application__has__service_name is_installed_on__device", "service_install", "installs__service"},
				{"device_service_environment_variable device__has__service_environment_variable", "device_service_environment_variable", "service"},
				{"is_built_by__image", "image", "is_a_build_of__service"},
			},
			// No field of it can be changed, but who may change the fleet may change its variables.
			access: []grant{{who: user | device, may: read | update, via: "application"}},
		},
		variables("service_environment_variable application__has__service_name__has__name service__has__name", "service_variables",
			field{"service application__has__service_name", ref, "service", "service", atFirst}, checkVariable,
			affects{"(SELECT s.fleet FROM services s WHERE s.id = {t}.service)", "NULL"}),
		{
			name: "image", table: "images",
			fields: []field{
				{"is_a_build_of__service is_a_build_of__application__has__service_name", ref, "service", "service", 0},
				{"is_stored_at__image_location", text, "location", "", 0},
				{"content_hash", text, "", "", 0},
				{"image_size", big, "", "", 0},
				{"status", text, "", "", 0},
				{"project_type", text, "", "", 0},
				{"dockerfile", text, "", "", 0},
				{"contract", document, "", "", 0},
				{"error_message", text, "", "", 0},
				{"build_log", text, "", "", 0},
				{"start_timestamp", moment, "", "", 0},
				{"end_timestamp", moment, "", "", 0},
				{"push_timestamp", moment, "", "", 0},
			},
			navs: []nav{
				{"release_image image__is_part_of__release is_part_of__release", "release_image", "image"},
				{"image_install device__installs__image is_installed_on__device", "image_install", "installs__image"},
			},
			access:    []grant{{who: user | device, may: read, via: "is_a_build_of__service"}},
			usersOnly: "dockerfile error_message build_log",
		},
		{
			name: "release", table: "releases",
			fields: []field{
				{"belongs_to__application", ref, "fleet", "application", 0},
				{"commit", text, "commit_id", "", 0},
				{"status", text, "", "", onUpdate},
				{"source", text, "", "", 0},
				{"composition", document, "", "", 0},
				{"contract", document, "", "", 0},
				{"is_final", boolean, "({t}.revision IS NOT NULL)", "", onUpdate},
				{"is_finalized_at__date", moment, "finalized_at", "", 0},
				{"is_invalidated", boolean, "", "", onUpdate},
				{"invalidation_reason", text, "", "", onUpdate | orNull},
				{"is_passing_tests", boolean, "", "", 0},
				{"start_timestamp", moment, "", "", 0},
				{"end_timestamp", moment, "", "", 0},
				{"update_timestamp", moment, "", "", 0},
				{"semver_major", number, "", "", 0},
				{"semver_minor", number, "", "", 0},
				{"semver_patch", number, "", "", 0},
				{"semver_prerelease", text, "", "", 0},
				{"semver_build", text, "", "", 0},
				{"variant", text, "", "", 0},
				{"revision", number, "", "", 0},
				{"semver", text, semver, "", 0},
				{"raw_version", text, rawVersion, "", 0},
				{"version", document, versionObject, "", 0},
				{"release_version", text, "NULL", "", 0},
				{"phase", text, "", "", 0},
				{"known_issue_list", text, "", "", 0},
				{"note", text, "", "", onUpdate | orNull},
				{"build_log", text, "", "", 0},
			},
			navs: []nav{
				{"release_image image__is_part_of__release contains__image", "release_image", "is_part_of__release"},
				{"release_tag release__has__tag_key", "release_tag", "release"},
				{"should_be_running_on__application", "application", "should_be_running__release"},
				{"should_be_running_on__device", "device", "should_be_running__release"},
				{"is_running_on__device", "device", "is_running__release"},
				{"is_pinned_to__device", "device", "is_pinned_on__release"},
				{"provides__image_install provides__device__installs__image", "image_install", "is_provided_by__release"},
			},
			access: []grant{
				{who: user, may: read | update, via: "belongs_to__application"},
				{who: device, may: read, via: "belongs_to__application"},
			},
			usersOnly: "build_log",
			before:    editRelease, after: followRelease,
		},
		{
			name: "release_image image__is_part_of__release", table: "release_images",
			fields: []field{
				{"image", ref, "", "image", 0},
				{"is_part_of__release release", ref, "release", "release", 0},
			},
			navs: []nav{
				{"image_label release_image__has__label_name image__is_part_of__release__has__label_name", "image_label", "release_image"},
				{"image_environment_variable release_image__has__name image__is_part_of__release__has__name", "image_environment_variable", "release_image"},
			},
			access: []grant{{who: user | device, may: read, via: "is_part_of__release"}},
		},
		{
			name: "image_label image__is_part_of__release__has__label_name", table: "image_labels",
			fields: []field{
				{"release_image image__is_part_of__release", ref, "release_image", "release_image", 0},
				{"label_name", text, "", "", 0},
				{"value", text, "", "", 0},
			},
			access: []grant{{who: user | device, may: read, via: "release_image"}},
		},
		{
			name: "image_environment_variable image__is_part_of__release__has__name", table: "image_variables",
			fields: []field{
				{"release_image image__is_part_of__release", ref, "release_image", "release_image", 0},
				{"name", text, "", "", 0},
				{"value", text, "", "", 0},
			},
			access: []grant{{who: user | device, may: read, via: "release_image"}},
		},
		tags("release_tag release__has__tag_key", "release_tags", field{"release", ref, "", "release", atFirst}),

		// Devices.
		{
			name: "device", table: "devices",
			fields: []field{
				{"actor", ref, "", "", 0},
				{"uuid", text, "", "", 0},
				{"device_name", text, "name", "", onUpdate},
				{"note", text, "", "", onUpdate | orNull},
				{"local_id", text, "NULL", "", 0},
				{"is_of__device_type", ref, "device_type", "device_type", 0},
				{"belongs_to__application", ref, "fleet", "application", onUpdate},
				{"is_running__release", ref, "running_release", "release", 0},
				{"is_pinned_on__release", ref, "pinned_release", "release", onUpdate | orNull},
				{"should_be_running__release", ref, "COALESCE({t}.pinned_release, (SELECT o.target_release FROM fleets o WHERE o.id = {t}.fleet))", "release", 0},
				{"should_be_operated_by__release", ref, "NULL", "release", 0},
				{"should_be_managed_by__release", ref, "NULL", "release", 0},
				{"is_online", boolean, online, "", 0},
				{"api_heartbeat_state", text, heartbeat, "", 0},
				{"changed_api_heartbeat_state_on__date", moment, "NULL", "", 0},
				{"last_connectivity_event", moment, "last_seen", "", 0},
				{"is_connected_to_vpn", boolean, "FALSE", "", 0},
				{"last_vpn_event", moment, "NULL", "", 0},
				{"is_web_accessible", boolean, "FALSE", "", 0},
				{"is_frozen", boolean, "FALSE", "", 0},
				{"is_locked_until__date", moment, "NULL", "", 0},
				{"overall_status", text, overallStatus, "", 0},
				{"overall_progress", number, overallProgress, "", 0},
				{"status", text, "", "", 0},
				{"update_status", text, "", "", 0},
				{"last_update_status_event", moment, "", "", 0},
				{"download_progress", number, "NULL", "", 0},
				{"provisioning_state", text, "", "", 0},
				{"provisioning_progress", number, "", "", 0},
				{"os_version", text, "", "", 0},
				{"os_variant", text, "", "", 0},
				{"supervisor_version", text, "", "", 0},
				{"ip_address", text, "", "", 0},
				{"public_address", text, "", "", 0},
				{"mac_address", text, "", "", 0},
				{"api_port", number, "", "", 0},
				{"memory_usage", number, "", "", 0},
				{"memory_total", number, "", "", 0},
				{"storage_block_device", text, "", "", 0},
				{"storage_usage", number, "", "", 0},
				{"storage_total", number, "", "", 0},
				{"cpu_usage", number, "", "", 0},
				{"cpu_temp", number, "", "", 0},
				{"cpu_id", text, "", "", 0},
				{"is_undervolted", boolean, "", "", 0},
			},
			navs: []nav{
				{"device_environment_variable device__has__env_var_name", "device_environment_variable", "device"},
				{"device_config_variable device__has__config_var_name", "device_config_variable", "device"},
				{"device_service_environment_variable device__has__service_environment_variable device__has__service__has__name", "device_service_environment_variable", "device"},
				{"device_tag device__has__tag_key", "device_tag", "device"},
				{"service_install device__installs__service installs__service device__installs__application__has__service_name installs__application__has__service_name", "service_install", "device"},
				{"image_install device__installs__image installs__image", "image_install", "device"},
			},
			access: []grant{
				{who: user, may: read | update | remove | hold, rows: "{t}.fleet IN " + myFleets},
				{who: device, may: read, rows: "{t}.id = {me}"},
				// A device may not take itself elsewhere: after a change its fleet is the one its key is for.
				{who: device, may: update, rows: "{t}.id = {me} AND {t}.fleet = {fleet}", only: "device_name note"},
				{who: provisioning, may: read, rows: "{t}.fleet = {fleet}", named: "uuid"},
				{who: provisioning, may: hold, rows: "{t}.fleet = {fleet} AND " + registering},
			},
			affects: &affects{"{t}.fleet", "{t}.id"},
			before:  editDevice, after: moveDevice,
		},
		variables("device_environment_variable device__has__env_var_name", "device_variables",
			field{"device", ref, "", "device", atFirst}, checkVariable,
			affects{"(SELECT d.fleet FROM devices d WHERE d.id = {t}.device)", "{t}.device"}),
		variables("device_config_variable device__has__config_var_name", "device_config_variables",
			field{"device", ref, "", "device", atFirst}, checkConfigVariable,
			affects{"(SELECT d.fleet FROM devices d WHERE d.id = {t}.device)", "{t}.device"}),
		tags("device_tag device__has__tag_key", "device_tags", field{"device", ref, "", "device", atFirst}),
		{
			// Made with the device, and with the service. Who may change the device may change its variables.
			name: "service_install device__installs__service device__installs__application__has__service_name", table: "service_installs",
			fields: []field{
				{"device is_installed_on__device", ref, "device", "device", 0},
				{"installs__service service application__has__service_name installs__application__has__service_name", ref, "service", "service", 0},
			},
			navs: []nav{
				{"device_service_environment_variable is_of__device_service_environment_variable is_of__device__has__service_environment_variable", "device_service_environment_variable", "service_install"},
			},
			access: []grant{{who: user | device, may: read | update, via: "device"}},
		},
		{
			name:  "device_service_environment_variable device__has__application__has__service_name__has__name",
			table: "device_service_variables",
			fields: []field{
				{"service_install device__installs__service device__installs__application__has__service_name", ref, "service_install", "service_install", atFirst},
				{"device", ref, "(SELECT i.device FROM service_installs i WHERE i.id = {t}.service_install)", "device", 0},
				{"service application__has__service_name", ref, "(SELECT i.service FROM service_installs i WHERE i.id = {t}.service_install)", "service", 0},
				{"name", text, "", "", mandatory},
				{"value", text, "", "", mandatory},
			},
			access: []grant{{who: user | device, may: all, via: "service_install"}},
			affects: &affects{
				"(SELECT d.fleet FROM service_installs i JOIN devices d ON d.id = i.device WHERE i.id = {t}.service_install)",
				"(SELECT i.device FROM service_installs i WHERE i.id = {t}.service_install)",
			},
			before: checkVariable,
		},
		{
			name: "image_install device__installs__image", table: "image_installs",
			fields: []field{
				{"device is_installed_on__device", ref, "device", "device", 0},
				{"installs__image image", ref, "image", "image", 0},
				{"is_provided_by__release", ref, "release", "release", 0},
				{"install_date", moment, "", "", 0},
				{"status", text, "", "", 0},
				{"download_progress", number, "", "", 0},
			},
			access: []grant{{who: user | device, may: read, via: "device"}},
		},
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
