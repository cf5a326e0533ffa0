package bus

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// home is where people find out what announced itself.
const home = "https://github.com/dunlin/dunlin"

// mostComponents bounds what is read of an earlier announcement.
const mostComponents = 2000

// haJitter spreads the announcements of all devices after Home Assistant has started.
func haJitter() time.Duration { return rand.N(5 * time.Second) }

// device, origin and available are the common parts of a discovery message.
type device struct {
	IDs     []string `json:"ids"`
	Name    string   `json:"name"`
	Maker   string   `json:"mf"`
	Model   string   `json:"mdl,omitempty"`
	Version string   `json:"sw,omitempty"`
}

type origin struct {
	Name    string `json:"name"`
	Version string `json:"sw,omitempty"`
	URL     string `json:"url"`
}

type available struct {
	Topic string `json:"topic"`
}

// common is what all components of a site share.
type common struct {
	Device       device      `json:"dev"`
	Origin       origin      `json:"o"`
	Availability []available `json:"availability"`
	Mode         string      `json:"availability_mode"`
	QoS          int         `json:"qos"`
}

// component is one entity. The fields are those of Home Assistant's MQTT integration.
type component struct {
	Platform   string   `json:"p"`
	UniqueID   string   `json:"unique_id,omitempty"`
	Name       string   `json:"name,omitempty"`
	Class      string   `json:"device_class,omitempty"`
	Category   string   `json:"entity_category,omitempty"`
	Enabled    *bool    `json:"enabled_by_default,omitempty"`
	Unit       string   `json:"unit_of_measurement,omitempty"`
	StateClass string   `json:"state_class,omitempty"`
	Command    string   `json:"command_topic,omitempty"`
	State      string   `json:"state_topic,omitempty"`
	Value      string   `json:"value_template,omitempty"`
	Attributes string   `json:"json_attributes_topic,omitempty"`
	On         string   `json:"payload_on,omitempty"`
	Off        string   `json:"payload_off,omitempty"`
	Press      string   `json:"payload_press,omitempty"`
	Optimistic *bool    `json:"optimistic,omitempty"`
	Features   []string `json:"supported_features,omitempty"`
	ArmCode    *bool    `json:"code_arm_required,omitempty"`
	DisarmCode *bool    `json:"code_disarm_required,omitempty"`
	Expire     int      `json:"expire_after,omitempty"` // seconds
}

// nodeID is the site as Home Assistant knows it.
func (m *MQTT) nodeID() string { return "rm_" + m.Site.ID }

func (m *MQTT) common() common {
	return common{
		Device:       device{[]string{m.nodeID()}, m.Site.Name, "remote-monitor", m.Site.Model, m.Site.Version},
		Origin:       origin{"remote-monitor", m.Site.Version, home},
		Availability: []available{{m.base + "/status"}},
		Mode:         "all",
		QoS:          1,
	}
}

// components are the entities of the site by their keys.
func (m *MQTT) components() map[string]component {
	all := map[string]component{}
	no := false
	add := func(key string, c component) {
		for k, n := key, 2; ; n++ { // an output may be called as a part of a zone is
			if _, taken := all[key]; !taken {
				break
			}
			key = k + "_" + strconv.Itoa(n)
		}
		c.UniqueID = m.nodeID() + "_" + key
		if c.Platform == "binary_sensor" || c.Platform == "sensor" {
			c.Expire = int(m.Expire / time.Second)
		}
		all[key] = c
	}
	value := func(field string) string { return "{{ value_json." + field + " }}" }
	for _, z := range m.Site.Zones {
		state := m.base + "/input/" + z.ID + "/state"
		class := z.Class
		if class == "" {
			class = "motion"
		}
		name, motion := z.Name, z.Name
		if class == "motion" {
			if cut := len(name) - len(" motion"); cut > 0 && strings.EqualFold(name[cut:], " motion") {
				name = name[:cut]
			}
			motion = name + " motion"
		}
		id := z.ID
		if cut := strings.TrimSuffix(id, "_motion"); cut != "" {
			id = cut
		}
		add(id+"_motion", component{Platform: "binary_sensor", Name: motion, Class: class, State: state, Value: value("motion"), Attributes: state})
		add(id+"_alarm", component{Platform: "binary_sensor", Name: name + " alarm", Class: "safety", State: state, Value: value("alarm")})
		add(id+"_tamper", component{Platform: "binary_sensor", Name: name + " tamper", Class: "tamper", Category: "diagnostic", State: state, Value: value("tamper")})
		add(id+"_problem", component{Platform: "binary_sensor", Name: name + " problem", Class: "problem", Category: "diagnostic", State: state, Value: value("problem")})
		if z.Analog {
			add(id+"_volts", component{Platform: "sensor", Name: name + " voltage", Class: "voltage", Unit: "V", StateClass: "measurement",
				Category: "diagnostic", Enabled: &no, State: state, Value: value("volts")})
		}
	}
	for _, o := range m.Site.Outputs {
		state, set := m.base+"/output/"+o.ID+"/state", m.base+"/output/"+o.ID+"/set"
		if o.Momentary {
			add(o.ID, component{Platform: "button", Name: o.Name, Command: set, Press: "PRESS"})
		} else {
			add(o.ID, component{Platform: "switch", Name: o.Name, Command: set, State: state, Value: value("state"), On: "ON", Off: "OFF", Optimistic: &no})
		}
		add(o.ID+"_problem", component{Platform: "binary_sensor", Name: o.Name + " problem", Class: "problem", Category: "diagnostic", State: state, Value: value("problem")})
	}
	for _, g := range m.Site.Groups {
		topic := m.base + "/group/" + topicID(g)
		add(topicID(g)+"_panel", component{Platform: "alarm_control_panel", Name: g, Command: topic + "/set", State: topic + "/state", Value: value("state"),
			Features: []string{"arm_away"}, ArmCode: &no, DisarmCode: &no})
	}
	return all
}

