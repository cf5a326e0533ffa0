package resource

import "github.com/dunlin/dunlin/internal/fleet"

// Who may see and change people and what they have. Members of an organization see each other; its owners say who is
// in it. What a role may do with fleets is for fleet_access to say.
var (
	ofMember = "{t}.organization IN " + organizationsOf(fleet.Member)
	ofOwner  = "{t}.organization IN " + organizationsOf(fleet.Owner)
)

// people are users and what they are members of.
func people() []resource {
	return []resource{
		{
			name: "user", table: "users",
			fields: []field{
				{"actor", ref, "", "actor", 0},
				{"username", text, "", "", 0},
				// Nobody's but one's own.
				{"email", text, "CASE WHEN {t}.id = {me} THEN {t}.email END", "", 0},
			},
			navs: []nav{
				{"user__has__public_key user_public_key", "user__has__public_key", "user"},
				{"user__has__role user_role", "user__has__role", "user"},
				{"user__has__permission user_permission", "user__has__permission", "user"},
				{"organization_membership user__is_member_of__organization is_member_of__organization", "organization_membership", "user"},
				{"team_membership user__is_member_of__team is_member_of__team", "team_membership", "user"},
				{"user_application_membership user__is_member_of__application is_member_of__application", "user_application_membership", "user"},
				{"creates__organization_invite creates__invitee__is_invited_to__organization", "organization_invite", "is_created_by__user"},
				{"creates__application_invite creates__invitee__is_invited_to__application", "application_invite", "is_created_by__user"},
				{"creates__release", "release", "is_created_by__user"},
				{"has_direct_access_to__application", "user__has_direct_access_to__application", "user"},
			},
			access: []grant{
				{who: user, may: read, rows: "{t}.id = {me}"},
				{who: user, may: read, rows: "{t}.id IN (SELECT m.user_id FROM organization_memberships m WHERE m.organization IN " + organizationsOf(fleet.Member) + ")"},
				// Who makes accounts knows their names.
				{who: user, may: read, rows: "{administrator}"},
			},
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
				{"name", text, "", "", mandatory},
				{"handle", text, "", "", always},
			},
			navs: []nav{
				{"organization_membership user__is_member_of__organization includes__user", "organization_membership", "is_member_of__organization"},
				{"application is_of__application", "application", "organization"},
				{"owns__team team", "team", "belongs_to__organization"},
				{"organization_invite invitee__is_invited_to__organization invitee", "organization_invite", "is_invited_to__organization"},
			},
			access: []grant{
				{who: user, may: read, rows: "{t}.id IN " + organizationsOf(fleet.Member)},
				// Whoever makes one owns it.
				{who: user, may: create | update | remove, rows: "{t}.id IN " + organizationsOf(fleet.Owner)},
			},
			place:  &place{organization: "{t}.id"},
			before: editOrganization, after: ownOrganization,
		},
		{
			name: "organization_membership user__is_member_of__organization", table: "organization_memberships",
			fields: []field{
				{"user includes__user", ref, "user_id", "user", onCreate},
				{"is_member_of__organization organization", ref, "organization", "organization", atFirst},
				{"organization_membership_role", ref, "role", "organization_membership_role", always},
				{"effective_seat_role", text, "(SELECT o.name FROM roles o WHERE o.id = {t}.role)", "", 0},
			},
			navs: []nav{{"organization_membership_tag organization_membership__has__tag_key user__is_member_of__organization__has__tag_key", "organization_membership_tag", "organization_membership"}},
			asks: []field{{"username", text, "", "", onCreate}},
			access: []grant{
				{who: user, may: read, rows: ofMember},
				{who: user, may: create | update | remove, rows: ofOwner},
				{who: user, may: remove, rows: "{t}.user_id = {me}"},
			},
			place:  &place{organization: "{t}.organization"},
			before: editMembership, after: keepOwner,
		},
		{
			name:  "organization_membership_tag organization_membership__has__tag_key user__is_member_of__organization__has__tag_key",
			table: "organization_membership_tags",
			fields: []field{
				{"organization_membership user__is_member_of__organization", ref, "membership", "organization_membership", atFirst},
				{"tag_key", text, "", "", mandatory},
				{"value", text, "", "", mandatory},
			},
			access: []grant{{who: user, may: all, via: "organization_membership"}},
			before: checkTag,
		},
		{
			name: "user_application_membership user__is_member_of__application application_membership", table: "fleet_memberships",
			fields: []field{
				{"user includes__user", ref, "user_id", "user", onCreate},
				{"is_member_of__application application", ref, "fleet", "application", atFirst},
				{"application_membership_role", ref, "role", "application_membership_role", always},
			},
			asks: []field{{"username", text, "", "", onCreate}},
			access: []grant{
				{who: user, may: read, rows: "{t}.fleet IN " + myFleets},
				{who: user, may: create | update | remove, rows: "{t}.fleet IN " + fleetsOf(fleet.Owner)},
				{who: user, may: remove, rows: "{t}.user_id = {me}"},
			},
			place:  ofFleet("{t}.fleet"),
			before: addFleetMember,
		},
		{
			// The cross of users and the fleets they may look at; a caller sees only himself in it.
			name: "user__has_direct_access_to__application", virtual: true,
			table: "(SELECT a.id, {me} AS user_id FROM " + myFleets + " a)",
			fields: []field{
				{"user is_directly_accessible_by__user", ref, "user_id", "user", 0},
				{"has_direct_access_to__application application", ref, "id", "application", 0},
			},
			access: []grant{{who: user, may: read, rows: "{t}.user_id = {me}"}},
		},
	}
}

