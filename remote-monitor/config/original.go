package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// The original's wiring, which stands where nothing else is said: two ADC Pis and an IO Pi, its seven inputs and
// eight relays. Inputs 8 to 16 are the terminals that it leaves free.
func originalChips() []draftChip {
	chip := func(name string, kind board.Kind, addresses ...uint16) draftChip {
		return draftChip{Chip: board.Chip{Name: name, Kind: kind, Addresses: addresses}, at: place{source: "the original's wiring"}, spare: true}
	}
	return []draftChip{
		chip("adc1", board.MCP3424, 0x68, 0x69), chip("adc2", board.MCP3424, 0x6A, 0x6B),
		chip("io1", board.MCP23017, 0x20), chip("io2", board.MCP23017, 0x21),
	}
}

var (
	originalInputs = [mostNumbered]string{
		"adc1:1", "adc1:2", "adc1:3", "adc1:4", "adc2:2", "adc2:3", "adc2:1", "adc2:4",
		"adc1:5", "adc1:6", "adc1:7", "adc1:8", "adc2:5", "adc2:6", "adc2:7", "adc2:8",
	}
	originalRelays = []string{"io1:1", "io1:2", "io1:15", "io1:16", "io2:2", "io2:15", "io2:16", "io2:1"}
)

// said is a value and where it was said: a variable, or a key of app.conf.
type said struct {
	text string
	name string // for errors
}

// original reads inputs and outputs as the original has them, from app.conf if there is one and else from the
// environment.
func (d *draft) original(s Sources) {
	var inputs, outputs map[int]map[string]said
	relays := map[string]said{}
	tamper := d.env.lookup("INPUT_TAMPER_LABEL")
	usualRelays := func() {
		for i, pin := range originalRelays {
			relays[fmt.Sprint("relay", i+1)] = said{text: pin}
		}
	}
	if s.AppConf == nil {
		usualRelays()
		inputs = d.fields("INPUT_", inputFields)
		outputs = d.fields("OUTPUT_", outputFields)
	} else {
		c := parseAppConf(d.problems, s.AppConfFile, s.AppConf, d.env)
		c.check(d.note)
		d.confBoards(c)
		if o := c.sections["relay_address"]; o != nil {
			for _, r := range o.options {
				text, at := c.value("relay_address", r.name)
				relays[strings.ToLower(r.name)] = said{text, at.source}
			}
		} else {
			usualRelays()
		}
		inputs, outputs = d.confInputs(c), d.confOutputs(c)
		if label, _ := c.value("app", "tamper_label"); label != "" {
			tamper = label
		}
		d.confRest(c)
		d.besides(inputs, outputs)
	}
	zones := d.inputs(inputs, tamper)
	outs := d.outs(outputs, relays)

	where := func(prefix string, numbered map[int]map[string]said) string {
		if s.AppConf != nil {
			return s.AppConfFile
		}
		n := slices.Min(slices.Collect(maps.Keys(numbered)))
		return fmt.Sprintf("%s%d_%s", prefix, n, slices.Min(slices.Collect(maps.Keys(numbered[n]))))
	}
	switch {
	case len(zones) > 0 && len(d.zones) > 0:
		d.wrong(d.zonesAt, "zones are described here, and by %s as well; keep one of them", where("INPUT_", inputs))
	case len(zones) > 0:
		d.zones = zones
	}
	switch {
	case len(outs) > 0 && len(d.outputs) > 0:
		d.wrong(d.outputsAt, "outputs are described here, and by %s as well; keep one of them", where("OUTPUT_", outputs))
	case len(outs) > 0:
		d.outputs = outs
	}
	if len(zones) == 0 && !d.simulated {
		d.useless("an input such as INPUT_1_NAME", "REMOTE_MONITOR_PROFILE", "REMOTE_MONITOR_SENSITIVITY", "REMOTE_MONITOR_POLICY")
	}
	if !d.boardsSaid && (len(zones) > 0 || len(outs) > 0) {
		d.chips = append(d.chips, originalChips()...)
	}
	if len(outs) > 0 && s.AppConf == nil && len(zones) == 0 && len(d.zones) == 0 {
		d.note("outputs are given and no inputs; they do what a broker, the page or a rule tells them")
	}
}