// deviceTopic is where the whole site is announced.
func (m *MQTT) deviceTopic() string { return m.Discovery + "/device/" + m.nodeID() + "/config" }

// componentTopic is where one entity is announced by itself.
func (m *MQTT) componentTopic(platform, key string) string {
	return m.Discovery + "/" + platform + "/" + m.nodeID() + "/" + key + "/config"
}

// announcement is what tells Home Assistant of the site.
func (m *MQTT) announcement() []outgoing {
	if m.Discovery == "-" {
		return nil
	}
	all := m.components()
	if !m.Components {
		return []outgoing{m.whole(all)}
	}
	var out []outgoing
	for _, key := range slices.Sorted(maps.Keys(all)) {
		c := all[key]
		topic := m.componentTopic(c.Platform, key)
		c.Platform = "" // the topic says it
		out = append(out, outgoing{topic: topic, retain: true, payload: encode(struct {
			common
			component
			Platform string `json:"p,omitempty"` // hides component's
		}{common: m.common(), component: c})})
	}
	return out
}

// whole is the message of a device with components.
func (m *MQTT) whole(all map[string]component) outgoing {
	return outgoing{topic: m.deviceTopic(), retain: true, payload: encode(struct {
		common
		Components map[string]component `json:"cmps"`
	}{m.common(), all})}
}

// retire gives what takes back those parts of an earlier announcement that are no more: for a device first a message
// that has nothing of them but the platform, then one without them; for a single component an empty one.
func (m *MQTT) retire(old outgoing) []outgoing {
	if !old.retain || len(old.payload) == 0 {
		return nil
	}
	current := m.components()
	if old.topic != m.deviceTopic() {
		for key, c := range current {
			if m.Components && old.topic == m.componentTopic(c.Platform, key) {
				return nil
			}
		}
		return []outgoing{{topic: old.topic, retain: true}}
	}
	if m.Components {
		return []outgoing{{topic: old.topic, retain: true}}
	}
	gone := maps.Clone(current)
	for key, platform := range announced(old.payload) {
		if _, still := current[key]; !still {
			gone[key] = component{Platform: platform}
		}
	}
	if len(gone) == len(current) {
		return nil
	}
	return []outgoing{m.whole(gone), m.whole(current)}
}

// announced reads which components, with their platforms, a device message had.
func announced(payload []byte) map[string]string {
	var old struct {
		Components map[string]struct {
			Platform string `json:"p"`
		} `json:"cmps"`
	}
	if json.Unmarshal(payload, &old) != nil || len(old.Components) > mostComponents {
		return nil
	}
	found := map[string]string{}
	for key, c := range old.Components {
		if plain.MatchString(key) && plain.MatchString(c.Platform) {
			found[key] = c.Platform
		}
	}
	return found
}

// largest is the size of the largest packet that the broker may send: an earlier announcement may have been longer
// than this one.
func (m *MQTT) largest() uint32 {
	n := 64 << 10
	if m.Discovery != "-" {
		n += 4 * len(m.whole(m.components()).payload)
	}
	return uint32(min(n, 4<<20))
}
