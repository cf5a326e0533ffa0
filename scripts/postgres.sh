# A PostgreSQL server of the tests' own, from the distribution's packages; the cluster that comes with them is left
# alone. Sourced by the other scripts, after engine.sh; bash, and root.
# shellcheck shell=bash

# need_postgres: install PostgreSQL and start a server in a folder of its own. Sets POSTGRES to its URL; stop_postgres
# ends it and removes everything it wrote.
POSTGRES_DIR=""
need_postgres() {
	need_packages postgresql || return 1
	local bin where=${TMPDIR:-/tmp} password port i
	bin=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
	bin=${bin%/initdb}
	if [ -z "$bin" ]; then
		say_error "cannot start PostgreSQL" "its programs are not below /usr/lib/postgresql" "install the package postgresql again"
		return 1
	fi
	# A database is hundreds of files, and each test makes one: in memory it is there at once.
	if [ "$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -ge 2000000 ] 2>/dev/null; then
		where=/dev/shm
	fi
	POSTGRES_DIR=$(mktemp -d "$where/dunlin-postgres.XXXXXX")
	password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	echo "$password" >"$POSTGRES_DIR/password"
	: >"$POSTGRES_DIR/log"
	chown -R postgres "$POSTGRES_DIR" # the server refuses to run as root
	if ! runuser -u postgres -- "$bin/initdb" -D "$POSTGRES_DIR/data" -U dunlin --auth=scram-sha-256 --pwfile="$POSTGRES_DIR/password" \
		-E UTF8 --locale=C.UTF-8 --no-sync >"$POSTGRES_DIR/log" 2>&1; then
		tail -n 20 "$POSTGRES_DIR/log" >&2
		say_error "cannot start PostgreSQL" "initdb failed, see above" "look whether $where has room"
		return 1
	fi
	# It lives as long as the tests: nothing has to survive a crash.
	for ((i = 0; i < 10; i++)); do
		port=$(shuf -i 20000-60000 -n 1)
		if runuser -u postgres -- "$bin/pg_ctl" -D "$POSTGRES_DIR/data" -l "$POSTGRES_DIR/log" -w start -o "-c listen_addresses=127.0.0.1 \
			-c port=$port -c unix_socket_directories=$POSTGRES_DIR -c max_connections=300 -c fsync=off -c synchronous_commit=off \
			-c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=4GB -c autovacuum=off" >/dev/null 2>&1; then
			# shellcheck disable=SC2034 # for who sources this
			POSTGRES=postgres://dunlin:$password@127.0.0.1:$port/postgres
			return 0
		fi
	done
	tail -n 20 "$POSTGRES_DIR/log" >&2
	say_error "cannot start PostgreSQL" "it does not start, see above" "look at what it says"
	return 1
}

# stop_postgres: end the server that need_postgres started.
stop_postgres() {
	[ -n "$POSTGRES_DIR" ] || return 0
	if [ -f "$POSTGRES_DIR/data/postmaster.pid" ]; then
		local pid
		pid=$(head -n 1 "$POSTGRES_DIR/data/postmaster.pid")
		kill -INT "$pid" 2>/dev/null || true # whoever is connected is cut off
		tail --pid="$pid" -f /dev/null
	fi
	rm -rf "$POSTGRES_DIR"
	POSTGRES_DIR=""
}
