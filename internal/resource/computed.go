package resource

// Fields that are computed from a row {t} at the time {now}. What "online" means is fleet.Online's to say, and how a
// version is written fleet.Version's; tests hold these to them.

const (
	// online: heard of within one and a half poll intervals and 15 s (protocol §2.2).
	online = `COALESCE({t}.last_seen >= {now} - {t}.poll_interval_ms * 1500 - 15000000, FALSE)`

	// heartbeat: in the last 15 s of being online a device is in doubt.
	heartbeat = `CASE WHEN {t}.last_seen IS NULL THEN 'unknown'
		WHEN {t}.last_seen >= {now} - {t}.poll_interval_ms * 1500 THEN 'online'
		WHEN ` + online + ` THEN 'timeout' ELSE 'offline' END`

	// downloading: an image is on its way to the device.
	downloading = `EXISTS (SELECT 1 FROM image_installs i WHERE i.device = {t}.id AND i.status = 'Downloading' AND i.download_progress IS NOT NULL)`

	// overallStatus follows protocol §2.5, without what it says of a VPN.
	overallStatus = `CASE WHEN NOT {t}.is_active THEN 'inactive'
		WHEN {t}.provisioning_state = 'Post-Provisioning' THEN 'post-provisioning'
		WHEN {t}.last_seen IS NULL THEN 'configuring'
		WHEN NOT ` + online + ` THEN 'disconnected'
		WHEN ` + downloading + ` THEN 'updating'
		WHEN {t}.provisioning_progress IS NOT NULL THEN 'configuring'
		WHEN {t}.last_seen < {now} - {t}.poll_interval_ms * 1500 THEN 'reduced-functionality'
		ELSE 'operational' END`

	// overallProgress is in percent: of an update over the images of the releases that run and should run, else of
	// provisioning.
	overallProgress = `CASE WHEN ` + online + ` AND ` + downloading + ` THEN (
			SELECT CAST(ROUND(AVG(COALESCE(i.download_progress, 100))) AS INTEGER) FROM image_installs i
			WHERE i.device = {t}.id AND i.status <> 'deleted' AND i.release IN ({t}.running_release, {t}.pinned_release,
				(SELECT o.target_release FROM fleets o WHERE o.id = {t}.fleet AND {t}.pinned_release IS NULL)))
		ELSE {t}.provisioning_progress END`

	coreVersion = `{t}.semver_major || '.' || {t}.semver_minor || '.' || {t}.semver_patch`

	plainVersion = coreVersion + ` || CASE WHEN {t}.semver_prerelease = '' THEN '' ELSE '-' || {t}.semver_prerelease END`

	// buildPart is the build part of a version without revision, with what separates it from what comes before.
	buildPart = `CASE WHEN {t}.semver_build = '' THEN '' ELSE '+' || {t}.semver_build END`

	variantPart = `CASE WHEN {t}.variant = '' THEN '' WHEN {t}.semver_build = '' AND `

	semver = `(` + plainVersion + ` || ` + buildPart + ` || ` +
		variantPart + `TRUE THEN '+' || {t}.variant ELSE '.' || {t}.variant END)`

	// revised: the revision is named in the build part, unless it is the first or the build part names it already.
	revised = `({t}.revision > 0 AND '.' || {t}.semver_build || '.' = replace('.' || {t}.semver_build || '.', '.rev' || {t}.revision || '.', ''))`

	rawVersion = `(CASE WHEN {t}.revision IS NULL THEN
			` + plainVersion + ` || CASE WHEN {t}.semver_prerelease = '' THEN '-' ELSE '.' END || ({t}.created_at / 1000)
		ELSE ` + plainVersion + ` || ` + buildPart + ` ||
			CASE WHEN NOT ` + revised + ` THEN '' WHEN {t}.semver_build = '' THEN '+rev' || {t}.revision ELSE '.rev' || {t}.revision END || ` +
		variantPart + `NOT ` + revised + ` THEN '+' || {t}.variant ELSE '.' || {t}.variant END
		END)`

	// versionObject needs no quoting but the texts': a version has letters, digits, dots and dashes alone.
	versionObject = `('{"raw":"' || ` + rawVersion + ` || '","major":' || {t}.semver_major || ',"minor":' || {t}.semver_minor ||
		',"patch":' || {t}.semver_patch || ',"prerelease":' || ` + listOf + `{t}.semver_prerelease` + listEnd + ` || ',"build":' || ` +
		listOf + `{t}.semver_build` + listEnd + ` || ',"version":"' || ` + plainVersion + ` || '"}')`

	listOf  = `replace('["' || replace(`
	listEnd = `, '.', '","') || '"]', '[""]', '[]')`
)
