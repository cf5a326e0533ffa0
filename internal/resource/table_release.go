package resource

// releases are releases and what is built for them. A release, its tags and its images are as public as its fleet is.
func releases() []resource {
	link := field{"release_image image__is_part_of__release", ref, "release_image", "release_image", atFirst}
	return []resource{
		{
			name: "release", table: "releases",
			fields: []field{
				{"belongs_to__application", ref, "fleet", "application", atFirst},
				{"commit", text, "commit_id", "", atFirst},
				{"status", text, "", "", always},
				{"source", text, "", "", onCreate},
				{"composition", document, "", "", mandatory},
				{"contract", document, "", "", always | orNull},
				{"is_created_by__user", ref, "created_by", "user", 0},
				{"is_final", boolean, "({t}.revision IS NOT NULL)", "", always},
				{"is_finalized_at__date", moment, "finalized_at", "", 0},
				{"is_invalidated", boolean, "", "", always},
				{"invalidation_reason", text, "", "", always | orNull},
				{"is_passing_tests", boolean, "", "", always},
				{"start_timestamp", moment, "", "", always},
				{"end_timestamp", moment, "", "", always | orNull},
				{"update_timestamp", moment, "", "", 0},
				{"semver_major", number, "", "", 0},
				{"semver_minor", number, "", "", 0},
				{"semver_patch", number, "", "", 0},
				{"semver_prerelease", text, "", "", 0},
				{"semver_build", text, "", "", 0},
				{"variant", text, "", "", always},
				{"revision", number, "", "", 0},
				{"semver", text, semver, "", always},
				{"raw_version", text, rawVersion, "", 0},
				{"version", document, versionObject, "", 0},
				{"release_version", text, "", "", always | orNull},
				{"phase", text, "", "", always | orNull},
				{"known_issue_list", text, "", "", always | orNull},
				{"note", text, "", "", always | orNull},
				{"build_log", text, "", "", always | orNull},
			},
			navs: []nav{
				{"release_image image__is_part_of__release contains__image", "release_image", "is_part_of__release"},
				{"release_tag release__has__tag_key", "release_tag", "release"},
				{"release_asset release__has__asset_key", "release_asset", "release"},
				{"should_be_running_on__application", "application", "should_be_running__release"},
				{"should_be_running_on__device", "device", "should_be_running__release"},
				{"is_running_on__device", "device", "is_running__release"},
				{"is_pinned_to__device", "device", "is_pinned_on__release"},
				{"should_operate__device", "device", "should_be_operated_by__release"},
				{"should_manage__device", "device", "should_be_managed_by__release"},
				{"provides__image_install provides__device__installs__image", "image_install", "is_provided_by__release"},
			},
			access: []grant{
				{who: nobody | user | device, may: read, via: "belongs_to__application"},
				{who: user, may: create | update | remove, via: "belongs_to__application"},
			},
			usersOnly: "build_log",
			asked:     "build_log",
			before:    editRelease, after: followRelease,
		},
		shown(tags("release_tag release__has__tag_key", "release_tags", field{"release", ref, "", "release", atFirst})),
		{
			name: "release_asset release__has__asset_key", table: "release_assets",
			fields: []field{
				{"release", ref, "", "release", atFirst},
				{"asset_key", text, "", "", mandatory},
				{"asset", document, assetObject, "", onCreate | orNull},
			},
			access: []grant{
				{who: user | device, may: read, via: "release"},
				{who: user, may: create | update | remove, via: "release"},
			},
			before: checkAsset,
		},
		{
			name: "image", table: "images",
			fields: []field{
				{"is_a_build_of__service is_a_build_of__application__has__service_name", ref, "service", "service", atFirst},
				{"is_stored_at__image_location", text, "location", "", 0},
				{"content_hash", text, "", "", always | orNull},
				{"image_size", big, "", "", always | orNull},
				{"status", text, "", "", always},
				{"project_type", text, "", "", always | orNull},
				{"dockerfile", text, "", "", always | orNull},
				{"contract", document, "", "", always | orNull},
				{"error_message", text, "", "", always | orNull},
				{"build_log", text, "", "", always | orNull},
				{"start_timestamp", moment, "", "", always},
				{"end_timestamp", moment, "", "", always | orNull},
				{"push_timestamp", moment, "", "", always | orNull},
			},
			navs: []nav{
				{"release_image image__is_part_of__release is_part_of__release", "release_image", "image"},
				{"image_install device__installs__image is_installed_on__device", "image_install", "installs__image"},
			},
			access: []grant{
				{who: user | device, may: read, via: "is_a_build_of__service"},
				{who: user, may: create | update, via: "is_a_build_of__service"},
			},
			usersOnly: "dockerfile error_message build_log",
			asked:     "build_log",
			before:    editImage,
		},
		{
			name: "release_image image__is_part_of__release", table: "release_images",
			fields: []field{
				{"image contains__image", ref, "image", "image", atFirst},
				{"is_part_of__release release", ref, "release", "release", atFirst},
			},
			navs: []nav{
				{"image_label release_image__has__label_name image__is_part_of__release__has__label_name", "image_label", "release_image"},
				{"image_environment_variable release_image__has__name image__is_part_of__release__has__name", "image_environment_variable", "release_image"},
				{"image_profile release_image__has__profile_name image__is_part_of__release__has__profile_name", "image_profile", "release_image"},
			},
			access: []grant{
				{who: user | device, may: read, via: "is_part_of__release"},
				// No field of it can be changed, but who may change the release may change its labels.
				{who: user, may: create | update | remove, via: "is_part_of__release"},
			},
			affects: &affects{"(SELECT r.fleet FROM releases r WHERE r.id = {t}.release AND r.status = 'success')", "NULL", ""},
			before:  joinRelease,
		},
		{
			// Balena's model has none of these.
			name: "delta", table: "deltas",
			fields: []field{
				{"originates_from__image", ref, "source", "image", atFirst},
				{"produces__image", ref, "target", "image", atFirst},
				{"originates_from__release", ref, "(SELECT MIN(ri.release) FROM release_images ri WHERE ri.image = {t}.source)", "release", 0},
				{"produces__release", ref, "(SELECT MIN(ri.release) FROM release_images ri WHERE ri.image = {t}.target)", "release", 0},
				{"format", text, "", "", onCreate},
				{"status", text, "", "", onUpdate},
				{"reason", text, "", "", 0},
				{"size", big, "", "", 0},
				{"replaced_size", big, "replaces", "", 0},
				{"content_hash", text, "manifest", "", 0},
				{"attempt_count", number, "attempts", "", 0},
				{"start_timestamp", moment, "started_at", "", 0},
				{"end_timestamp", moment, "ended_at", "", 0},
				{"use_count", number, "used", "", 0},
				{"last_used_timestamp", moment, "last_used_at", "", 0},
			},
			access: []grant{
				{who: user | device, may: read, via: "produces__image"},
				{who: user, may: create | update | remove, via: "produces__image"},
			},
			before: editDelta,
		},
		ofImage("image_label image__is_part_of__release__has__label_name release_image__has__label_name", "image_labels",
			[]field{link, {"label_name", text, "", "", mandatory}, {"value", text, "", "", mandatory}}, checkLabel),
		ofImage("image_environment_variable image__is_part_of__release__has__name release_image__has__name", "image_variables",
			[]field{link, {"name", text, "", "", mandatory}, {"value", text, "", "", mandatory}}, checkImageVariable),
		ofImage("image_profile image__is_part_of__release__has__profile_name release_image__has__profile_name", "image_profiles",
			[]field{link, {"profile_name", text, "", "", mandatory}}, checkImageProfile),
	}
}

// ofImage is what an image is to one release. It is settled when the release is.
func ofImage(name, table string, fields []field, check rule) resource {
	return resource{
		name: name, table: table, fields: fields,
		access: []grant{
			{who: user | device, may: read, via: "release_image"},
			{who: user, may: create | update | remove, via: "release_image"},
		},
		affects: &affects{`(SELECT r.fleet FROM release_images l JOIN releases r ON r.id = l.release
			WHERE l.id = {t}.release_image AND r.status = 'success')`, "NULL", ""},
		before: unsettled(check),
	}
}
