package simulation

import (
	"fmt"
	"strings"
	"time"
)

// Homes are the presets. No two are alike in what troubles them, and none was made after a real one.
func Homes() []Home {
	return []Home{quiet(), contacts(), flat(), storms(), veranda(), sunny(), drafty(), pets(), wired(), greenhouse(), studio()}
}

// Named is the preset of this name.
func Named(name string) (Home, error) {
	var names []string
	for _, h := range Homes() {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	return Home{}, fmt.Errorf("there is no simulated home %q; choose from %s", name, strings.Join(names, ", "))
}

// Habits of going out.
func work(share float64) Absence {
	return Absence{At: 8*time.Hour + 20*time.Minute, Spread: 20 * time.Minute, For: 9 * time.Hour, Vary: 0.12, Share: share, Weekdays: true}
}

func errand(at time.Duration, share float64) Absence {
	return Absence{At: at, Spread: 40 * time.Minute, For: 70 * time.Minute, Vary: 0.5, Share: share}
}

func out() []Absence {
	return []Absence{errand(9*time.Hour, 0.6), errand(11*time.Hour+30*time.Minute, 0.6), errand(14*time.Hour, 0.6), errand(16*time.Hour+30*time.Minute, 0.6), errand(19*time.Hour, 0.4)}
}

// mild is a climate in which detectors see people well.
func mild() Climate { return Climate{Peak: 23, Vary: 1.5, Swing: 4} }

// hot is a summer in a house without air conditioning.
func hot() Climate {
	return Climate{Peak: 26, Vary: 1.5, Hot: 0.27, HotPeak: 32, HotVary: 1, Swing: 5}
}

// Nuisances.

// heat is a storm: convection over what the sun has heated, for hours, as long as the contrast is small everywhere.
func heat(zone string, from, to time.Duration, every time.Duration) Nuisance {
	return Nuisance{Zone: zone, Share: 0.9, Hot: true, From: from, To: to, Every: every, Gusts: true, Width: 140 * time.Millisecond, Vary: 2.67}
}

// sun is a patch of it that crosses the room, every day that is not overcast.
func sun(zone string, from, to time.Duration) Nuisance {
	return Nuisance{Zone: zone, Share: 0.6, From: from, To: to, Every: 6 * time.Minute, Gusts: true, Width: 300 * time.Millisecond, Vary: 1}
}

// draft is warm air when a heating starts, twice an hour.
func draft(zone string, from, to time.Duration) Nuisance {
	return Nuisance{Zone: zone, Share: 1, From: from, To: to, Spells: 2 * (to - from).Hours(), Lasts: 2 * time.Minute, Every: 4 * time.Minute, Width: 300 * time.Millisecond, Vary: 1}
}

// insect sits on a lens, some nights, and moves now and then for some minutes.
func insect(zone string, share float64) Nuisance {
	return Nuisance{Zone: zone, Share: 1, From: 0, To: day, Spells: share, Lasts: 4 * time.Minute, Every: 20 * time.Second, Gusts: true, Width: 200 * time.Millisecond, Vary: 0.7}
}

// lone is a pulse that nobody can explain; one in a dozen comes with another.
func lone(zone string, aDay float64) Nuisance {
	const share = 6.3 // one spell of so many has a pulse
	return Nuisance{Zone: zone, Share: 1, From: 0, To: day, Spells: share * aDay, Lasts: 2 * time.Second, Every: 8 * time.Second, Width: 200 * time.Millisecond, Vary: 0.7}
}

// headlights sweep over a wall in the evening.
func headlights(zone string) Nuisance {
	return Nuisance{Zone: zone, Share: 0.5, From: 18 * time.Hour, To: 23 * time.Hour, Spells: 1, Lasts: 15 * time.Second, Every: 10 * time.Second, Width: 400 * time.Millisecond, Vary: 0.5}
}

func quiet() Home {
	return Home{
		Name: "quiet", About: "a family house with wired detectors, two of which see the entrance; people come and go",
		Rooms: []Room{
			{Name: "hall", Next: []string{"living", "kitchen", "stairs"}},
			{Name: "living", Stay: 3}, {Name: "kitchen", Next: []string{"living"}, Stay: 2},
			{Name: "stairs", Next: []string{"bedroom", "study"}}, {Name: "bedroom", Stay: 0.5, Bed: true}, {Name: "study", Stay: 1},
		},
		Zones: []Zone{
			{Name: "entrance", Room: "hall", Hold: 300 * time.Millisecond}, {Name: "living", Room: "living", Also: "hall", Hold: 300 * time.Millisecond},
			{Name: "kitchen", Room: "kitchen", Hold: 300 * time.Millisecond}, {Name: "stairs", Room: "stairs", Also: "hall", Hold: 300 * time.Millisecond},
			{Name: "study", Room: "study", Hold: 300 * time.Millisecond},
		},
		People: 2, Absences: out(), Climate: mild(),
		Nuisances: []Nuisance{lone("living", 0.4), lone("kitchen", 0.3), lone("study", 0.3)},
	}
}

func contacts() Home {
	return Home{
		Name: "contacts", About: "a house with a contact at the door and slow detectors, insects and headlights",
		Rooms: []Room{
			{Name: "hall", Next: []string{"living", "kitchen", "bath"}}, {Name: "living", Stay: 3, Next: []string{"bedroom"}},
			{Name: "kitchen", Stay: 2}, {Name: "bath", Stay: 0.5}, {Name: "bedroom", Stay: 0.5, Bed: true},
		},
		Zones: []Zone{
			{Name: "door", Room: "hall", Door: true}, {Name: "hall", Room: "hall", Hold: 3 * time.Second},
			{Name: "living", Room: "living", Hold: 3 * time.Second}, {Name: "kitchen", Room: "kitchen", Hold: 3 * time.Second},
		},
		People: 2, Absences: []Absence{work(0.7), errand(10*time.Hour, 0.4), errand(15*time.Hour, 0.4), errand(18*time.Hour+30*time.Minute, 0.5)},
		Climate:   mild(),
		Nuisances: []Nuisance{insect("kitchen", 0.1), headlights("living"), lone("hall", 0.1)},
		Faults:    Faults{LostOff: 0.001},
	}
}

func flat() Home {
	return Home{
		Name: "flat", About: "two rooms and two detectors, one person",
		Rooms:  []Room{{Name: "room", Next: []string{"kitchen", "bath"}, Stay: 3, Bed: true}, {Name: "kitchen", Stay: 2}, {Name: "bath", Stay: 0.5}},
		Zones:  []Zone{{Name: "room", Room: "room", Hold: 2 * time.Second}, {Name: "kitchen", Room: "kitchen", Hold: 2 * time.Second}},
		People: 1, Absences: []Absence{work(0.9), errand(10*time.Hour, 0.4), errand(19*time.Hour, 0.5)}, Climate: mild(),
		Nuisances: []Nuisance{lone("room", 0.2), lone("kitchen", 0.2)},
	}
}

func storms() Home {
	return Home{
		Name: "storms", About: "a hot summer: storms in the afternoon, people who are hardly warmer than the room, and an entrance that detectors only see from other rooms",
		Rooms: []Room{
			{Name: "hall", Next: []string{"living", "corridor"}}, {Name: "living", Stay: 3, Next: []string{"kitchen"}}, {Name: "kitchen", Stay: 2},
			{Name: "corridor", Next: []string{"bath", "bedroom"}}, {Name: "bath", Stay: 1}, {Name: "bedroom", Stay: 1, Bed: true},
		},
		Zones: []Zone{
			{Name: "living", Room: "living", Also: "hall", Hold: 300 * time.Millisecond}, {Name: "kitchen", Room: "kitchen", Hold: 300 * time.Millisecond},
			{Name: "corridor", Room: "corridor", Also: "hall", Hold: 300 * time.Millisecond},
		},
		People: 1, Absences: []Absence{work(0.9), errand(11*time.Hour, 0.15)}, Climate: hot(),
		Nuisances: []Nuisance{heat("living", 13*time.Hour, 18*time.Hour, 65*time.Second)},
		Faults:    Faults{Stick: 0.01, LostOff: 0.002},
	}
}

func veranda() Home {
	h := storms()
	h.Name, h.About = "veranda", "storms from the late morning that come in squalls, with a contact at the door and detectors that stay on for two seconds"
	h.Zones = append([]Zone{{Name: "door", Room: "hall", Door: true}}, h.Zones...)
	for i := range h.Zones {
		h.Zones[i].Hold = 2 * time.Second
	}
	squalls := heat("living", 10*time.Hour, 17*time.Hour, 30*time.Second)
	squalls.Spells, squalls.Lasts, squalls.Sudden = 5, 40*time.Minute, true
	h.Nuisances = []Nuisance{squalls}
	return h
}

func sunny() Home {
	h := quiet()
	h.Name, h.About = "sunny", "patches of sun that cross two rooms at different times, and a mild storm in a third"
	h.Absences = []Absence{work(0.8), errand(11*time.Hour, 0.4), errand(19*time.Hour, 0.4)}
	h.Climate = Climate{Peak: 26, Vary: 1.5, Hot: 0.3, HotPeak: 30, HotVary: 1, Swing: 5}
	h.Nuisances = []Nuisance{
		sun("kitchen", 8*time.Hour+30*time.Minute, 10*time.Hour+30*time.Minute), sun("living", 15*time.Hour, 17*time.Hour),
		heat("study", 12*time.Hour, 14*time.Hour, 2*time.Minute),
	}
	return h
}

func drafty() Home {
	h := contacts()
	h.Name, h.About = "drafty", "a heating that blows at one detector twice an hour, and a curtain in its way"
	h.Climate = Climate{Peak: 21, Vary: 1, Swing: 3}
	h.Nuisances = []Nuisance{draft("living", 6*time.Hour, 22*time.Hour), lone("kitchen", 0.2)}
	return h
}

func pets() Home {
	h := quiet()
	h.Name, h.About = "pets", "a cat that roams three times a day, and detectors with lenses for pets"
	for i := range h.Zones {
		h.Zones[i].Small = 0.12
	}
	h.Absences = []Absence{work(0.7), errand(11*time.Hour, 0.4), errand(19*time.Hour, 0.4)}
	h.Pets = []Pet{{Walks: 3, Asleep: 4 * time.Minute, Through: 4}}
	return h
}

func wired() Home {
	h := contacts()
	h.Name, h.About = "wired", "old wiring: the supply dips, contacts stick, messages get lost, and what is sampled has interference and bad joints"
	for i := range h.Zones {
		h.Zones[i].Loop = !h.Zones[i].Door
	}
	h.Nuisances = []Nuisance{lone("hall", 0.2), lone("living", 0.2)}
	h.Faults = Faults{Stick: 0.03, LostOff: 0.01, Dips: 0.3, EMI: 20, Wiring: 0.5}
	return h
}

func greenhouse() Home {
	h := storms()
	h.Name, h.About = "greenhouse", "storms in two rooms at once, which no second zone can tell from people"
	h.Nuisances = append(h.Nuisances, heat("kitchen", 12*time.Hour, 17*time.Hour, 2*time.Minute))
	return h
}

func studio() Home {
	return Home{
		Name: "studio", About: "one room and one detector, so that nothing can confirm it",
		Rooms:  []Room{{Name: "room", Next: []string{"bath"}, Stay: 3, Bed: true}, {Name: "bath", Stay: 0.5}},
		Zones:  []Zone{{Name: "room", Room: "room", Hold: 2 * time.Second}},
		People: 1, Absences: []Absence{work(0.9), errand(11*time.Hour, 0.4), errand(19*time.Hour, 0.5)}, Climate: mild(),
		Nuisances: []Nuisance{lone("room", 0.2), insect("room", 0.05)},
	}
}
