package resource

import (
	"context"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// editDelta is the rule of deltas before they are written. People say that one is to be made, or made again; how it goes is
// its maker's to say.
func editDelta(ctx context.Context, w *change) error {
	if w.verb == create {
		return w.newDelta(ctx)
	}
	for _, id := range w.ids {
		d, err := store.DeltaIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if w.verb == remove {
			w.deltas = append(w.deltas, d)
			continue
		}
		if status, _ := w.body["status"].(string); status != string(fleet.DeltaWaiting) {
			return fault.New(fault.Invalid, "the status of a delta can be made waiting; every other one is its maker's to say")
		}
		if !d.Status.Settled() || d.Status == fleet.DeltaReady {
			return fault.Newf(fault.Conflict, "delta %d is %s already", id, d.Status).WithHint("to have it made again, delete it first")
		}
		if err := w.makes(d.Format); err != nil {
			return err
		}
		w.columns["attempts"], w.columns["not_before"], w.columns["reason"] = int64(0), int64(0), nil
		w.columns["by_hand"] = true
	}
	return nil
}

// newDelta checks which images a delta is to be between.
func (w *change) newDelta(ctx context.Context) error {
	format, said := w.body["format"].(string)
	if !said && len(w.DeltaFormats) > 0 {
		format = w.DeltaFormats[0]
		w.body["format"] = format
	}
	if err := w.makes(format); err != nil {
		return err
	}
	from, _ := w.id("originates_from__image")
	to, _ := w.id("produces__image")
	source, err := store.ImageIn(ctx, w.tx, from)
	if err != nil {
		return err
	}
	target, err := store.ImageIn(ctx, w.tx, to)
	if err != nil {
		return err
	}
	switch {
	case source.Service != target.Service:
		return fault.Newf(fault.Invalid, "the images are of two services, %s and %s", source.ServiceName, target.ServiceName)
	case source.Status != fleet.Success || target.Status != fleet.Success:
		return fault.Newf(fault.Invalid, "an image of service %s was not built", source.ServiceName)
	case source.Digest == target.Digest:
		return fault.Newf(fault.Invalid, "the images of service %s are the same", source.ServiceName)
	}
	w.columns["by_hand"] = true
	return nil
}

// makes is nil if deltas of a format can be made.
func (w *change) makes(format string) error {
	switch {
	case len(w.DeltaFormats) == 0:
		return fault.New(fault.Unavailable, "this server makes no deltas").WithHint("its --delta-jobs is 0")
	case !slices.Contains(w.DeltaFormats, format):
		return fault.Newf(fault.Invalid, "there is no format %q of deltas", format).WithHint("it is one of: " + strings.Join(w.DeltaFormats, ", "))
	}
	return nil
}
