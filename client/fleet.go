package client

import (
	"context"
	"net/http"
)

// mine is the clause with which balena's tools ask for the fleets a user works with.
const mine = "is_directly_accessible_by__user/any(dau:1 eq 1)"

const releaseColumns = "($select=id,commit,raw_version)"

// Fleets lists the fleets the user may see for which filter holds ("" for all), by name, with device type,
// organization, target release and the devices' ids and presence.
func (c *Client) Fleets(ctx context.Context, filter string) ([]Fleet, error) {
	return Rows[Fleet](ctx, c, "application", Query{
		Select: []string{"id", "created_at", "app_name", "slug", "uuid", "should_track_latest_release"},
		Expand: []string{
			"organization($select=id,handle)",
			"is_for__device_type($select=id,slug,name;$expand=is_of__cpu_architecture($select=slug))",
			"should_be_running__release" + releaseColumns,
			"owns__device($select=id,is_online)",
		},
		Filter:  And(mine, filter),
		OrderBy: "app_name asc",
	})
}

// FleetNames is Fleets with no more than names, target (its id) and device type (its slug): of a large fleet, the
// devices are a long list.
func (c *Client) FleetNames(ctx context.Context, filter string) ([]Fleet, error) {
	return Rows[Fleet](ctx, c, "application", Query{
		Select: []string{"id", "app_name", "slug", "should_be_running__release"}, Expand: []string{"is_for__device_type($select=slug)"},
		Filter: And(mine, filter), OrderBy: "slug asc",
	})
}

// NewFleet is a fleet to be made.
type NewFleet struct {
	Name         string
	Organization int64
	DeviceType   int64
}

// CreateFleet adds a fleet. A name taken in the organization is an *Error with status 409.
func (c *Client) CreateFleet(ctx context.Context, f NewFleet) (Fleet, error) {
	return createRow[Fleet](ctx, c, "application", map[string]any{
		"app_name": f.Name, "organization": f.Organization, "is_for__device_type": f.DeviceType, "is_of__class": "fleet",
	})
}

// Organizations lists the organizations a user is a member of.
func (c *Client) Organizations(ctx context.Context, user int64) ([]Organization, error) {
	return Rows[Organization](ctx, c, "organization", Query{
		Select: []string{"id", "name", "handle"}, OrderBy: "name asc",
		Filter: Filter("organization_membership/any(orm:orm/user eq ?)", user),
	})
}

// DeviceTypes lists the kinds of device for which filter holds ("" for all), by slug.
func (c *Client) DeviceTypes(ctx context.Context, filter string) ([]DeviceType, error) {
	return Rows[DeviceType](ctx, c, "device_type", Query{
		Select: []string{"id", "slug", "name"}, Filter: filter, OrderBy: "slug asc",
		Expand: []string{
			"is_of__cpu_architecture($select=slug)",
			"device_type_alias($select=is_referenced_by__alias;$orderby=is_referenced_by__alias asc)",
		},
	})
}

// Services lists the services of a fleet by name.
func (c *Client) Services(ctx context.Context, fleet int64) ([]Service, error) {
	return Rows[Service](ctx, c, "service", Query{
		Select: []string{"id", "service_name"}, Filter: Filter("application eq ?", fleet), OrderBy: "service_name asc",
	})
}

// PinFleet makes a release the fleet's target; later releases no longer change it.
func (c *Client) PinFleet(ctx context.Context, fleet, release int64) error {
	return c.Patch(ctx, Key("application", fleet), Query{}, map[string]any{
		"should_be_running__release": release, "should_track_latest_release": false,
	})
}

// TrackLatest makes the newest good release the fleet's target, now and whenever there is a newer one.
func (c *Client) TrackLatest(ctx context.Context, fleet int64) error {
	good, err := Rows[Release](ctx, c, "release", Query{
		Select: []string{"id"}, Top: 1, OrderBy: "created_at desc,id desc",
		Filter: Filter("belongs_to__application eq ? and is_final eq true and is_passing_tests eq true and is_invalidated eq false and status eq 'success'", fleet),
	})
	if err != nil {
		return err
	}
	change := map[string]any{"should_track_latest_release": true}
	if len(good) > 0 {
		change["should_be_running__release"] = good[0].ID
	}
	return c.Patch(ctx, Key("application", fleet), Query{}, change)
}

// Releases lists the releases of the fleets the user works with for which filter holds, newest first, with their
// fleets' slugs; top 0 is no limit.
func (c *Client) Releases(ctx context.Context, filter string, top int) ([]Release, error) {
	return Rows[Release](ctx, c, "release", Query{
		Select: []string{
			"id", "created_at", "commit", "status", "semver", "raw_version", "is_final", "is_invalidated",
			"start_timestamp", "end_timestamp", "note",
		},
		Expand: []string{"belongs_to__application($select=id,app_name,slug)"},
		Filter: And("belongs_to__application/any(a:a/"+mine+")", filter), OrderBy: "created_at desc,id desc", Top: top,
	})
}

// Release reads one release with its images and its build log. A release that is not there is an *Error with
// status 404.
func (c *Client) Release(ctx context.Context, id int64) (r Release, err error) {
	rows, err := Rows[Release](ctx, c, Key("release", id), Query{
		Select: []string{
			"id", "created_at", "commit", "status", "semver", "raw_version", "is_final", "is_invalidated",
			"start_timestamp", "end_timestamp", "note", "build_log",
		},
		Expand: []string{
			"belongs_to__application($select=id,app_name,slug)",
			"release_image($select=id;$expand=image($select=id,is_stored_at__image_location,content_hash,image_size,status,error_message;$expand=is_a_build_of__service($select=id,service_name)))",
		},
	})
	return one(rows, err, "no such release")
}

// one takes the row of an answer that has one.
func one[T any](rows []T, err error, missing string) (v T, _ error) {
	if err != nil {
		return v, err
	}
	if len(rows) == 0 {
		return v, &Error{Status: http.StatusNotFound, Message: missing}
	}
	return rows[0], nil
}
