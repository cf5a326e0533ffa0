package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// finish fills in the defaults, looks all names up and checks the whole.
func (d *draft) finish(s Sources) {
	if d.Device == "" {
		d.Device = d.env.first("BALENA_DEVICE_NAME_AT_INIT", "RESIN_DEVICE_NAME_AT_INIT", "DEVICE_NAME")
	}
	if d.Device == "" {
		d.Device = s.Host
	}
	if d.TimeZone == nil {
		d.TimeZone = time.UTC
	}
	if d.Data == "" {
		d.Data = s.DataFolder()
	}
	fill(&d.Interval, DefaultInterval)
	fill(&d.Heartbeat, DefaultHeartbeat)
	fill(&d.Ping.Every, defaultEvery)
	if d.SupplyScale == 0 {
		d.SupplyScale = 1
	}
	d.amqpURL()
	if d.simulated && len(d.zones) == 0 && len(d.outputs) == 0 {
		d.samples()
	}
	d.checkChips()
	taken := map[board.Pin]string{}
	if d.supply.text != "" {
		pin, c, ok := d.pin(d.supply, "supply", false, taken)
		if ok && !factsOf(c.Chip).converter {
			d.wrong(d.supply.at, "supply: its voltage needs a converter, and %s is a board of kind %s", c.Name, c.Kind)
		}
		d.Supply = pin
	}
	d.checkZones(taken)
	d.checkGroups()
	d.checkOutputs(taken)
	d.checkRules()
	if len(d.found) > 0 {
		return
	}
	d.checkTimes()
	d.finishIDs()
	d.finishBoard(s)
	d.finishSite()
	d.finishBrokers()
}

func fill(to *time.Duration, otherwise time.Duration) {
	if *to == 0 {
		*to = otherwise
	}
}

// finishIDs gives zones and outputs their ids. Those that were given stand; the others are made of the names, in
// order, and no two are the same.
func (d *draft) finishIDs() {
	taken := map[string]string{}
	take := func(id, what string, at place) {
		if !isID(id) {
			d.wrong(at, "%s: id: %s: want letters, digits, _ and -", what, quoted(id))
		} else if other, ok := taken[id]; ok {
			d.wrong(at, "%s: id: %s is the id of %s", what, id, other)
		}
		taken[id] = what
	}
	for _, z := range d.zones {
		if z.ID != "" {
			take(z.ID, "zone "+z.Name, z.idAt)
		}
	}
	for _, o := range d.outputs {
		if o.ID != "" {
			take(o.ID, "output "+o.Name, o.idAt)
		}
	}
	free := func(name, otherwise string) string {
		base := slug(name, otherwise)
		id := base
		for n := 2; taken[id] != ""; n++ {
			id = fmt.Sprintf("%s_%d", base, n)
		}
		taken[id] = name
		return id
	}
	for i := range d.zones {
		if z := &d.zones[i]; z.ID == "" {
			z.ID = free(z.Name, fmt.Sprint("zone_", i+1))
		}
	}
	for i := range d.outputs {
		o := &d.outputs[i]
		if o.ID == "" {
			o.ID = free(o.Name, fmt.Sprint("output_", i+1))
		}
		o.bounds.Name = o.ID
	}
	for i := range d.rules {
		for j, n := range d.rules[i].Outputs {
			k, err := strconv.Atoi(n)
			if err != nil {
				panic("config: an output was not looked up: " + n)
			}
			d.rules[i].Outputs[j] = d.outputs[k].ID
		}
	}
}

