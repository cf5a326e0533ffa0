package build

import "strings"

// fields says of every field of a compose mapping whether a device understands it: "" if it does, else what to do
// instead. A field that is not here is a spelling mistake or newer than this table.
type fields map[string]string

const (
	byTheFleet   = "remove it: the fleet's architecture decides"
	noSwarm      = "remove it: every device runs one container of each service"
	noSecrets    = "remove it: put build secrets under .balena/secrets, and run-time ones into the fleet's variables"
	noConfigs    = "remove it: put the file into the image, or the value into the fleet's variables"
	oneNetwork   = "remove it: services find each other by their names"
	engineOnly   = "remove it: it belongs to the device's engine"
	notOnDevices = "remove it: devices do not support it"
)

var topFields = fields{
	"version": "", "name": "", "services": "", "volumes": "", "networks": "",
	"secrets": noSecrets, "configs": noConfigs,
	"include": "put all services into one file", "models": notOnDevices, "jobs": notOnDevices,
}

var serviceFields = fields{
	"build": "", "image": "", "cap_add": "", "cap_drop": "", "cgroup_parent": "", "command": "", "container_name": "",
	"cpu_quota": "", "cpu_shares": "", "cpus": "", "cpuset": "", "depends_on": "", "device_cgroup_rules": "", "devices": "",
	"dns": "", "dns_opt": "", "dns_search": "", "domainname": "", "entrypoint": "", "env_file": "", "environment": "",
	"expose": "", "extends": "", "extra_hosts": "", "group_add": "", "healthcheck": "", "hostname": "", "init": "", "ipc": "",
	"labels": "", "mac_address": "", "mem_limit": "", "mem_reservation": "", "network_mode": "", "networks": "",
	"oom_score_adj": "", "pid": "", "pids_limit": "", "ports": "", "privileged": "", "read_only": "", "restart": "",
	"security_opt": "", "shm_size": "", "stop_grace_period": "", "stop_signal": "", "sysctls": "", "tmpfs": "", "tty": "",
	"ulimits": "", "user": "", "userns_mode": "", "volumes": "", "working_dir": "",

	"annotations": notOnDevices, "attach": notOnDevices, "blkio_config": notOnDevices, "cgroup": notOnDevices,
	"configs":   noConfigs,
	"cpu_count": "use cpus", "cpu_percent": "use cpus", "cpu_period": "use cpus",
	"cpu_rt_period": notOnDevices, "cpu_rt_runtime": notOnDevices, "credential_spec": notOnDevices,
	"deploy": noSwarm + "; limits have fields of their own, such as mem_limit and cpus", "develop": notOnDevices,
	"external_links": oneNetwork, "gpus": "remove it and use the label io.balena.features.gpu", "isolation": notOnDevices,
	"label_file": "write the labels under labels", "links": oneNetwork, "log_driver": engineOnly, "log_opt": engineOnly,
	"logging": "remove it: logs go to the server", "mem_swappiness": notOnDevices, "memswap_limit": notOnDevices,
	"models": notOnDevices, "oom_kill_disable": notOnDevices, "platform": byTheFleet, "post_start": notOnDevices,
	"pre_start": notOnDevices, "pre_stop": notOnDevices, "profiles": "remove it: every service runs on every device",
	"provider": notOnDevices, "pull_policy": "remove it: devices run exactly the image of the release", "runtime": engineOnly,
	"scale": noSwarm, "secrets": noSecrets, "stdin_open": notOnDevices, "storage_opt": engineOnly, "use_api_socket": notOnDevices,
	"uts": notOnDevices, "volume_driver": engineOnly, "volumes_from": "name the volume in both services",
}

var buildFields = fields{
	"context": "", "dockerfile": "", "args": "", "target": "", "labels": "", "extra_hosts": "", "shm_size": "", "cache_from": "",

	"additional_contexts": "put the files into the context", "cache_to": "remove it: the server keeps the cache",
	"dockerfile_inline": "write a Dockerfile", "entitlements": "remove it: builds have no privileges", "isolation": notOnDevices,
	"network": "remove it: builds have the network they need", "no_cache": "remove it: push with -o nocache",
	"platforms": byTheFleet, "privileged": "remove it: builds have no privileges", "provenance": engineOnly, "sbom": engineOnly,
	"pull": "remove it", "secrets": noSecrets, "ssh": "remove it: builds have no keys; use a build secret",
	"tags": "remove it: the server names images", "ulimits": notOnDevices, "no_cache_filter": "remove it: push with -o nocache",
}

