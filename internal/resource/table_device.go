package resource

import "github.com/dunlin/dunlin/internal/fleet"

// devices are devices and what is kept of each.
func devices() []resource {
	return []resource{
		{
			name: "device", table: "devices",
			fields: []field{
				{"actor", ref, "", "actor", 0},
				{"uuid", text, "", "", onCreate},
				{"device_name", text, "name", "", always},
				{"note", text, "", "", always | orNull},
				{"local_id", text, "", "", always | orNull},
				{"is_of__device_type", ref, "device_type", "device_type", always},
				{"belongs_to__application", ref, "fleet", "application", mandatory},
				{"belongs_to__user", ref, "NULL", "user", 0},
				{"is_running__release", ref, "running_release", "release", onUpdate | orNull},
				{"is_pinned_on__release", ref, "pinned_release", "release", always | orNull},
				{"should_be_running__release", ref, "COALESCE({t}.pinned_release, (SELECT o.target_release FROM fleets o WHERE o.id = {t}.fleet))", "release", 0},
				{"should_be_operated_by__release", ref, "operated_by", "release", onUpdate | orNull},
				{"should_be_managed_by__release", ref, "managed_by", "release", onUpdate | orNull},
				{"is_managed_by__service_instance", ref, "NULL", "service_instance", 0},
				{"is_active", boolean, "", "", always},
				{"is_online", boolean, online, "", onUpdate},
				{"api_heartbeat_state", text, heartbeat, "", 0},
				{"changed_api_heartbeat_state_on__date", moment, "NULL", "", 0},
				{"last_connectivity_event", moment, "last_seen", "", onUpdate | orNull},
				{"is_connected_to_vpn", boolean, "FALSE", "", 0},
				{"last_vpn_event", moment, "NULL", "", 0},
				{"is_web_accessible", boolean, "", "", always},
				{"is_accessible_by_support_until__date", moment, "support_until", "", always | orNull},
				{"custom_latitude", text, "", "", always | orNull},
				{"custom_longitude", text, "", "", always | orNull},
				{"latitude", text, "({t}.custom_latitude)", "", 0},
				{"longitude", text, "({t}.custom_longitude)", "", 0},
				{"location", text, "CAST(NULL AS TEXT)", "", 0},
				{"is_frozen", boolean, "FALSE", "", 0},
				{"is_locked_until__date", moment, "locked_until", "", onUpdate | orNull},
				{"overall_status", text, overallStatus, "", 0},
				{"overall_progress", number, overallProgress, "", 0},
				{"status", text, "", "", onUpdate | orNull},
				{"update_status", text, "", "", onUpdate | orNull},
				{"last_update_status_event", moment, "", "", onUpdate | orNull},
				{"download_progress", number, "", "", onUpdate | orNull},
				{"provisioning_state", text, "", "", onUpdate | orNull},
				{"provisioning_progress", number, "", "", onUpdate | orNull},
				{"os_version", text, "", "", onUpdate | orNull},
				{"os_variant", text, "", "", onUpdate | orNull},
				{"supervisor_version", text, "", "", onUpdate | orNull},
				{"ip_address", text, "", "", onUpdate | orNull},
				{"public_address", text, "", "", onUpdate | orNull},
				{"mac_address", text, "", "", onUpdate | orNull},
				{"api_port", number, "", "", 0},
				{"memory_usage", number, "", "", onUpdate | orNull},
				{"memory_total", number, "", "", onUpdate | orNull},
				{"storage_block_device", text, "", "", onUpdate | orNull},
				{"storage_usage", number, "", "", onUpdate | orNull},
				{"storage_total", number, "", "", onUpdate | orNull},
				{"cpu_usage", number, "", "", onUpdate | orNull},
				{"cpu_temp", number, "", "", onUpdate | orNull},
				{"cpu_id", text, "", "", onUpdate | orNull},
				{"is_undervolted", boolean, "", "", onUpdate},
			},
			navs: []nav{
				{"device_environment_variable device__has__env_var_name", "device_environment_variable", "device"},
				{"device_config_variable device__has__config_var_name", "device_config_variable", "device"},
				{"device_service_environment_variable device__has__service_environment_variable device__has__service__has__name device__has__application__has__service_name__has__name", "device_service_environment_variable", "device"},
				{"device_tag device__has__tag_key", "device_tag", "device"},
				{"service_install device__installs__service installs__service device__installs__application__has__service_name installs__application__has__service_name", "service_install", "device"},
				{"image_install device__installs__image installs__image", "image_install", "device"},
			},
			access: []grant{
				{who: user, may: read, rows: "{t}.fleet IN " + myFleets},
				{who: user, may: create | update | remove | hold | operate, rows: "{t}.fleet IN " + fleetsOf(fleet.Operator)},
				{who: device, may: read | operate, rows: "{t}.id = {me}"},
				// A device may not take itself elsewhere: after a change its fleet is the one its key is for.
				{who: device, may: update, rows: "{t}.id = {me} AND {t}.fleet = {fleet}", only: "device_name note"},
				{who: device, may: update, rows: "{t}.id = {me} AND {t}.fleet = {fleet} AND " + preloaded, only: "device_name note is_pinned_on__release"},
				{who: provisioning, may: read, rows: "{t}.fleet = {fleet}", named: "uuid"},
				{who: provisioning, may: hold, rows: "{t}.fleet = {fleet} AND " + registering},
			},
			place: &place{organization: "(SELECT o.organization FROM fleets o WHERE o.id = {t}.fleet)", fleet: "{t}.fleet", device: "{t}.id"},
			affects: &affects{"{t}.fleet", "{t}.id", `{t}.name || ' ' || {t}.is_active || ' ' || COALESCE({t}.pinned_release, 0) ||
				' ' || COALESCE({t}.operated_by, 0) || ' ' || COALESCE({t}.managed_by, 0)`},
			before: editDevice, after: moveDevice,
		},
		variables("device_environment_variable device__has__env_var_name", "device_variables",
			field{"device", ref, "", "device", atFirst}, checkVariable,
			affects{"(SELECT d.fleet FROM devices d WHERE d.id = {t}.device)", "{t}.device", setting}),
		variables("device_config_variable device__has__config_var_name", "device_config_variables",
			field{"device", ref, "", "device", atFirst}, checkConfigVariable,
			affects{"(SELECT d.fleet FROM devices d WHERE d.id = {t}.device)", "{t}.device", setting}),
		tags("device_tag device__has__tag_key", "device_tags", field{"device", ref, "", "device", atFirst}),
		{
			// Made with the device, and with the service. Who may change the device may change its variables.
			name: "service_install device__installs__service device__installs__application__has__service_name", table: "service_installs",
			fields: []field{
				{"device is_installed_on__device", ref, "device", "device", 0},
				{"installs__service service application__has__service_name installs__application__has__service_name", ref, "service", "service", 0},
			},
			navs: []nav{
				{"device_service_environment_variable service_install__has__name device__installs__service__has__name device__installs__service_environment_variable device__installs__application__has__service_name__has__name " +
					"is_of__device_service_environment_variable is_of__device__has__service_environment_variable is_of__device__has__service__has__name is_of__device__has__application__has__service_name__has__name",
					"device_service_environment_variable", "service_install"},
			},
			access: []grant{{who: user | device, may: read | update, via: "device"}},
		},
		{
			// A creation names the service on the device, or the device and the service, as old clients do.
			name: "device_service_environment_variable device__has__service_environment_variable device__has__service__has__name " +
				"device__has__application__has__service_name__has__name",
			table: "device_service_variables",
			fields: []field{
				{"service_install device__installs__service device__installs__application__has__service_name", ref, "service_install", "service_install", onCreate},
				{"device", ref, "(SELECT i.device FROM service_installs i WHERE i.id = {t}.service_install)", "device", onCreate},
				{"service application__has__service_name", ref, "(SELECT i.service FROM service_installs i WHERE i.id = {t}.service_install)", "service", onCreate},
				{"name", text, "", "", mandatory},
				{"value", text, "", "", mandatory},
			},
			// With a service the balena CLI takes the row for a variable of the service on every device.
			asked:  "service",
			access: []grant{{who: user | device, may: all, via: "service_install"}},
			affects: &affects{
				"(SELECT d.fleet FROM service_installs i JOIN devices d ON d.id = i.device WHERE i.id = {t}.service_install)",
				"(SELECT i.device FROM service_installs i WHERE i.id = {t}.service_install)",
				setting,
			},
			before: nameInstall,
		},
		{
			name: "image_install device__installs__image", table: "image_installs",
			fields: []field{
				{"device is_installed_on__device", ref, "device", "device", atFirst},
				{"installs__image image", ref, "image", "image", atFirst},
				{"is_provided_by__release", ref, "release", "release", mandatory},
				{"install_date", moment, "", "", always},
				{"status", text, "", "", mandatory},
				{"download_progress", number, "", "", always | orNull},
			},
			access: []grant{{who: user | device, may: all, via: "device"}},
			before: editInstall,
		},
	}
}

// preloaded: the device was made within the hour and nobody has said which release it follows, so that it may take
// the one that its card came with (protocol §1.4, step 5).
const preloaded = `{t}.created_at >= {now} - 3600000000 AND NOT {t}.pin_chosen`