// fields are the variables of a prefix by number.
func (d *draft) fields(prefix string, names []string) map[int]map[string]said {
	all := map[int]map[string]said{}
	for k, v := range d.env.set {
		if n, field, ok := numbered(prefix, names, k); ok {
			if all[n] == nil {
				all[n] = map[string]said{}
			}
			if strings.HasPrefix(v, "op://") {
				v = d.env.lookup(k)
			}
			all[n][field] = said{v, k}
		}
	}
	return all
}

// confBoards reads the chips of app.conf.
func (d *draft) confBoards(c *appConf) {
	read := func(in string, kind board.Kind, most int) {
		s := c.sections[in]
		if s == nil {
			return
		}
		for _, o := range s.options {
			text, at := c.value(in, o.name)
			chip := draftChip{Chip: board.Chip{Name: strings.ToLower(o.name), Kind: kind}, at: at, spare: true}
			for part := range strings.SplitSeq(text, ",") {
				n, err := strconv.ParseUint(strings.TrimSpace(part), 0, 16)
				if err != nil || len(chip.Addresses) == most {
					d.wrong(at, "%s: want %s", quoted(text), []string{"", "an address such as 0x20", "two addresses such as 0x68,0x69"}[most])
					return
				}
				chip.Addresses = append(chip.Addresses, uint16(n))
			}
			if d.boardsSaid && !slices.ContainsFunc(d.chips, func(x draftChip) bool { return x.spare }) {
				d.wrong(at, "boards are described by %s as well; keep one of them", d.source)
				return
			}
			d.boardsSaid = true
			d.chips = append(d.chips, chip)
		}
	}
	read("adc_address", board.MCP3424, 2)
	read("io_address", board.MCP23017, 1)
}

// confInputs reads the inputs of app.conf: keys that end in the input's number, the same in each section.
func (d *draft) confInputs(c *appConf) map[int]map[string]said {
	return d.confNumbered(c, "INPUT_", "input_address", map[string]string{
		"input_address": "ADDRESS", "input_name": "NAME", "input_type": "TYPE", "input_location": "LOCATION",
		"input_normal_values": "VALUE_NORMAL", "input_tamper_values": "VALUE_TAMPER",
	})
}

func (d *draft) confOutputs(c *appConf) map[int]map[string]said {
	return d.confNumbered(c, "OUTPUT_", "output_type", map[string]string{
		"output_type": "TYPE", "output_location": "LOCATION", "output_relay": "RELAY",
	})
}