var networkFields = fields{
	"driver": "", "driver_opts": "", "enable_ipv6": "", "internal": "", "ipam": "", "labels": "", "name": "",
	"attachable": noSwarm, "external": "remove it: a release makes its own networks", "enable_ipv4": notOnDevices,
}

var volumeFields = fields{
	"driver": "", "driver_opts": "", "labels": "", "name": "", "external": "remove it: a release makes its own volumes",
}

var endpointFields = fields{
	"aliases": "", "ipv4_address": "", "ipv6_address": "", "link_local_ips": "",
	"driver_opts": engineOnly, "gw_priority": notOnDevices, "interface_name": notOnDevices, "mac_address": "use mac_address of the service",
	"priority": notOnDevices, "use_service_name_alias": notOnDevices,
}

var healthFields = fields{
	"test": "", "interval": "", "timeout": "", "retries": "", "start_period": "", "disable": "", "start_interval": notOnDevices,
}

var portFields = fields{
	"target": "", "published": "", "protocol": "", "host_ip": "", "mode": "", "name": notOnDevices, "app_protocol": notOnDevices,
}

var mountFields = fields{
	"type": "", "source": "", "target": "", "read_only": "", "consistency": "", "bind": "", "tmpfs": "",
	"volume": "remove it: a volume is mounted as a whole", "image": notOnDevices,
}

var dependFields = fields{"condition": "", "required": notOnDevices, "restart": notOnDevices}

// checkFields complains about the first field of a mapping that devices do not understand. What n is not a mapping of is
// left to the schema. what names the mapping in front of the field.
func checkFields(file string, n *node, known fields, what string) error {
	if n == nil || n.kind != mapNode {
		return nil
	}
	for _, p := range n.pairs {
		advice, ok := known[p.key]
		switch {
		case strings.HasPrefix(p.key, "x-") || ok && advice == "":
		case ok:
			return at(file, p.line, "%s%s is not supported", what, p.key).WithHint(advice)
		default:
			return at(file, p.line, "%s%q is not a known field", what, shorten(p.key, 80)).WithHint("check its spelling and its indentation")
		}
	}
	return nil
}

// checkCompose looks at every mapping of a compose file whose fields are known.
func checkCompose(file string, root *node) error {
	if root.kind != mapNode {
		return at(file, root.line, "a compose file is a map with services")
	}
	if err := checkFields(file, root, topFields, ""); err != nil {
		return err
	}
	services := root.get("services")
	if services == nil || len(services.pairs) == 0 {
		return at(file, root.lineAt("services"), "there are no services")
	}
	for _, p := range services.pairs {
		if err := checkService(file, p); err != nil {
			return err
		}
	}
	for _, e := range []struct {
		kind  string
		known fields
	}{{"network", networkFields}, {"volume", volumeFields}} {
		n := root.get(e.kind + "s")
		if n == nil {
			continue
		}
		for _, p := range n.pairs {
			if err := checkFields(file, p.value, e.known, e.kind+" "+p.key+": "); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkService(file string, p pair) error {
	what, n := "service "+p.key+": ", p.value
	if n.kind != mapNode {
		return at(file, p.line, "%sit has neither build nor image", what)
	}
	if err := checkFields(file, n, serviceFields, what); err != nil {
		return err
	}
	type part struct {
		n     *node
		known fields
		what  string
	}
	parts := []part{
		{n.get("build"), buildFields, what + "build."},
		{n.get("healthcheck"), healthFields, what + "healthcheck."},
		{n.get("extends"), fields{"service": "", "file": "put both services into one file"}, what + "extends."},
	}
	for _, e := range []part{{n.get("networks"), endpointFields, "network "}, {n.get("depends_on"), dependFields, "depends_on "}} {
		if e.n != nil {
			for _, q := range e.n.pairs {
				parts = append(parts, part{q.value, e.known, what + e.what + q.key + ": "})
			}
		}
	}
	for _, e := range []part{{n.get("ports"), portFields, "ports: "}, {n.get("volumes"), mountFields, "volumes: "},
		{n.get("env_file"), fields{"path": "", "required": "", "format": notOnDevices}, "env_file: "}} {
		if e.n != nil {
			for _, i := range e.n.items {
				parts = append(parts, part{i, e.known, what + e.what})
			}
		}
	}
	for _, q := range parts {
		if err := checkFields(file, q.n, q.known, q.what); err != nil {
			return err
		}
	}
	return nil
}
