package resource

import "github.com/dunlin/dunlin/internal/fleet"

// fleets are fleets, their variables and tags, and their services.
func fleets() []resource {
	application := field{"application", ref, "fleet", "application", atFirst}
	ofService := "(SELECT s.fleet FROM services s WHERE s.id = {t}.service)"
	return []resource{
		{
			name: "application", table: "fleets", few: true,
			fields: []field{
				{"actor", ref, "", "actor", 0},
				{"app_name", text, "name", "", mandatory},
				{"slug", text, "", "", 0},
				{"uuid", text, "", "", onCreate},
				{"organization", ref, "", "organization", mandatory},
				{"is_of__class", text, "class", "", onCreate},
				{"is_for__device_type", ref, "device_type", "device_type", mandatory},
				{"application_type", ref, "", "application_type", onCreate},
				{"should_track_latest_release", boolean, "track_latest", "", always},
				{"should_be_running__release", ref, "target_release", "release", onUpdate | orNull},
				{"is_host", boolean, "", "", always},
				{"is_archived", boolean, "", "", always},
				{"is_public", boolean, "", "", always},
				{"is_discoverable", boolean, "({t}.is_public)", "", 0},
				{"is_updated_by__application", ref, "updated_by", "application", always | orNull},
				{"is_accessible_by_support_until__date", moment, "support_until", "", always | orNull},
				{"is_stored_at__repository_url", text, "repository_url", "", always | orNull},
			},
			navs: []nav{
				{"owns__device", "device", "belongs_to__application"},
				{"owns__release", "release", "belongs_to__application"},
				{"service application__has__service_name", "service", "application"},
				{"application_environment_variable application__has__env_var_name", "application_environment_variable", "application"},
				{"application_config_variable application__has__config_var_name", "application_config_variable", "application"},
				{"build_environment_variable application__has__build_var_name", "build_environment_variable", "application"},
				{"application_tag application__has__tag_key", "application_tag", "application"},
				{"application_profile application__activates__profile_name__on__application activates__profile_name__on__application", "application_profile", "application"},
				{"updates__application", "application", "is_updated_by__application"},
				{"is_directly_accessible_by__user", "user__has_direct_access_to__application", "has_direct_access_to__application"},
				{"user_application_membership user__is_member_of__application includes__user", "user_application_membership", "is_member_of__application"},
				{"team_application_access team__grants_access_to__application is_accessible_by__team", "team_application_access", "grants_access_to__application"},
				{"application_invite invitee__is_invited_to__application invitee", "application_invite", "is_invited_to__application"},
			},
			access: []grant{
				{who: user, may: read, rows: "{t}.id IN " + myFleets},
				{who: user, may: create, rows: "{t}.organization IN " + organizationsOf(fleet.Developer)},
				{who: user, may: update | hold, rows: "{t}.id IN " + fleetsOf(fleet.Developer)},
				{who: user, may: operate, rows: "{t}.id IN " + fleetsOf(fleet.Operator)},
				// It takes its devices along, and nothing brings them back.
				{who: user, may: remove, rows: "{t}.id IN " + fleetsOf(fleet.Owner)},
				{who: device | provisioning, may: read, rows: "{t}.id = {fleet}"},
				// What an administrator has made public: operating systems, before any login, and blocks.
				{who: user | device, may: read, rows: "{t}.is_public"},
				{who: nobody, may: read, rows: "{t}.is_public AND {t}.is_host"},
			},
			place:   &place{organization: "{t}.organization", fleet: "{t}.id"},
			affects: &affects{"{t}.id", "NULL", "{t}.slug || ' ' || {t}.name"},
			before:  editFleet, after: followFleet,
		},
		private("{t}.fleet", variables("application_environment_variable application__has__env_var_name", "fleet_variables",
			application, checkVariable, affects{"{t}.fleet", "NULL", setting})),
		private("{t}.fleet", variables("application_config_variable application__has__config_var_name", "fleet_config_variables",
			application, checkConfigVariable, affects{"{t}.fleet", "NULL", setting})),
		private("{t}.fleet", resource{
			name: "build_environment_variable application__has__build_var_name", table: "build_variables",
			fields: []field{application, {"name", text, "", "", mandatory}, {"value", text, "", "", mandatory}},
			before: checkBuildVariable,
		}),
		private("{t}.fleet", resource{
			name:  "application_profile application__activates__profile_name__on__application",
			table: "fleet_profiles",
			fields: []field{
				application,
				{"activates__profile_name", text, "profile_name", "", mandatory},
				{"on__application", ref, "on_fleet", "application", atFirst},
			},
			affects: &affects{"{t}.fleet", "NULL", "{t}.profile_name"},
			before:  checkProfile,
		}),
		shown(tags("application_tag application__has__tag_key", "fleet_tags", application)),

		{
			name: "service application__has__service_name", table: "services",
			fields: []field{
				{"application", ref, "fleet", "application", atFirst},
				{"service_name", text, "name", "", mandatory},
			},
			navs: []nav{
				{"service_label service__has__label_name application__has__service_name__has__label_name", "service_label", "service"},
				{"service_environment_variable service__has__name application__has__service_name__has__name", "service_environment_variable", "service"},
				{"service_install device__installs__service device__installs__application__has__service_name is_installed_on__device", "service_install", "installs__service"},
				{"device_service_environment_variable device__has__service_environment_variable device__has__service__has__name device__has__application__has__service_name__has__name", "device_service_environment_variable", "service"},
				{"is_built_by__image", "image", "is_a_build_of__service"},
			},
			access: []grant{
				{who: user | device, may: read, via: "application"},
				{who: user, may: create | update | remove, via: "application"},
			},
			before: editService, after: installService,
		},
		{
			name: "service_label service__has__label_name application__has__service_name__has__label_name", table: "service_labels",
			fields: []field{
				{"service application__has__service_name", ref, "service", "service", atFirst},
				{"label_name", text, "", "", mandatory},
				{"value", text, "", "", mandatory},
			},
			access: []grant{
				{who: user | device, may: read, via: "service"},
				{who: user, may: create | update | remove, via: "service"},
			},
			affects: &affects{ofService, "NULL", "{t}.label_name || '=' || {t}.value"},
			before:  checkLabel,
		},
		serviceVariables(ofService),
	}
}

// setting is what a target has of a variable.
const setting = "{t}.name || '=' || {t}.value"

// serviceVariables belong to a service. A creation may name it as a client knows it: by fleet and name.
func serviceVariables(fleet string) resource {
	r := private(fleet, variables("service_environment_variable application__has__service_name__has__name service__has__name", "service_variables",
		field{"service application__has__service_name", ref, "service", "service", onCreate}, nameService, affects{fleet, "NULL", setting}))
	r.asks = []field{{"application", ref, "NULL", "application", onCreate}, {"service_name", text, "NULL", "", onCreate}}
	return r
}

// private grants what a fleet keeps for itself, also one that is public: its observers read it, its developers change
// it, its devices read it. of is the fleet of a row.
func private(of string, r resource) resource {
	r.access = []grant{
		{who: user, may: read, rows: of + " IN " + myFleets},
		{who: user, may: create | update | remove, rows: of + " IN " + fleetsOf(fleet.Developer)},
		{who: device, may: read, rows: of + " = {fleet}"},
	}
	r.place = ofFleet(of)
	return r
}

// shown lets nobody in particular read what hangs from something that nobody in particular reads, too.
func shown(r resource) resource {
	r.access = append(r.access, grant{who: nobody, may: read, via: first(r.fields[0].name)})
	return r
}