// teams are groups of members of an organization that have a role in some of its fleets.
func teams() []resource {
	return []resource{
		{
			name: "team", table: "teams",
			fields: []field{
				{"belongs_to__organization", ref, "organization", "organization", atFirst},
				{"name", text, "", "", mandatory},
				{"description", text, "", "", always | orNull},
			},
			navs: []nav{
				{"team_membership user__is_member_of__team includes__user", "team_membership", "is_member_of__team"},
				{"team_application_access team__grants_access_to__application grants_access_to__application", "team_application_access", "team"},
			},
			access: []grant{
				{who: user, may: read, rows: ofMember},
				{who: user, may: create | update | remove, rows: ofOwner},
			},
			place:  &place{organization: "{t}.organization"},
			before: checkName,
		},
		{
			name: "team_membership user__is_member_of__team", table: "team_memberships",
			fields: []field{
				{"user includes__user", ref, "user_id", "user", onCreate},
				{"is_member_of__team team", ref, "team", "team", atFirst},
			},
			asks:   []field{{"username", text, "", "", onCreate}},
			access: []grant{{who: user, may: read | create | remove, via: "is_member_of__team"}},
			before: addTeamMember,
		},
		{
			name: "team_application_access team__grants_access_to__application", table: "team_fleets",
			fields: []field{
				{"team is_accessible_by__team", ref, "", "team", atFirst},
				{"grants_access_to__application application", ref, "fleet", "application", atFirst},
				{"application_membership_role", ref, "role", "application_membership_role", mandatory},
			},
			access: []grant{
				{who: user, may: read, rows: "{t}.fleet IN " + myFleets},
				{who: user, may: create | update | remove, rows: "{t}.fleet IN " + fleetsOf(fleet.Owner) +
					" AND {t}.team IN (SELECT m.id FROM teams m WHERE m.organization IN " + organizationsOf(fleet.Owner) + ")"},
			},
			place:  ofFleet("{t}.fleet"),
			before: addTeamFleet,
		},
	}
}

