package sentry

import (
	"context"
	"log/slog"
	"maps"
)

// Handler gives a slog.Handler that captures what is logged as an error, with its attributes as tags. The Client's own
// Log must not lead to it.
func (c *Client) Handler() slog.Handler { return &handler{c: c} }

type handler struct {
	c      *Client
	tags   map[string]string
	err    error
	prefix string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	next := h.copy()
	r.Attrs(func(a slog.Attr) bool {
		next.take(a)
		return true
	})
	h.c.Capture(r.Message, next.tags, next.err)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := h.copy()
	for _, a := range attrs {
		next.take(a)
	}
	return next
}

func (h *handler) WithGroup(name string) slog.Handler {
	next := h.copy()
	if name != "" {
		next.prefix += name + "."
	}
	return next
}

func (h *handler) copy() *handler {
	next := *h
	if next.tags = maps.Clone(h.tags); next.tags == nil {
		next.tags = map[string]string{}
	}
	return &next
}

// take keeps an attribute; an error is what the event is about.
func (h *handler) take(a slog.Attr) {
	v := a.Value.Resolve()
	if err, ok := v.Any().(error); ok {
		h.err = err
		return
	}
	h.tags[h.prefix+a.Key] = v.String()
}