// confNumbered collects the keys of several sections by the number they end in. What a device has no use for is
// empty in all sections but the first, and is left out.
func (d *draft) confNumbered(c *appConf, prefix, first string, sections map[string]string) map[int]map[string]said {
	all := map[int]map[string]said{}
	for _, in := range slices.Sorted(maps.Keys(sections)) {
		s := c.sections[in]
		if s == nil {
			continue
		}
		for _, o := range s.options {
			digits := strings.TrimLeft(o.name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
			n, err := strconv.Atoi(digits)
			if err != nil || n < 1 || n > mostNumbered || len(digits) == len(o.name) {
				d.wrong(o.at, "%s: want a letter and a number from 1 to %d, such as I1 or O1", quoted(o.name), mostNumbered)
				continue
			}
			if all[n] == nil {
				all[n] = map[string]said{}
			}
			text, at := c.value(in, o.name)
			all[n][sections[in]] = said{text, at.source}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		f := all[n]
		if v := d.env.lookup(fmt.Sprintf("%s%d_MAX_ON", prefix, n)); v != "" && prefix == "OUTPUT_" {
			f["MAX_ON"] = said{v, fmt.Sprintf("%s%d_MAX_ON", prefix, n)}
		}
		used := false
		for field, v := range f {
			used = used || v.text != "" && field != "ADDRESS"
		}
		if !used {
			delete(all, n)
		} else if v, ok := f[sections[first]]; !ok || v.text == "" {
			d.wrong(place{source: c.source}, "[%s] has no line for number %d, which other sections have; add one", first, n)
			delete(all, n)
		}
	}
	return all
}

// confRest reads what of app.conf is no input, output or board.
func (d *draft) confRest(c *appConf) {
	if name, _ := c.value("app", "device_name"); d.Device == "" {
		d.Device = name
	}
	if k, _ := c.value("app", "cronitor_monitor_key"); d.Ping.Cronitor == "" {
		d.Ping.Cronitor = k
	}
	server, at := c.value("rabbitmq", "server_address")
	if server == "" {
		return
	}
	if d.AMQP != nil && d.amqpParts.server.text != "" && d.env.lookup("RABBITMQ_SERVER_ADDRESS") == "" && d.env.lookup("REMOTE_MONITOR_AMQP_URL") == "" {
		d.wrong(at, "the broker is named by %s as well; keep one of them", d.source)
		return
	}
	if d.amqpParts.server.text == "" {
		d.amqp()
		d.amqpParts.server = name{server, at}
	}
	if e, _ := c.value("rabbitmq", "mq_exchange"); e != "" {
		d.AMQP.Exchange = e
	}
	if t, at := c.value("rabbitmq", "device_topic"); t != "" {
		if d.AMQP.Topic = t; !isID(t) {
			d.wrong(at, "%s: want letters, digits, _ and -", quoted(t))
		}
	}
}

// besides notes variables of inputs and outputs that app.conf does not have.
func (d *draft) besides(inputs, outputs map[int]map[string]said) {
	for _, k := range slices.Sorted(maps.Keys(d.env.set)) {
		if n, _, ok := numbered("INPUT_", inputFields, k); ok && inputs[n] == nil {
			d.note("%s is set, and app.conf has no input %d", k, n)
		}
		if n, _, ok := numbered("OUTPUT_", outputFields, k); ok && outputs[n] == nil {
			d.note("%s is set, and app.conf has no output %d", k, n)
		}
	}
}

// inputs makes zones of the original's inputs.
func (d *draft) inputs(fields map[int]map[string]said, tamper string) (zones []draftZone) {
	settings := d.inputSettings()
	taken, names := map[string]int{}, map[string]int{}
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		f := fields[n]
		z := draftZone{set: settings, number: n}
		z.Name, z.Type, z.Location, z.Tamper = f["NAME"].text, f["TYPE"].text, f["LOCATION"].text, tamper
		if z.Name == "" {
			z.Name = fmt.Sprint("Input ", n)
		}
		if z.Type == "" {
			z.Type = "Detector"
		}
		z.at = place{source: anyName(f, fmt.Sprintf("INPUT_%d_NAME", n), "NAME", "TYPE", "LOCATION", "VALUE_NORMAL")}
		z.input = name{originalInputs[n-1], z.at}
		if a := f["ADDRESS"]; a.text != "" {
			z.input = name{strings.ToLower(a.text), place{source: a.name}}
		}
		z.set.Signal = zone.Loop
		normalName := anyName(f, fmt.Sprintf("INPUT_%d_VALUE_NORMAL", n), "VALUE_NORMAL")
		if v := f["VALUE_NORMAL"]; v.text == "" {
			d.wrong(place{}, "%s is not set: input %d needs the percentage of the supply it has when all is quiet", normalName, n)
		} else if normal, ok := d.percentage(v); ok {
			var meddled *float64
			if v := f["VALUE_TAMPER"]; v.text != "" {
				if t, ok := d.percentage(v); ok {
					meddled = &t
					if diff := t - normal; -tolerance <= diff && diff <= tolerance {
						d.wrong(place{}, "%s=%s: it is within %d of %s=%s and would never be seen", v.name, number(t), tolerance, normalName, number(normal))
					}
				}
			}
			z.levelsAt = z.at
			z.aroundLevels(normal, meddled)
		} else if v := f["VALUE_TAMPER"]; v.text != "" {
			d.percentage(v)
		}
		key := originalKey(z.Name, z.Type, z.Location)
		if other, ok := taken[key]; ok {
			d.wrong(z.at, "inputs %d and %d are both %q; give one of them another name, type or location", other, n, key)
		}
		taken[key] = n
		names[z.Name]++
		zones = append(zones, z)
	}
	for i := range zones { // two inputs of one name are told apart by what they are
		if z := &zones[i]; names[z.Name] > 1 {
			z.Key, z.Label = originalKey(z.Name, z.Type, z.Location), originalLabel(z.Name, z.Type)
			z.Name = strings.TrimSuffix(z.Key, " ()")
		}
	}
	return zones
}

// originalKey is the original's name of an input: Hall Motion Detector (Ground floor). Without a location it ends in (),
// as the original's does, because that is what the event processor has in its tables.
func originalKey(name, kind, location string) string {
	return originalLabel(name, kind) + " (" + location + ")"
}

func originalLabel(name, kind string) string { return strings.TrimSpace(name + " " + kind) }

// anyName is where the first of the fields that are there was said.
func anyName(f map[string]said, otherwise string, fields ...string) string {
	for _, k := range fields {
		if v, ok := f[k]; ok {
			return v.name
		}
	}
	return otherwise
}

func (d *draft) percentage(v said) (float64, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(v.text, "%")))
	if err != nil || n < 0 || n > 100 {
		d.wrong(place{}, "%s=%s: want a whole percentage of the supply, 0 to 100", v.name, v.text)
		return 0, false
	}
	return float64(n), true
}