// finishBoard writes what of the hardware is used.
func (d *draft) finishBoard(s Sources) {
	if d.simulated {
		d.simulate()
	}
	used := map[string]bool{d.Supply.Chip: true}
	b := &d.Board
	for _, z := range d.zones {
		if z.Pin != (board.Pin{}) {
			b.Inputs = append(b.Inputs, z.Pin)
			used[z.Pin.Chip] = true
		}
	}
	if d.Supply != (board.Pin{}) {
		b.Inputs = append(b.Inputs, d.Supply)
	}
	for _, o := range d.outputs {
		b.Outputs = append(b.Outputs, o.bounds.Pin)
		used[o.bounds.Pin.Chip] = true
	}
	// A device that was not told a seed follows its own name, so that the devices of a fleet see different people.
	b.Seed = seedOf(d.env.first("BALENA_DEVICE_UUID", "RESIN_DEVICE_UUID"))
	if d.env.first("BALENA_DEVICE_UUID", "RESIN_DEVICE_UUID") == "" {
		b.Seed = seedOf(s.Host)
	}
	allSimulated := true
	for _, c := range d.chips {
		if c.spare && !used[c.Name] {
			continue
		}
		if !used[c.Name] {
			d.note("board %s has no input and no output in use", c.Name)
		}
		if c.seed != nil {
			b.Seed = *c.seed
		}
		allSimulated = allSimulated && c.Kind == board.Simulation
		b.Chips = append(b.Chips, c.Chip)
	}
	if d.seed != nil {
		b.Seed = *d.seed
	}
	if allSimulated && len(b.Chips) > 0 && d.Site.WarmUp == 0 {
		d.Site.WarmUp = -1 // simulated detectors have settled
	}
	kinds := map[string]board.Kind{}
	for _, c := range b.Chips {
		kinds[c.Name] = c.Kind
	}
	for _, z := range d.zones {
		if kinds[z.Pin.Chip] == board.Simulation && z.set.Signal == zone.Loop {
			if b.Loops == nil {
				b.Loops = map[board.Pin]board.Loop{}
			}
			b.Loops[z.Pin] = loopOf(z)
		}
	}
}

// finishSite checks the zones and groups together, as the zones will see them.
func (d *draft) finishSite() {
	for i := range d.zones {
		z := &d.zones[i]
		d.Config.Zones = append(d.Config.Zones, z.Zone)
		d.Site.Zones = append(d.Site.Zones, z.set)
	}
	for _, g := range d.groups {
		d.Site.Groups = append(d.Site.Groups, g.Group)
	}
	for _, o := range d.outputs {
		d.Config.Outputs = append(d.Config.Outputs, o.Output)
		d.Relay.Outputs = append(d.Relay.Outputs, o.bounds)
	}
	for _, r := range d.rules {
		d.Config.Rules = append(d.Config.Rules, r.Rule)
	}
	// What got through is shown to those who will have to live with it.
	_, zoneErr := zone.New(d.Site, time.Unix(0, 0))
	_, relayErr := relay.New(d.Relay)
	var boardErr error
	if len(d.Board.Chips) > 0 {
		boardErr = board.Check(d.Board)
	}
	for _, err := range []error{zoneErr, relayErr, boardErr} {
		if err != nil && len(d.found) == 0 {
			d.wrong(place{source: d.source}, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	if len(d.Config.Zones) == 0 && len(d.Config.Outputs) == 0 {
		d.note("nothing is configured, so nothing is watched; describe zones in a YAML file, set INPUT_1_NAME and INPUT_1_VALUE_NORMAL, or set REMOTE_MONITOR_BOARD=simulated to try it without hardware")
	}
}

// finishBrokers fills in what brokers want to know.
func (d *draft) finishBrokers() {
	if c := d.MQTT; c != nil {
		if c.ClientID == "" {
			c.ClientID = "remote-monitor-" + slug(d.Device, "device")
		}
		if least := 3 * d.Heartbeat; !d.expireSaid {
			c.Expire = least
		} else if c.Expire != 0 && c.Expire < least {
			d.note("mqtt: expire is %s, less than three heartbeats of %s: Home Assistant may take a device that is well for a dead one", span(c.Expire), span(d.Heartbeat))
		}
	}
	if c := d.Page; c != nil && c.Token == "" {
		d.note("the status page has no token, so it shows no buttons")
	}
}
