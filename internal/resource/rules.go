package resource

import (
	"context"

	"github.com/dunlin/dunlin/internal/fleet"
)

// text is a text of the body, "" if it is not there.
func (w *change) text(name string) string {
	s, _ := w.body[name].(string)
	return s
}

// id is a reference of the body; 0 is null, ok false is nothing said.
func (w *change) id(name string) (id int64, ok bool) {
	v, ok := w.body[name]
	id, _ = v.(int64)
	return id, ok
}

// named is what the body calls the thing, for the checks that name it.
func (w *change) named(field, otherwise string) string {
	if name, ok := w.body[field].(string); ok {
		return name
	}
	return otherwise
}

// checkVariable is the rule of environment variables. A change of the value alone does not say the name.
func checkVariable(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckVariable(w.named("name", "variable"), w.text("value"))
}

// checkConfigVariable is the rule of config variables.
func checkConfigVariable(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	if _, ok := w.body["name"]; !ok {
		return fleet.CheckVariable("variable", w.text("value"))
	}
	return fleet.CheckConfigVariable(w.text("name"), w.text("value"))
}

// checkTag is the rule of tags.
func checkTag(_ context.Context, w *change) error {
	if w.verb == remove {
		return nil
	}
	return fleet.CheckTag(w.named("tag_key", "tag"), w.text("value"))
}
