package client

import (
	"context"
	"net/http"
)

// Tag is a key and a value on a fleet, a device or a release (resources application_tag, device_tag and release_tag).
type Tag struct {
	Row
	Key   string `json:"tag_key"`
	Value string `json:"value"`
}

// Tagged is what has tags: exactly one of the ids is set.
type Tagged struct{ Fleet, Device, Release int64 }

func (t Tagged) resource() (resource, column string, id int64) {
	switch {
	case t.Device != 0:
		return "device_tag", "device", t.Device
	case t.Release != 0:
		return "release_tag", "release", t.Release
	}
	return "application_tag", "application", t.Fleet
}

// Tags lists tags by key.
func (c *Client) Tags(ctx context.Context, of Tagged) ([]Tag, error) {
	resource, column, id := of.resource()
	return Rows[Tag](ctx, c, resource, Query{
		Select: []string{"id", "tag_key", "value"}, Filter: Filter(column+" eq ?", id), OrderBy: "tag_key asc",
	})
}

// SetTag sets a tag, whether it was there or not.
func (c *Client) SetTag(ctx context.Context, of Tagged, key, value string) error {
	resource, column, id := of.resource()
	err := c.Create(ctx, resource, map[string]any{column: id, "tag_key": key, "value": value}, nil)
	if StatusOf(err) != http.StatusConflict {
		return err
	}
	return c.Patch(ctx, resource, Query{Filter: Filter(column+" eq ? and tag_key eq ?", id, key)}, map[string]any{"value": value})
}

// RemoveTag removes a tag. One that is not there is an *Error with status 404.
func (c *Client) RemoveTag(ctx context.Context, of Tagged, key string) error {
	resource, column, id := of.resource()
	rows, err := Rows[Row](ctx, c, resource, Query{Select: []string{"id"}, Filter: Filter(column+" eq ? and tag_key eq ?", id, key)})
	row, err := one(rows, err, "there is no tag "+key)
	if err != nil {
		return err
	}
	return c.Delete(ctx, Key(resource, row.ID), Query{})
}
