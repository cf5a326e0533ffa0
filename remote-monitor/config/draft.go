package config

import (
	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// draft is a configuration as it was said: names are not looked up yet. Each part keeps where it was said, so that
// what turns out wrong later is told at its place.
type draft struct {
	*problems
	Config
	env    *variables
	source string // of the YAML

	chips      []draftChip
	boardsSaid bool // chips are all there are; else the original's wiring is there for who uses it
	simulated  bool // every board is simulated, whatever is said of it
	seed       *uint64
	supply     name
	zones      []draftZone
	zonesAt    place // where zones were described; zero: nowhere
	groups     []draftGroup
	outputs    []draftOutput
	outputsAt  place
	rules      []draftRule
	amqpParts  amqpParts
	expireSaid bool
}

// name is a reference to something, and where it was said.
type name struct {
	text string
	at   place
}

type draftChip struct {
	board.Chip
	at   place
	seed *uint64 // of a simulation
	// spare is a chip of the original's wiring that nobody described: it is there if it is used.
	spare bool
}

type draftZone struct {
	Zone
	what        string // for errors
	set         zone.Settings
	at          place
	idAt        place
	input       name
	group       name
	confirmWith []name
	levelsAt    place // of resistors, levels or around; zero: not given
	analogAt    place // of the first key that is for analog zones; zero: none
	around      bool  // Levels are those of Normal and Tamper
	number      int   // of the original's input; 0: none
}

type draftGroup struct {
	zone.Group
	at    place
	input name
}

type draftOutput struct {
	Output
	bounds  relay.Output
	at      place
	idAt    place
	pin     name
	onAt    place
	maxSaid bool
}

type draftRule struct {
	Rule
	at                             place
	zones, groups, armed, disarmed []name
	outputs                        []name
	forAt, actionAt                place
}

// Words of values, as they are written in the file.
var (
	signals       = same(zone.Loop, zone.Analog, zone.Contact, zone.Edges)
	sensitivities = same(zone.Low, zone.Medium, zone.High)
	policies      = []word[zone.Policy]{{"single", zone.Single}, {"prefer_confirm", zone.Prefer}, {"require_confirm", zone.Require}}
	profiles      = []word[zone.Profile]{{"pipeline", zone.Pipeline}, {"legacy", zone.Legacy}}
	filters       = []word[zone.Filter]{{"median", zone.MedianOfThree}, {"hampel", zone.Hampel}, {"none", zone.NoFilter}}
	chipKinds     = same(board.MCP3424, board.ADS1115, board.MCP23017, board.PCA9535, board.PCF8574, board.IIO, board.GPIOChip, board.Simulation)
	zoneKinds     = []zone.Kind{zone.Motion, zone.Still, zone.PreAlarm, zone.Alarm, zone.Confirmed, zone.Tamper, zone.Fault, zone.Restore, zone.Silent}
	groupKinds    = []zone.Kind{zone.Armed, zone.Disarmed, zone.Entry, zone.Exit, zone.Refused}
	commanders    = []string{"rule", "mqtt", "amqp", "page", "schedule"}
)