// invites are who was asked to join an organization, or one fleet of it, and has not yet. The token that lets them is
// in the answer to whoever asks them, and nowhere else.
func invites() []resource {
	return []resource{
		{
			name: "invitee", table: "invitees",
			fields: []field{{"email", text, "", "", 0}},
			navs: []nav{
				{"organization_invite invitee__is_invited_to__organization is_invited_to__organization", "organization_invite", "invitee"},
				{"application_invite invitee__is_invited_to__application is_invited_to__application", "application_invite", "invitee"},
			},
			access: []grant{{who: user, may: read, rows: ofOwner}},
		},
		{
			name: "organization_invite invitee__is_invited_to__organization", table: "organization_invites",
			fields: []field{
				{"invitee", ref, "", "invitee", 0},
				{"is_invited_to__organization organization", ref, "organization", "organization", atFirst},
				{"organization_membership_role", ref, "role", "organization_membership_role", onCreate},
				{"message", text, "", "", onCreate | orNull},
				{"is_created_by__user", ref, "created_by", "user", 0},
			},
			asks:   []field{{"invitee", text, "", "", atFirst}},
			access: []grant{{who: user, may: read | create | remove, rows: ofOwner}},
			place:  &place{organization: "{t}.organization"},
			before: inviteToOrganization, after: forgetInvitees,
		},
		{
			name: "application_invite invitee__is_invited_to__application", table: "fleet_invites",
			fields: []field{
				{"invitee", ref, "", "invitee", 0},
				{"is_invited_to__application application", ref, "fleet", "application", atFirst},
				{"application_membership_role", ref, "role", "application_membership_role", onCreate},
				{"message", text, "", "", onCreate | orNull},
				{"is_created_by__user", ref, "created_by", "user", 0},
			},
			asks:   []field{{"invitee", text, "", "", atFirst}},
			access: []grant{{who: user, may: read | create | remove, rows: "{t}.fleet IN " + fleetsOf(fleet.Owner)}},
			place:  ofFleet("{t}.fleet"),
			before: inviteToFleet, after: forgetInvitees,
		},
	}
}

// keys are actors, what they prove themselves with, and what balena's model says of permissions. A key's one role is
// here what balena's clients read of roles; how a role of a person is spelt, the memberships say.
func keys() []resource {
	// A fleet's keys are for who develops it, a device's for who operates it.
	const of = "{t}.actor IN (SELECT o.actor FROM "
	return []resource{
		{
			name: "actor", virtual: true, table: "actors",
			fields: []field{{"id", number, "", "", 0}},
			navs: []nav{
				{"is_of__user user", "user", "actor"},
				{"is_of__application application", "application", "actor"},
				{"is_of__device device", "device", "actor"},
				{"api_key", "api_key", "is_of__actor"},
			},
			access: []grant{
				{who: known, may: read, rows: "{t}.id = {actor}"},
				{who: user, may: read, rows: "{t}.id IN (SELECT o.actor FROM fleets o WHERE o.id IN " + myFleets + ")"},
				{who: user, may: read, rows: "{t}.id IN (SELECT o.actor FROM devices o WHERE o.fleet IN " + myFleets + ")"},
			},
		},
		{
			name: "api_key", table: "api_keys",
			fields: []field{
				{"is_of__actor", ref, "actor", "actor", 0},
				{"name", text, "", "", onUpdate},
				{"description", text, "", "", onUpdate | orNull},
				{"expiry_date", moment, "", "", onUpdate | orNull},
			},
			navs: []nav{
				{"api_key__has__role", "api_key__has__role", "api_key"},
				{"api_key__has__permission", "api_key__has__permission", "api_key"},
			},
			access: []grant{
				{who: user, may: read | update | remove, rows: "{t}.actor = {actor}"},
				{who: user, may: read | update | remove, rows: of + "fleets o WHERE o.id IN " + fleetsOf(fleet.Developer) + ")"},
				{who: user, may: read | update | remove, rows: of + "devices o WHERE o.fleet IN " + fleetsOf(fleet.Operator) + ")"},
			},
			place: &place{
				organization: "(SELECT f.organization FROM fleets f WHERE f.actor = {t}.actor OR f.id = (SELECT d.fleet FROM devices d WHERE d.actor = {t}.actor))",
				fleet:        "(SELECT f.id FROM fleets f WHERE f.actor = {t}.actor OR f.id = (SELECT d.fleet FROM devices d WHERE d.actor = {t}.actor))",
				device:       "(SELECT d.id FROM devices d WHERE d.actor = {t}.actor)",
			},
			before: describeKey,
		},
		{
			name: "api_key__has__role", virtual: true,
			table: "(SELECT k.id, k.id AS api_key, o.id AS role FROM api_keys k JOIN " + keyRoles + " o ON o.name = k.role)",
			fields: []field{
				{"id", number, "", "", 0},
				{"api_key is_of__api_key", ref, "api_key", "api_key", 0},
				{"role", ref, "", "role", 0},
			},
			access: []grant{{who: user, may: read, via: "api_key"}},
		},
		{
			name: "role", virtual: true, table: keyRoles,
			fields: []field{
				{"id", number, "", "", 0},
				{"name", text, "", "", 0},
			},
			navs: []nav{
				{"is_of__api_key", "api_key__has__role", "role"},
				{"role__has__permission", "role__has__permission", "role"},
				{"user__has__role user_role is_of__user", "user__has__role", "role"},
			},
			access: []grant{{who: user, may: read, rows: everyRow}},
		},
		membershipRoles("organization_membership_role", "of_organization",
			nav{"is_of__organization_membership is_of__user__is_member_of__organization", "organization_membership", "organization_membership_role"},
			nav{"is_of__organization_invite is_of__invitee__is_invited_to__organization", "organization_invite", "organization_membership_role"}),
		membershipRoles("application_membership_role", "of_fleet",
			nav{"is_of__user_application_membership is_of__user__is_member_of__application", "user_application_membership", "application_membership_role"},
			nav{"is_of__team_application_access is_of__team__grants_access_to__application", "team_application_access", "application_membership_role"},
			nav{"is_of__application_invite is_of__invitee__is_invited_to__application", "application_invite", "application_membership_role"}),
		empty("permission", []field{{"name", text, "", "", 0}},
			nav{"is_of__role", "role__has__permission", "permission"},
			nav{"is_of__user user__has__permission user_permission", "user__has__permission", "permission"},
			nav{"is_of__api_key", "api_key__has__permission", "permission"}),
		empty("role__has__permission", []field{{"role is_of__role", ref, "role", "role", 0}, {"permission", ref, "", "permission", 0}}),
		empty("user__has__role user_role", []field{{"user is_of__user", ref, "user_id", "user", 0}, {"role", ref, "", "role", 0}, {"expiry_date", moment, "", "", 0}}),
		empty("user__has__permission user_permission", []field{{"user is_of__user", ref, "user_id", "user", 0}, {"permission", ref, "", "permission", 0}, {"expiry_date", moment, "", "", 0}}),
		empty("api_key__has__permission", []field{{"api_key is_of__api_key", ref, "api_key", "api_key", 0}, {"permission", ref, "", "permission", 0}}),
	}
}

