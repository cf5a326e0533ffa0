package client

import (
	"context"
	"time"
)

// Delta is the difference between two images of a service, made or to be made (resource delta).
type Delta struct {
	Row
	CreatedAt time.Time    `json:"created_at"`
	From      Ref[Image]   `json:"originates_from__image"`
	To        Ref[Image]   `json:"produces__image"`
	Source    Ref[Release] `json:"originates_from__release"`
	Target    Ref[Release] `json:"produces__release"`
	Format    string       `json:"format"`
	Status    string       `json:"status"` // waiting, running, ready, useless, failed or dropped
	Reason    string       `json:"reason"`
	Size      Bytes        `json:"size"`          // that a device fetches
	Replaces  Bytes        `json:"replaced_size"` // of the layers it fetches without
	Digest    string       `json:"content_hash"`  // of its manifest, in the repository of the image it produces
	Attempts  int64        `json:"attempt_count"`
	Started   *time.Time   `json:"start_timestamp"`
	Ended     *time.Time   `json:"end_timestamp"`
	Uses      int64        `json:"use_count"`
	LastUsed  *time.Time   `json:"last_used_timestamp"`
}

// OfFleet is the condition that a delta is of a fleet's releases.
func OfFleet(fleet int64) string {
	return Filter("produces__image/any(i:i/is_a_build_of__service/any(s:s/application eq ?))", fleet)
}

// Deltas lists the deltas for which filter holds ("" for all of the fleets the user may see), the newest releases first, with
// their services and releases; top 0 is no limit.
func (c *Client) Deltas(ctx context.Context, filter string, top int) ([]Delta, error) {
	const release = "($select=id,commit,semver,raw_version,is_final;$expand=belongs_to__application($select=id,slug))"
	return Rows[Delta](ctx, c, "delta", Query{
		Expand: []string{
			"produces__image($select=id,image_size,is_stored_at__image_location,content_hash;$expand=is_a_build_of__service($select=id,service_name))",
			"originates_from__image($select=id,is_stored_at__image_location,content_hash)",
			"originates_from__release" + release, "produces__release" + release,
		},
		Filter: filter, OrderBy: "produces__image desc,originates_from__image desc,id desc", Top: top,
	})
}

// Delta reads one delta. One that is not there is an *Error with status 404.
func (c *Client) Delta(ctx context.Context, id int64) (Delta, error) {
	rows, err := c.Deltas(ctx, Filter("id eq ?", id), 1)
	return one(rows, err, "no such delta")
}

// NewDelta has the delta between two images of a service made. One that is there is an *Error with status 409.
func (c *Client) NewDelta(ctx context.Context, from, to int64) (Delta, error) {
	return createRow[Delta](ctx, c, "delta", map[string]any{"originates_from__image": from, "produces__image": to})
}

// RetryDelta has a delta made that has come to nothing, or was dropped. One that is waiting, being made or ready is an *Error
// with status 409.
func (c *Client) RetryDelta(ctx context.Context, id int64) error {
	return c.Patch(ctx, Key("delta", id), Query{}, map[string]any{"status": "waiting"})
}

// RunningReleases lists the releases that devices of a fleet say they run, newest first, without one of them.
func (c *Client) RunningReleases(ctx context.Context, fleet, without int64) ([]Release, error) {
	return c.Releases(ctx, Filter("belongs_to__application eq ? and id ne ? and is_running_on__device/any(d:d/id gt 0)", fleet, without), 0)
}
