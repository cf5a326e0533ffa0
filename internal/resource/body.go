package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// longest bounds a text that no rule bounds closer, in bytes.
const longest = 100_000

// decode reads the body of a change.
func (w *change) decode(body []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(body, &given); err != nil || given == nil {
		return fault.Wrap(fault.Invalid, err, "the body is not a JSON object")
	}
	for name, raw := range given {
		f, ok := w.res.field(name)
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
	if w.verb == update && len(w.body) == 0 {
		return fault.New(fault.Invalid, "the change has no fields")
	}
	for _, f := range w.res.fields {
		if _, ok := w.body[first(f.name)]; !ok && w.verb == create && f.write&must != 0 {
			return fault.Newf(fault.Invalid, "%s needs %s", w.res.name, first(f.name))
		}
	}
	return nil
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
	case number, ref:
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
	if len(s) > longest {
		return nil, fmt.Errorf("it is over %d bytes", longest)
	}
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("it has a NUL character")
	}
	return s, nil
}
