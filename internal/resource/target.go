package resource

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/store"
)

// touched are the devices whose targets may have changed, by fleet; device 0 stands for all of them.
type touched map[int64]map[int64]bool

func (t touched) add(fleet, device int64) {
	if t[fleet] == nil {
		t[fleet] = map[int64]bool{}
	}
	t[fleet][device] = true
}

// of are the devices of a fleet, nil for all of them.
func (t touched) of(fleet int64) []int64 {
	devices := slices.Sorted(maps.Keys(t[fleet]))
	if devices[0] == 0 {
		return nil
	}
	return devices
}

// seen is a row as targets see it.
type seen struct {
	fleet, device int64 // 0: none, all
	target        string
}

// seen are the rows as they are now, by id.
func (w *change) seen(ctx context.Context) (map[int64]seen, error) {
	a := w.res.affects
	if a == nil {
		return nil, nil
	}
	target := a.target
	if target == "" {
		target = "''"
	}
	all := map[int64]seen{}
	for list := range lists(w.ids) {
		rows, err := w.tx.QueryContext(ctx, strings.ReplaceAll(`SELECT t.id, COALESCE(`+a.fleet+`, 0), COALESCE(`+a.device+`, 0), `+
			target+` FROM `+w.res.table+` t WHERE t.id IN `+list, "{t}", "t"))
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id int64
			var s seen
			if err := rows.Scan(&id, &s.fleet, &s.device, &s.target); err != nil {
				rows.Close()
				return nil, err
			}
			all[id] = s
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// touch notes whose targets the change concerns. was are the rows as they were before it.
func (w *change) touch(ctx context.Context, was map[int64]seen) error {
	now, err := w.seen(ctx)
	if err != nil || w.res.affects == nil {
		return err
	}
	for _, rows := range []map[int64]seen{was, now} {
		for id, row := range rows {
			if row.fleet != 0 && (w.res.affects.target == "" || was[id] != now[id]) {
				w.touched.add(row.fleet, row.device)
			}
		}
	}
	return nil
}

// follow notes the devices that follow a fleet's target, which is another one now.
func (w *change) follow(ctx context.Context, fleet int64) error {
	devices, all, err := store.Unpinned(ctx, w.tx, fleet)
	if err != nil {
		return err
	}
	if all {
		w.touched.add(fleet, 0)
	}
	for _, d := range devices {
		w.touched.add(fleet, d)
	}
	return nil
}
