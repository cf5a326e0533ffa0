# balena's own clients from npm, for the tests that hold the server to them. Sourced by the other scripts; bash.
# shellcheck shell=bash

# need_balena: install the balena CLI, balena's SDK and the Node they want, as the lock file has them, and set
# DUNLIN_TEST_BALENA to their folder: the one given, or one below the user's cache that later runs find again. Nothing
# that a package wants to run at installation is run.
need_balena() {
	local lock=internal/balenatest/testdata/npm sum
	sum=$(sha256sum "$lock/package-lock.json")
	export DUNLIN_TEST_BALENA=${DUNLIN_TEST_BALENA:-${XDG_CACHE_HOME:-$HOME/.cache}/dunlin/balena-${sum:0:12}}
	[ -e "$DUNLIN_TEST_BALENA/complete" ] && return 0
	command -v npm >/dev/null || need_packages nodejs npm || return 1
	echo "Installing balena's clients in $DUNLIN_TEST_BALENA"
	mkdir -p "$DUNLIN_TEST_BALENA"
	cp "$lock/package.json" "$lock/package-lock.json" "$DUNLIN_TEST_BALENA"
	local log=$DUNLIN_TEST_BALENA/install.log
	# The parser of compose files, which the CLI builds and deploys with, is a Go program that its package would fetch.
	if ! { (cd "$DUNLIN_TEST_BALENA" && npm ci --ignore-scripts --no-audit --no-fund) &&
		(cd "$DUNLIN_TEST_BALENA/node_modules/@balena/compose-parser/lib" &&
			GOWORK=off CGO_ENABLED=0 go build -ldflags '-s -w' -o ../bin/balena-compose-parser .); } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		say_error "cannot install balena's clients" "npm or go failed, see above" "mend the network's way to registry.npmjs.org and the Go module proxy, and start again"
		return 1
	fi
	touch "$DUNLIN_TEST_BALENA/complete"
}
