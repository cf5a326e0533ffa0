// Does through balena's SDK what a script of a user does, and says of each part whether it went well. It is given the
// server's URL, an account, a fleet with a release, and an empty folder, all in the environment.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { getSdk } = require('balena-sdk');

const { API_URL: apiUrl, EMAIL: email, PASSWORD: password, FLEET: fleet, FOLDER: folder } = process.env;
const sdk = (name) => getSdk({ apiUrl, builderUrl: apiUrl, dashboardUrl: apiUrl, dataDirectory: path.join(folder, name) });
const balena = sdk('main');
const { models, pine } = balena;

// refused is an error of the SDK with this code or in this message.
const refused = async (what, promise) => {
	let error;
	try {
		await promise;
	} catch (e) {
		error = e;
	}
	assert.ok(error, `should be refused with ${what}`);
	assert.ok(error.code === what || error.name === what || error.message.includes(what), `refused with ${error.code} ${error.message}, not ${what}`);
};

// aFleet makes a fleet that its part has for itself.
const aFleet = (name) => models.application.create({ name, deviceType: 'generic-amd64', organization: 'admin' });

const parts = {
	async auth() {
		const who = await balena.auth.whoami();
		assert.equal(who.actorType, 'user');
		assert.equal(who.username, 'admin');
		assert.equal(who.email, email);
		assert.equal((await balena.auth.getUserInfo()).id, who.actorTypeId);
		assert.equal(await balena.auth.getActorId(), who.id);
		assert.ok(await balena.auth.isLoggedIn());
		const other = sdk('other');
		assert.equal(await other.auth.isLoggedIn(), false);
		await refused('BalenaNotLoggedIn', other.auth.getUserInfo());
		await refused('BalenaInvalidLoginCredentials', other.auth.login({ email, password: 'wrong' }));
		await other.auth.login({ email, password });
		await other.auth.logout();
		assert.equal(await other.auth.isLoggedIn(), false);
	},

	async keys() {
		const key = await models.apiKey.create({ name: 'of the sdk', description: 'for a test', expiryDate: '2124-01-01T00:00:00.000Z' });
		const other = sdk('keyed');
		await other.auth.loginWithToken(key);
		assert.equal((await other.auth.whoami()).username, 'admin');
		const named = await models.apiKey.getAllNamedUserApiKeys();
		const mine = named.find((k) => k.name === 'of the sdk');
		assert.equal(mine.description, 'for a test');
		assert.equal(mine.expiry_date, '2124-01-01T00:00:00.000Z');
		await models.apiKey.update(mine.id, { name: 'renamed', description: null });
		assert.ok((await models.apiKey.getAll()).some((k) => k.name === 'renamed' && k.description === null));
		await models.apiKey.revoke(mine.id);
		assert.equal(await other.auth.isLoggedIn(), false);

		const ssh = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBnuMVX+PRWg4XP7fDKzBnqlYmmUm6Ko51bmCyqbqBwL';
		const added = await models.key.create('of the sdk', ssh);
		assert.equal((await models.key.get(added.id)).public_key, ssh);
		assert.ok((await models.key.getAll()).some((k) => k.title === 'of the sdk'));
		await models.key.remove(added.id);
		await refused('not found', models.key.get(added.id));
	},

	async applications() {
		const made = await aFleet('sdk-fleet');
		assert.equal(made.slug, 'admin/sdk-fleet');
		assert.ok(made.is_for__device_type.__id > 0);
		await refused('must be unique', aFleet('sdk-fleet'));
		await refused('BalenaInvalidDeviceType', models.application.create({ name: 'sdk-none', deviceType: 'foobarbaz', organization: 'admin' }));
		await refused('BalenaOrganizationNotFound', models.application.create({ name: 'sdk-none', deviceType: 'generic-amd64', organization: 'nobody' }));
		assert.ok(await models.application.has(made.slug));
		assert.ok(await models.application.hasAny());
		for (const by of [made.id, made.slug, made.uuid]) {
			assert.equal((await models.application.get(by)).app_name, 'sdk-fleet');
		}
		assert.equal((await models.application.getDirectlyAccessible(made.slug)).id, made.id);
		assert.ok((await models.application.getAllByOrganization('admin')).some((a) => a.id === made.id));
		await models.application.rename(made.id, 'sdk-fleet-renamed');
		assert.equal((await models.application.get(made.id)).slug, 'admin/sdk-fleet-renamed');
		await refused('BalenaApplicationNotFound', models.application.get('admin/sdk-fleet'));
		assert.equal(await models.application.willTrackNewReleases(made.id), true);
		const key = await models.application.generateProvisioningKey({ slugOrUuidOrId: made.id, keyName: 'card', keyExpiryDate: null });
		assert.match(key, /^\S{32,}$/);
		assert.ok((await models.apiKey.getProvisioningApiKeysByApplication(made.id)).some((k) => k.name === 'card'));
		await models.application.remove(made.id);
		await refused('BalenaApplicationNotFound', models.application.remove(made.id));
	},

	async devices() {
		const yard = await aFleet('sdk-yard');
		const other = await aFleet('sdk-other');
		const uuid = models.device.generateUniqueKey();
		const registered = await models.device.register(yard.id, uuid);
		assert.equal(registered.uuid, uuid);
		assert.match(registered.api_key, /^\S{32,}$/);
		const d = await models.device.get(uuid);
		assert.equal(d.id, registered.id);
		assert.equal(await models.device.isOnline(uuid), false);
		assert.equal(await models.device.getStatus(uuid), 'configuring');
		await models.device.rename(uuid, 'sdk device');
		assert.equal(await models.device.getName(uuid), 'sdk device');
		assert.equal((await models.device.getByName('sdk device')).length, 1);
		await models.device.setNote(uuid, 'a note');
		assert.equal((await models.device.get(uuid)).note, 'a note');
		await models.device.setCustomLocation(uuid, { latitude: 41.4, longitude: -21.5 });
		assert.equal((await models.device.get(uuid)).custom_latitude, '41.4');
		await models.device.unsetCustomLocation(uuid);
		assert.equal((await models.device.get(uuid)).custom_latitude, '');
		await models.device.enableDeviceUrl(uuid);
		assert.equal(await models.device.hasDeviceUrl(uuid), true);
		await models.device.disableDeviceUrl(uuid);
		assert.equal(await models.device.getApplicationName(uuid), 'sdk-yard');
		await refused('must be unique', models.device.register(yard.id, uuid));
		await refused('BalenaDeviceNotFound', models.device.get(models.device.generateUniqueKey()));
		await models.device.move(uuid, other.id);
		assert.equal(await models.device.getApplicationName(uuid), 'sdk-other');
		assert.equal((await models.device.getAllByOrganization('admin')).filter((x) => x.uuid === uuid).length, 1);
		await models.device.enableLockOverride(uuid);
		assert.equal(await models.device.hasLockOverride(uuid), true);
		await refused('not yet fully provisioned', models.device.enableLocalMode(uuid));
		assert.match(await models.device.generateDeviceKey(uuid), /^\S{32,}$/);
		for (const action of ['reboot', 'shutdown', 'purge', 'identify', 'ping']) {
			await refused('No online device(s) found', models.device[action](uuid));
		}
		await models.device.grantSupportAccess(uuid, Date.now() + 3600_000);
		await models.device.revokeSupportAccess(uuid);
		await models.device.deactivate(uuid);
		await models.device.remove(uuid);
		assert.equal(await models.device.has(uuid), false);
	},

	async variables() {
		const { id: app } = await models.application.get(fleet);
		const uuid = models.device.generateUniqueKey();
		const { id: device } = await models.device.register(app, uuid);
		const [service] = await models.service.getAllByApplication(app);
		assert.equal(service.service_name, 'main');
		const all = [
			[models.application.envVar, [app], 'EDITOR', 'getAllByApplication'],
			[models.application.configVar, [app], 'BALENA_SUPERVISOR_DELTA', 'getAllByApplication'],
			[models.application.buildVar, [app], 'MAKEFLAGS', 'getAllByApplication'],
			[models.service.var, [service.id], 'PAGER', 'getAllByService'],
			[models.device.envVar, [device], 'SHELL', 'getAllByDevice'],
			[models.device.configVar, [device], 'BALENA_HOST_CONFIG_gpu_mem', 'getAllByDevice'],
			[models.device.serviceVar, [device, service.id], 'BROWSER', 'getAllByDevice'],
		];
		for (const [model, of, name, list] of all) {
			await model.set(...of, name, 'one');
			await model.set(...of, name, 'two');
			assert.equal(await model.get(...of, name), 'two', name);
			assert.ok((await model[list](of[0])).some((v) => v.name === name && v.value === 'two'), name);
			await model.remove(...of, name);
			assert.equal(await model.get(...of, name), undefined, name);
		}
		await refused('NOT_ONE', models.application.configVar.set(app, 'NOT_ONE', 'x'));
		assert.equal((await models.device.serviceVar.getAllByApplication(app)).length, 0);
		await models.device.remove(uuid);
	},

	async tags() {
		const app = await models.application.get(fleet);
		const uuid = models.device.generateUniqueKey();
		const { id } = await models.device.register(app.id, uuid);
		const release = await models.release.getLatestByApplication(app.id);
		for (const [model, of, list] of [
			[models.application.tags, app.id, 'getAllByApplication'],
			[models.device.tags, id, 'getAllByDevice'],
			[models.release.tags, release.id, 'getAllByRelease'],
		]) {
			await model.set(of, 'EDITOR', 'vim');
			await model.set(of, 'EDITOR', 'ed');
			await model.set(of, 'OTHER', '');
			assert.deepEqual((await model[list](of)).map((t) => [t.tag_key, t.value]), [['EDITOR', 'ed'], ['OTHER', '']]);
			await model.remove(of, 'EDITOR');
			await model.remove(of, 'OTHER');
			assert.equal((await model[list](of)).length, 0);
		}
		await models.device.remove(uuid);
	},

	async releases() {
		const app = await models.application.get(fleet);
		const latest = await models.release.getLatestByApplication(app.id);
		assert.equal(latest.status, 'success');
		const detailed = await models.release.getWithImageDetails(latest.commit);
		assert.deepEqual(detailed.images.map((i) => i.service_name), ['main']);
		assert.equal((await models.release.get({ application: app.id, rawVersion: latest.raw_version })).id, latest.id);
		assert.equal(await models.application.getTargetReleaseHash(app.id), latest.commit);
		assert.equal(await models.application.isTrackingLatestRelease(app.id), true);
		await models.release.setNote(latest.id, 'a note');
		await models.release.setKnownIssueList(latest.id, 'none yet');
		const changed = await models.release.get(latest.id);
		assert.deepEqual([changed.note, changed.known_issue_list], ['a note', 'none yet']);
		const image = await models.image.get(detailed.images[0].id);
		assert.match(image.content_hash, /^sha256:[0-9a-f]{64}$/);
		assert.equal(image.build_log, undefined);
		await models.image.getLogs(image.id);

		// A release as a builder makes it, row by row.
		const second = await pine.post({
			resource: 'release',
			body: {
				belongs_to__application: app.id, composition: { services: { main: { image: 'x' } } }, commit: models.device.generateUniqueKey(),
				status: 'running', source: 'local', start_timestamp: new Date().toISOString(), is_final: false, semver: '1.2.3',
			},
		});
		const [service] = await models.service.getAllByApplication(app.id);
		const made = await pine.post({
			resource: 'image',
			body: { is_a_build_of__service: service.id, status: 'running', start_timestamp: new Date().toISOString() },
		});
		assert.match(made.is_stored_at__image_location, /^[^/]+\/v2\/[0-9a-f]{32}$/);
		await pine.post({ resource: 'image__is_part_of__release', body: { image: made.id, is_part_of__release: second.id } });
		await pine.patch({
			resource: 'image', id: made.id,
			body: { status: 'success', push_timestamp: new Date().toISOString(), content_hash: 'sha256:' + '0'.repeat(64), image_size: '3' },
		});
		await pine.patch({ resource: 'release', id: second.id, body: { status: 'success', end_timestamp: new Date().toISOString() } });
		const draft = await models.release.get(second.id);
		assert.equal(draft.is_final, false);
		assert.match(draft.raw_version, /^1\.2\.3-\d+$/);
		assert.equal(await models.application.getTargetReleaseHash(app.id), latest.commit);
		await models.release.finalize(draft.id);
		assert.equal((await models.release.get(draft.id)).raw_version, '1.2.3');
		assert.equal(await models.application.getTargetReleaseHash(app.id), draft.commit);
		await models.release.setIsInvalidated(draft.id, true);
		assert.equal(await models.application.getTargetReleaseHash(app.id), latest.commit);

		const uuid = models.device.generateUniqueKey();
		await models.device.register(app.id, uuid);
		await models.device.pinToRelease(uuid, latest.commit);
		assert.equal(await models.device.isTrackingApplicationRelease(uuid), false);
		assert.equal(await models.device.getTargetReleaseHash(uuid), latest.commit);
		await models.device.trackApplicationRelease(uuid);
		assert.equal(await models.device.isTrackingApplicationRelease(uuid), true);
		await models.application.pinToRelease(app.id, latest.commit);
		assert.equal(await models.application.isTrackingLatestRelease(app.id), false);
		await models.application.trackLatestRelease(app.id);
		assert.equal(await models.application.isTrackingLatestRelease(app.id), true);
		await models.device.remove(uuid);

		const file = path.join(folder, 'asset.bin');
		const content = Buffer.alloc(6 << 20, 'asset');
		fs.writeFileSync(file, content);
		const asset = await models.release.asset.upload({ release: latest.id, asset_key: 'firmware', asset: file });
		const back = [];
		for await (const chunk of await models.release.asset.download(asset.id)) {
			back.push(chunk);
		}
		assert.ok(Buffer.concat(back).equals(content));
		await models.release.asset.remove(asset.id);
		assert.equal((await models.release.asset.getAllByRelease(latest.id)).length, 0);
	},

	async logs() {
		const { id: app } = await models.application.get(fleet);
		const uuid = models.device.generateUniqueKey();
		const { api_key: key } = await models.device.register(app, uuid);
		const stream = http.request(`${apiUrl}/device/v2/${uuid}/log-stream`, {
			method: 'POST', headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/x-ndjson' },
		});
		stream.on('error', () => undefined); // it is torn down at the end
		const say = (message) => stream.write(JSON.stringify({ message, timestamp: Date.now(), isSystem: true }) + '\n');
		say('before');
		let history = [];
		while (!history.length) {
			history = await balena.logs.history(uuid);
		}
		assert.deepEqual(history.map((l) => [l.message, l.isSystem, typeof l.createdAt]), [['before', true, 'number']]);
		const subscription = await balena.logs.subscribe(uuid, { count: 'all' });
		const lines = [];
		await new Promise((resolve, reject) => {
			subscription.on('error', reject);
			subscription.on('line', (line) => {
				lines.push(line.message);
				if (line.message === 'before') {
					say('after');
				} else {
					resolve();
				}
			});
		});
		subscription.unsubscribe();
		assert.deepEqual(lines, ['before', 'after']);
		stream.destroy();
		await models.device.remove(uuid);
	},

	async configuration() {
		const config = await models.config.getAll();
		assert.equal(config.apiUrl, apiUrl);
		const made = await models.os.getConfig(fleet, { version: '6.0.0', network: 'ethernet', appUpdatePollInterval: 5 });
		assert.deepEqual([made.apiEndpoint, made.deviceType, made.appUpdatePollInterval], [apiUrl, 'generic-amd64', 300000]);
		const { configVarSchema: { properties } } = await models.config.getConfigVarSchema('generic-amd64');
		assert.ok('BALENA_SUPERVISOR_POLL_INTERVAL' in properties || 'RESIN_SUPERVISOR_POLL_INTERVAL' in properties);
		assert.ok((await models.config.getDeviceTypes()).some((t) => t.slug === 'generic-amd64'));
		assert.equal((await models.config.getDeviceTypeManifestBySlug('generic-amd64')).slug, 'generic-amd64');
		const type = await models.deviceType.getBySlugOrName('generic-amd64');
		assert.equal(await models.deviceType.getName(type.slug), type.name);
		assert.ok((await models.deviceType.getAll()).length > 10);
		await models.os.getAvailableOsVersions('generic-amd64');
	},

	async organizations() {
		assert.ok((await models.organization.getAll()).some((o) => o.handle === 'admin'));
		const made = await models.organization.create({ name: 'Of the SDK' });
		assert.equal((await models.organization.get(made.handle)).name, 'Of the SDK');
		const [membership] = await models.organization.membership.getAllByOrganization(made.id);
		assert.equal(membership.user.__id, (await balena.auth.getUserInfo()).id);
		await models.organization.invite.create(made.id, { invitee: 'someone@example.com', roleName: 'member' });
		const [invite] = await models.organization.invite.getAllByOrganization(made.id);
		await models.organization.invite.revoke(invite.id);
		const team = await models.team.create(made.id, 'night shift');
		assert.equal((await models.team.getAllByOrganization(made.id)).length, 1);
		await models.team.rename(team.id, 'day shift');
		assert.equal((await models.team.get(team.id)).name, 'day shift');
		await models.team.remove(team.id);
		await models.organization.remove(made.id);
		await refused('BalenaOrganizationNotFound', models.organization.get(made.id));
	},

	async pine() {
		const [app] = await pine.get({
			resource: 'application',
			options: {
				$select: ['id', 'slug'], $filter: { slug: fleet },
				$expand: {
					organization: { $select: 'handle' },
					owns__release: { $select: ['id', 'commit'], $top: 1, $orderby: { created_at: 'desc' }, $expand: { release_image: { $count: {} } } },
					owns__device: { $count: { $filter: { is_online: true } } },
				},
			},
		});
		assert.equal(app.organization[0].handle, 'admin');
		assert.equal(app.owns__release[0].release_image, 1);
		assert.equal(app.owns__device, 0);
		const count = await pine.get({ resource: 'device_type', options: { $count: { $filter: { slug: { $startswith: 'raspberry' } } } } });
		assert.ok(count > 3);
		const named = await pine.get({
			resource: 'device_type',
			options: { $select: 'slug', $filter: { device_type_alias: { $any: { $alias: 'a', $expr: { a: { is_referenced_by__alias: 'generic-amd64' } } } } } },
		});
		assert.deepEqual(named.map((t) => t.slug), ['generic-amd64']);
		await pine.upsert({
			resource: 'application_tag', id: { application: app.id, tag_key: 'of-pine' }, body: { value: 'one' },
		});
		await pine.upsert({
			resource: 'application_tag', id: { application: app.id, tag_key: 'of-pine' }, body: { value: 'two' },
		});
		assert.equal((await pine.get({ resource: 'application_tag', id: { application: app.id, tag_key: 'of-pine' } })).value, 'two');
		await pine.delete({ resource: 'application_tag', options: { $filter: { application: app.id, tag_key: 'of-pine' } } });
		await refused('no_such_resource', pine.get({ resource: 'no_such_resource' }));
		await refused('no_such_field', pine.get({ resource: 'device', options: { $select: 'no_such_field' } }));
	},
};

(async () => {
	await balena.auth.login({ email, password });
	for (const [name, part] of Object.entries(parts)) {
		try {
			await part();
			console.log(`ok ${name}`);
		} catch (e) {
			process.exitCode = 1;
			console.log(`not ok ${name}: ${e.stack}`);
		}
	}
	process.exit();
})();
