package metrics

import (
	"cmp"
	"maps"
	"slices"

	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// counts writes what was counted. Events have the names of zones; the labels are their ids, as everywhere else. What
// bears a name the snapshot does not have is counted together.
func (m *Metrics) counts(t *text, s monitor.Snapshot) {
	ids, outputs, all := map[string]string{}, map[string]string{}, map[string]string{}
	for _, z := range s.Zones {
		ids[z.Name] = z.ID
	}
	for _, g := range s.Groups {
		all[g.Name] = g.Name
	}
	for _, o := range s.Outputs {
		outputs[o.Name] = o.ID
	}
	t.counts(events, m.events, ids)
	t.counts(suppressed, m.suppressed, ids)
	t.counts(groupEvents, m.groups, all)
	t.counts(outputEvent, m.outputs, outputs)
	t.counts(adcErrors, m.errors, nil)
	t.counts(chipEvents, m.chips, nil)
	t.add(common, m.common)
	for _, status := range slices.Sorted(maps.Keys(m.acks)) {
		t.add(acks, m.acks[status], status)
	}
	for _, cause := range causes {
		t.add(outputForce, m.forced[string(cause)], string(cause))
	}
	if n := m.forced[other]; n > 0 {
		t.add(outputForce, n, other)
	}
}

// counts writes one family; names give the first label, nil means that it is one already.
func (t *text) counts(f family, counted map[[2]string]float64, names map[string]string) {
	sums := map[[2]string]float64{}
	for k, n := range counted {
		if names != nil {
			k[0] = cmp.Or(names[k[0]], other)
		}
		sums[k] += n
	}
	for k, n := range sums {
		t.add(f, n, k[0], k[1])
	}
}
