# What this machine needs besides Go, and a container engine that runs. Sourced by the other scripts; bash.
# shellcheck shell=bash

# say_error WHAT WHY DO: one error, in the three parts a person needs.
say_error() {
	printf 'error: %s: %s\n' "$1" "$2" >&2
	printf 'hint: %s\n' "$3" >&2
}

# as_root COMMAND…: run a command as root, by sudo if need be.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say_error "cannot run $1" "it needs root, and there is no sudo" "run this as root, or install sudo"
		return 1
	fi
}

# need_go: the one thing the distribution's packages are too old for.
need_go() {
	if ! command -v go >/dev/null; then
		say_error "cannot build" "there is no Go" "install Go 1.26 or newer from https://go.dev/dl/ and put it on the PATH"
		return 1
	fi
	local version
	version=$(go env GOVERSION)
	case $version in
	go1.2[6-9]* | go1.[3-9][0-9]* | go[2-9]* | devel*) ;;
	*)
		say_error "cannot build" "Go is $version" "install Go 1.26 or newer from https://go.dev/dl/"
		return 1
		;;
	esac
}

# need_packages PACKAGE…: install from the distribution what is not there yet.
need_packages() {
	local missing=() p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	if ! command -v apt-get >/dev/null; then
		say_error "cannot install ${missing[*]}" "this is no Debian or Ubuntu" "install them by hand and start again"
		return 1
	fi
	echo "Installing ${missing[*]}"
	local log
	log=$(mktemp)
	if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		say_error "cannot install ${missing[*]}" "apt-get failed, see above" "mend the package sources and start again"
		return 1
	fi
	rm -f "$log"
}

# need_engine: install and start a Docker Engine unless one answers. Sets ENGINE_JOB if this call started it by hand;
# stop_engine ends it then. On a machine with systemd the engine is started as its service and stays.
ENGINE_JOB="" ENGINE_LOG=""
need_engine() {
	engine_answers && return 0
	if ! command -v dockerd >/dev/null && [ ! -x /usr/sbin/dockerd ]; then
		need_packages docker.io iptables || return 1
	fi
	engine_answers && return 0
	if [ -d /run/systemd/system ]; then
		as_root systemctl start docker || true
	else
		echo "Starting the Docker Engine"
		ENGINE_LOG=$(mktemp)
		# Its own session: Ctrl-C is for us, and we stop it in order.
		as_root setsid env PATH="$PATH:/usr/sbin:/sbin" dockerd --pidfile "$ENGINE_LOG.pid" >"$ENGINE_LOG" 2>&1 &
		ENGINE_JOB=$!
	fi
	local i
	for ((i = 0; i < 120; i++)); do
		engine_answers && return 0
		[ -n "$ENGINE_JOB" ] && ! kill -0 "$ENGINE_JOB" 2>/dev/null && break
		sleep 0.5
	done
	[ -n "$ENGINE_JOB" ] && tail -n 10 "$ENGINE_LOG" >&2
	say_error "cannot start the Docker Engine" "it does not answer on /var/run/docker.sock" "look at its log; 'dockerd' as root says more"
	return 1
}

# engine_answers: whether an engine answers on the usual socket, asked as root if need be.
engine_answers() {
	local curl=(curl -fsS -m 5 --unix-socket /var/run/docker.sock http://docker/_ping)
	"${curl[@]}" >/dev/null 2>&1 || { [ "$(id -u)" != 0 ] && [ -S /var/run/docker.sock ] && as_root "${curl[@]}" >/dev/null 2>&1; }
}

# stop_engine: end the engine that need_engine started by hand, and wait until it has ended.
stop_engine() {
	[ -n "$ENGINE_JOB" ] || return 0
	as_root kill "$(cat "$ENGINE_LOG.pid")" 2>/dev/null || true
	wait "$ENGINE_JOB" 2>/dev/null || true
	ENGINE_JOB=""
	rm -f "$ENGINE_LOG"
}