// keyRoles are the roles of API keys, as rows.
const keyRoles = "(SELECT 1 AS id, '" + fleet.RoleUser + "' AS name UNION ALL SELECT 2, '" + fleet.RoleNamedUser +
	"' UNION ALL SELECT 3, '" + fleet.RoleProvisioning + "' UNION ALL SELECT 4, '" + fleet.RoleDevice + "')"

// membershipRoles are the roles that a membership of some kind can have. Everybody who is known may read them.
func membershipRoles(name, of string, navs ...nav) resource {
	return resource{
		name: name, table: "(SELECT o.id, o.created_at, o.modified_at, o.name FROM roles o WHERE o." + of + ")",
		fields: []field{{"name", text, "", "", 0}},
		navs:   navs,
		access: []grant{{who: user, may: read, rows: everyRow}},
	}
}

// trail is what was done. No rule ever writes or deletes a row of it.
func trail() []resource {
	return []resource{{
		name: "audit", table: "audit_events",
		fields: []field{
			{"actor", ref, "", "actor", 0},
			{"actor_kind", text, "", "", 0},
			{"actor_name", text, "", "", 0},
			{"api_key", ref, "", "api_key", 0},
			{"address", text, "", "", 0},
			{"verb", text, "", "", 0},
			{"resource", text, "", "", 0},
			{"row_id", number, "", "", 0},
			{"organization", ref, "", "organization", 0},
			{"application", ref, "fleet", "application", 0},
			{"details", document, "", "", 0},
		},
		access: []grant{
			{who: user, may: read, rows: ofOwner},
			{who: user, may: read, rows: "{t}.actor = {actor}"},
			// What is nobody's, or was the organization's that is gone, is for who runs the server.
			{who: user, may: read, rows: "{administrator} AND NOT EXISTS (SELECT 1 FROM organizations o WHERE o.id = {t}.organization)"},
		},
	}}
}
