package monitor_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func TestAnAlarmNobodyIsToBeNotifiedOfHasAWordOfItsOwn(t *testing.T) {
	word := monitor.Words(config.Config{Zones: []config.Zone{{ID: "hall", Name: "Hall, upstairs"}}})
	for _, c := range []struct {
		e    zone.Event
		kind string
		zone string
	}{
		{zone.Event{Kind: zone.Alarm, Zone: "Hall, upstairs"}, "alarm", "hall"},
		{zone.Event{Kind: zone.Alarm, Zone: "Hall, upstairs", Quiet: true}, "alarm_again", "hall"},
		{zone.Event{Kind: zone.Restore, Zone: "Hall, upstairs", Quiet: true}, "restore", "hall"},
		{zone.Event{Kind: zone.Alarm, Zone: "of a recording", Time: time.Unix(0, 0)}, "alarm", "of a recording"},
	} {
		if got := word(c.e); got.Kind != c.kind || got.Zone != c.zone || got.Quiet != c.e.Quiet {
			t.Errorf("%+v is told as %+v", c.e, got)
		}
	}
}

func TestDelaysAndQuarantinesSayWhenTheyEnd(t *testing.T) {
	end := time.Date(2026, 3, 1, 22, 0, 0, 0, time.FixedZone("CET", 3600))
	b, err := json.Marshal(monitor.Words(config.Config{})(zone.Event{Kind: zone.Exit, Group: "house", Until: end}))
	if err != nil || !strings.Contains(string(b), `"until":"2026-03-01T21:00:00Z"`) {
		t.Errorf("%s, %v", b, err)
	}
	if b, _ = json.Marshal(monitor.Words(config.Config{})(zone.Event{Kind: zone.Armed})); strings.Contains(string(b), "until") {
		t.Errorf("%s", b)
	}
}
