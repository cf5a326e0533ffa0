package agent

import (
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/delivery"
)

// The config variables about deltas, as balena's supervisor has them; the last is Dunlin's own.
const (
	configDelta          = "RESIN_SUPERVISOR_DELTA"
	configRetryCount     = "RESIN_SUPERVISOR_DELTA_RETRY_COUNT"
	configRetryInterval  = "RESIN_SUPERVISOR_DELTA_RETRY_INTERVAL"
	configRequestTimeout = "RESIN_SUPERVISOR_DELTA_REQUEST_TIMEOUT"
	configApplyTimeout   = "RESIN_SUPERVISOR_DELTA_APPLY_TIMEOUT"
	configFallback       = "RESIN_SUPERVISOR_DELTA_FALLBACK"
)

// deltas is how the device is to use deltas. It does, unless it is told not to.
func (t *target) deltas() delivery.Policy {
	number := func(name string, standard, most int64) int64 {
		n, err := strconv.ParseInt(t.setting(name), 10, 64)
		if err != nil || n < 0 {
			return standard
		}
		return min(n, most)
	}
	duration := func(name string, standard int64) time.Duration {
		return time.Duration(number(name, standard, 24*60*60*1000)) * time.Millisecond
	}
	p := delivery.Policy{
		Deltas:         true,
		Wait:           strings.EqualFold(t.setting(configFallback), "wait"),
		Retries:        int(number(configRetryCount, 30, 1000)),
		Interval:       duration(configRetryInterval, 10_000),
		RequestTimeout: duration(configRequestTimeout, 59_000),
		ApplyTimeout:   duration(configApplyTimeout, 0),
	}
	switch strings.ToLower(t.setting(configDelta)) {
	case "0", "false", "off", "no":
		p.Deltas = false
	}
	return p
}

// images are the references of all images of the target.
func (t *target) images() []string {
	var all []string
	if t != nil {
		for _, w := range t.releases {
			for _, ref := range w.images {
				all = append(all, ref)
			}
		}
	}
	return all
}
