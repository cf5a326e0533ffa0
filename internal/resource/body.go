package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// What bounds a text that no rule bounds closer (protocol §6.5, limits): one of longTexts in bytes, every other in
// characters.
const (
	longest   = 100_000
	longTexts = logs + " description invalidation_reason is_stored_at__repository_url known_issue_list message note public_key value"
	short     = 255
)

// logs are texts that only the size of a request bounds.
const logs = "build_log dockerfile error_message"

// ignored are fields that stock clients send and that say nothing here (protocol §10, pitfall 12): who makes a row is
// known without being told, and there is no channel of logs.
const ignored = "is_created_by__user logs_channel"

// decode reads the body of a change.
func (w *change) decode(body []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(body, &given); err != nil || given == nil {
		return fault.Wrap(fault.Invalid, err, "the body is not a JSON object")
	}
	for name, raw := range given {
		if called(ignored, name) {
			continue
		}
		f, ok := w.field(name)
		if !ok {
			return w.res.unknown("field", name)
		}
		may := onUpdate
		if w.verb == create {
			may = onCreate
		}
		if f.write&may == 0 {
			return fault.Newf(fault.Invalid, "%s of %s cannot be set", name, w.res.name)
		}
		v, err := f.decode(raw)
		if err != nil {
			return fault.Newf(fault.Invalid, "%s: %s", name, err)
		}
		if _, twice := w.body[first(f.name)]; twice {
			return fault.Newf(fault.Invalid, "%s is given twice", name)
		}
		w.body[first(f.name)] = v
	}
	if w.verb == update && len(given) == 0 {
		return fault.New(fault.Invalid, "the change has no fields")
	}
	for _, f := range w.res.fields {
		if _, ok := w.body[first(f.name)]; !ok && w.verb == create && f.write&must != 0 {
			return fault.Newf(fault.Invalid, "%s needs %s", w.res.name, first(f.name))
		}
	}
	w.given = maps.Clone(w.body)
	return nil
}

// field finds what a body may say, by name or synonym.
func (w *change) field(name string) (field, bool) {
	if w.verb == create {
		for _, f := range w.res.asks {
			if called(f.name, name) {
				return f, true
			}
		}
	}
	return w.res.field(name)
}

// decode reads a value of the field: int64, string, bool or nil. A reference may also come as it is read,
// {"__id":n}. A number may come as a string, as old clients send it.
func (f field) decode(raw json.RawMessage) (any, error) {
	if string(bytes.TrimSpace(raw)) == "null" {
		if f.write&orNull == 0 {
			return nil, fmt.Errorf("it cannot be null")
		}
		return nil, nil
	}
	switch f.kind {
	case document:
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return nil, fmt.Errorf("it must be JSON")
		}
		if strings.Contains(compact.String(), `\u0000`) {
			return nil, fmt.Errorf("it has a NUL character")
		}
		return compact.String(), nil
	case number, big, ref:
		var deferred struct {
			ID *int64 `json:"__id"`
		}
		if f.kind == ref && json.Unmarshal(raw, &deferred) == nil && deferred.ID != nil {
			return *deferred.ID, nil
		}
		n, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("it must be a whole number")
		}
		return n, nil
	case boolean:
		var b bool
		if json.Unmarshal(raw, &b) != nil {
			return nil, fmt.Errorf("it must be true or false")
		}
		return b, nil
	}
	if f.kind == moment {
		if ms, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return fromMillis(ms)
		}
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, fmt.Errorf("it must be a string")
	}
	if f.kind == moment {
		t, err := odata.ParseTime(s)
		if err != nil {
			return nil, fmt.Errorf("%s", fault.Message(err))
		}
		return t.UnixMicro(), nil
	}
	if len(s) > longest && !called(logs, first(f.name)) {
		return nil, fmt.Errorf("it is over %d bytes", longest)
	}
	if f.kind == text && !called(longTexts, first(f.name)) && utf8.RuneCountInString(s) > short {
		return nil, fmt.Errorf("it is over %d characters", short)
	}
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("it has a NUL character")
	}
	return s, nil
}

// fromMillis is a time that came as milliseconds since 1970, as clients in JavaScript have it.
func fromMillis(ms int64) (any, error) {
	const year9999 = 253_402_300_799_999
	if ms < 0 || ms > year9999 {
		return nil, fmt.Errorf("it must be a time, or milliseconds since 1970")
	}
	return ms * 1000, nil
}