// outs makes outputs of the original's. Commands for longer than an output may be on are shortened, because whoever
// sends them knows of no bound.
func (d *draft) outs(fields map[int]map[string]said, relays map[string]said) (outputs []draftOutput) {
	taken := map[string]int{}
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		f := fields[n]
		var o draftOutput
		o.Type, o.Location = f["TYPE"].text, f["LOCATION"].text
		if o.Type == "" {
			o.Type = "Output"
		}
		if o.Location == "" {
			o.Location = fmt.Sprint("Output ", n)
		}
		o.Name = strings.TrimSpace(o.Location + " " + o.Type)
		o.at = place{source: anyName(f, fmt.Sprintf("OUTPUT_%d_TYPE", n), "TYPE", "LOCATION", "RELAY")}
		if other, ok := taken[o.Name]; ok {
			d.wrong(o.at, "outputs %d and %d are both %q; give one of them another type or location", other, n, o.Name)
		}
		taken[o.Name] = n
		o.bounds.Over = relay.Clamp
		if v := f["MAX_ON"]; v.text != "" {
			o.maxSaid = true
			dur, ok := parseDuration(v.text)
			if !ok || dur < 10*time.Millisecond || dur > relay.LongestMaxOn {
				d.wrong(place{}, "%s=%s: want a time from 10ms to %s", v.name, v.text, span(relay.LongestMaxOn))
			}
			o.bounds.MaxOn = dur
		}
		r := f["RELAY"]
		if r.text == "" {
			d.wrong(place{}, "%s is not set: output %d needs the relay it switches, such as relay%d", anyName(f, fmt.Sprintf("OUTPUT_%d_RELAY", n), "RELAY"), n, n)
			continue
		}
		o.pin = name{strings.ToLower(r.text), place{source: r.name}}
		if _, err := strconv.ParseUint(r.text, 10, 16); err == nil {
			o.pin.text = "relay" + r.text
		}
		if p, ok := relays[o.pin.text]; ok {
			o.pin.text = strings.ToLower(p.text)
			if p.name != "" {
				o.pin.at = place{source: p.name}
			}
		} else if _, err := board.ParsePin(o.pin.text); err != nil {
			d.wrong(place{}, "%s=%s: there is no such relay; %s", r.name, r.text, instead(r.text, slices.Sorted(maps.Keys(relays))))
			continue
		}
		outputs = append(outputs, o)
	}
	return outputs
}
