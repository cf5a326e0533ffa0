package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// The exit codes of the program; `dunlin help exit-codes` says what they mean.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotLoggedIn = 3
	exitNotFound    = 4
	exitRefused     = 5
	exitInterrupted = 130 // as shells count SIGINT
)

// Execute runs the command that the program's arguments name, says on standard error what went wrong, and returns
// the exit code. The first Ctrl-C or SIGTERM ends the commands' context, the second ends the program at once.
func Execute(ctx context.Context, root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	report(root.ErrOrStderr(), err)
	return exitCode(err)
}

// report prints an error as a line for a person, and below it what to do.
func report(w io.Writer, err error) {
	lines := strings.Split(plain(err.Error(), false), "\n")
	_, _ = fmt.Fprintln(w, "error: "+strings.Join(lines, "; "))
	if hint := hintOf(err); hint != "" {
		for line := range strings.SplitSeq(hint, "\n") {
			_, _ = fmt.Fprintln(w, "hint: "+plain(line, false))
		}
	}
}

func exitCode(err error) int {
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = kindOfStatus(client.StatusOf(err))
	}
	switch kind {
	case fault.Invalid:
		return exitUsage
	case fault.Unauthenticated:
		return exitNotLoggedIn
	case fault.NotFound:
		return exitNotFound
	case fault.Denied, fault.Conflict, fault.TooLarge:
		return exitRefused
	}
	return exitFailed
}

func kindOfStatus(status int) fault.Kind {
	switch status {
	case http.StatusBadRequest:
		return fault.Invalid
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusForbidden:
		return fault.Denied
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.Conflict
	case http.StatusRequestEntityTooLarge:
		return fault.TooLarge
	}
	return fault.Internal
}

// hintOf is what to do about err: what its origin says, or what is true of all errors of its sort.
func hintOf(err error) string {
	if hint := fault.Hint(err); hint != "" {
		return hint
	}
	var no *client.Error
	var cert *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &no) && no.Hint != "":
		return no.Hint
	case errors.As(err, &no) && no.Status == http.StatusUnauthorized:
		return "log in with `dunlin login`"
	case errors.As(err, &no) && no.Status == http.StatusTooManyRequests && no.RetryAfter > 0:
		return fmt.Sprintf("try again in %v", no.RetryAfter)
	case errors.As(err, &no) && no.Status >= 500 && no.RequestID != "":
		return "the server's log says more about request " + no.RequestID
	case errors.As(err, &cert):
		return "if the server has a certificate authority of its own, give its root certificate: dunlin login URL --ca FILE"
	case errors.As(err, &network) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return "is the address right, and the server running? `dunlin login URL` changes the address"
	}
	return ""
}

func notLoggedIn(why string) error {
	return fault.New(fault.Unauthenticated, why).WithHint("log in with `dunlin login`")
}

// topics are pages of help that are no commands.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{
			Use:   "exit-codes",
			Short: "What the exit codes mean",
			Long: `The exit code tells a script how a command ended:

    0  done
    1  failed: the server is away, or something broke
    2  the command line is wrong, or a value in it cannot be accepted
    3  not logged in, or the session has ended
    4  something that was named is not there
    5  refused: you may not do it, or it contradicts what is there
  130  interrupted with Ctrl-C

Errors are one line on standard error that begins with "error: ", followed by lines that begin with "hint: " and
say what to do.`,
		},
		{
			Use:   "environment",
			Short: "The environment variables dunlin reads",
			Long: `DUNLIN_URL       the server, instead of the one of the last "dunlin login"
DUNLIN_TOKEN     an API key or session token for it, instead of the saved one; a saved token is only ever
                 sent to the server that it came from
DUNLIN_CA        a file with the root certificate of the server's own certificate authority
DOCKER_HOST      the container engine whose images "dunlin delta create" and "apply" read by name
XDG_CONFIG_HOME  where dunlin/config.json is kept; without it the system's folder for configuration
NO_COLOR         if not empty, no colours; without a terminal there are none anyway`,
		},
		{
			Use:   "json",
			Short: "What --json prints",
			Long: `With --json a command prints JSON instead of a table, on standard output and nothing else.

"list" prints an array, "show" and "create" print an object. The objects are rows of the server's v7 resources as
they come, with balena's names:

  fleet        application: id, created_at, app_name, slug, uuid, should_track_latest_release, organization[],
               is_for__device_type[], should_be_running__release[], owns__device[]
  device       device: id, created_at, uuid, device_name, note, is_online, overall_status, last_connectivity_event,
               os_version, supervisor_version, ip_address, belongs_to__application[], is_of__device_type[],
               is_running__release[], is_pinned_on__release[], should_be_running__release[]; "show" adds metrics
               and image_install[]
  device-type  device_type: id, slug, name, is_of__cpu_architecture[], device_type_alias[]
  release      release: id, created_at, commit, status, semver, raw_version, is_final, is_invalidated,
               start_timestamp, end_timestamp, note, belongs_to__application[]; "show" adds build_log and
               release_image[], and "push" prints the new release as "show" does
  key          user__has__public_key: id, created_at, title, public_key
  tag          application_tag, device_tag or release_tag: id, tag_key, value
  api-key      api_key: id, created_at, name, description, expiry_date (null for never)
  release asset
               release_asset: id, asset_key, asset (filename, href, content_type, size, checksum; null while empty)
  organization organization: id, name, handle
  organization member
               organization_membership: id, created_at, user[], organization_membership_role[]
  organization invite
               invitee__is_invited_to__organization: id, created_at, message, is_created_by__invitee[],
               organization_membership_role[]; "create" adds invitationToken
  audit        audit: id, created_at, actor_kind, actor_name, address, verb, resource, row_id, details

A reference to another row is an array of one row, or of none. "create" prints the new row alone, in which a
reference is {"__id": n}.

Of dunlin's own shape are these:

  env          id, name, value, scope (fleet or device), service_name ("" for all), config, resource
  logs         one object per line: device_name, uuid, service_name, message, timestamp and createdAt (ms since
               1970), isSystem, isStdErr, serviceId
  events       one object per line: id, type, time, organization, fleet, device, release, data
  api-key create
               key, name
  whoami       id, actorType, actorTypeId, username, email, url
  remote       name, url
  delta create, delta apply
               format, from, to (image IDs), bytes (of the delta), newBytes (of the layers it makes), cpuSeconds,
               wallSeconds, peakMemory (bytes)
  delta info   format, bytes, version, from, to, layers[] (diffId, size, kept), fromLayers[]
  provisioning-key create
               key, slug, expiry_date (null for never), command

Times are ISO 8601 in UTC, except in logs.`,
		},
	}
}
