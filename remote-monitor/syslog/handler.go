package syslog

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// Handler gives a slog.Handler that sends what is at least of level. Attributes become structured data, groups a prefix
// with a dot. Its messages have the MSGID "log".
func (w *Writer) Handler(level slog.Leveler) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &handler{w: w, level: level}
}

type handler struct {
	w      *Writer
	level  slog.Leveler
	data   []Param
	prefix string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	data := slices.Clip(h.data)
	r.Attrs(func(a slog.Attr) bool {
		data = attribute(data, h.prefix, a)
		return true
	})
	h.w.put(r.Time, severity(r.Level), "log", r.Message, data)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.data = slices.Clip(h.data)
	for _, a := range attrs {
		next.data = attribute(next.data, h.prefix, a)
	}
	return &next
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix += name + "."
	return &next
}

// attribute adds an attribute, or those of a group.
func attribute(data []Param, prefix string, a slog.Attr) []Param {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return data
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, one := range v.Group() {
			data = attribute(data, prefix, one)
		}
		return data
	case v.Kind() == slog.KindTime:
		return append(data, Param{prefix + a.Key, v.Time().UTC().Format(time.RFC3339Nano)})
	}
	return append(data, Param{prefix + a.Key, v.String()})
}

// severity of a level: what is between two levels is as bad as the lower.
func severity(l slog.Level) Severity {
	switch {
	case l >= slog.LevelError:
		return Err
	case l >= slog.LevelWarn:
		return Warning
	case l >= slog.LevelInfo:
		return Info
	}
	return Debug
}
