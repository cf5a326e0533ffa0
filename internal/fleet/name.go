package fleet

import (
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
)

// The friendly names are made of these: short, easy to say on the telephone, and of no bad meaning in any pair.
var (
	adjectives = strings.Fields(`able amber ample autumn azure balmy bold brave breezy bright brisk bronze calm candid cheery
		clever coastal cobalt copper coral cosy crimson crisp curious dapper dawn deep distant dusky eager early earnest
		easy ember even fair fancy fearless fleet floral fond fresh frosty gentle gilded glad golden grand green happy
		hardy hazel hearty hidden honest humble hushed indigo ivory jade jolly jovial keen kind lilac limber lively loyal
		lucid lucky lunar mellow merry mighty mild misty modest morning mossy neat nimble noble olive opal open patient
		pearly placid plucky polar polished prime proud quick quiet rapid ready rosy royal ruby rustic sage sandy sapphire
		serene sharp shiny silent silver sleek smart snowy solar solid spry stately steady still stormy stout sturdy
		summer sunny swift tender tidal tidy timely tranquil trusty upbeat velvet verdant vivid warm wandering western
		wild willing winter wise witty young zesty`)
	nouns = strings.Fields(`acorn alder anchor apple arrow aspen aster badger bay beacon beaver birch bison bloom bluff
		bough breeze brook canyon cedar cherry cliff cloud clover comet coot cove crane creek crest curlew cypress daisy
		dale delta dove dune dunlin eagle elm ember falcon fern field finch fjord forest fox garden glacier glade godwit
		grove gull harbor hare hawk heath heather heron hill hollow ibis inlet iris island ivy jay juniper kestrel kite
		knot lagoon lake lantern larch lark laurel leaf lily linnet lodge lotus lynx magpie maple marsh marten meadow mesa
		mint moon moor moss oak oasis ocean orchard oriole osprey otter owl path peak pebble petrel pine plain plover pond
		poppy prairie puffin quail raven reed reef ridge river robin rook rose rush sail sanderling sea seal shore sky snipe
		sparrow spring spruce star stone stork stream summit sun swallow swan swift teal tern thicket thrush tide trail
		tree tulip valley vine violet wagtail warbler wave willow wind wren yarrow`)
)

// RandomName makes a friendly name, adjective-noun. intn returns a number in [0, n). After a few names that were
// taken, taken > 3, a number keeps the next ones apart.
func RandomName(intn func(n int) int, taken int) string {
	name := adjectives[intn(len(adjectives))] + "-" + nouns[intn(len(nouns))]
	if taken > 3 {
		digits := "23456789"
		for range 3 {
			name += string(digits[intn(len(digits))])
		}
	}
	return name
}

var (
	fleetName = regexp.MustCompile(`^[a-zA-Z0-9_-]{4,100}$`)
	hexUUID   = regexp.MustCompile(`^[a-f0-9]{32}([a-f0-9]{30})?$`)
	shellName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	tagKey    = regexp.MustCompile(`^\S{1,255}$`)
)

// CheckFleetName says whether a fleet may be called name.
func CheckFleetName(name string) error {
	if !fleetName.MatchString(name) {
		return fault.Newf(fault.Invalid, "%q cannot be a fleet's name: a name may only contain letters, digits, dashes and underscores, and has 4 to 100 of them", name).
			WithHint("choose another name")
	}
	return nil
}

// CheckDeviceName says whether a device may be called name.
func CheckDeviceName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return fault.New(fault.Invalid, "a device's name cannot be empty")
	case len(name) > 255:
		return fault.New(fault.Invalid, "a device's name cannot be longer than 255 bytes")
	case !utf8.ValidString(name) || strings.IndexFunc(name, unicode.IsControl) >= 0:
		return fault.New(fault.Invalid, "a device's name cannot have line breaks or control characters")
	}
	return nil
}

// CheckDeviceUUID says whether a device may have made this uuid: 32 or 62 lower-case hex digits.
func CheckDeviceUUID(uuid string) error {
	if !hexUUID.MatchString(uuid) {
		return fault.New(fault.Invalid, "a device's uuid is 32 or 62 lower-case hex digits")
	}
	return nil
}

// CheckFleetUUID says whether a fleet may have this uuid: 32 lower-case hex digits.
func CheckFleetUUID(uuid string) error {
	if !hexUUID.MatchString(uuid) || len(uuid) != 32 {
		return fault.New(fault.Invalid, "a fleet's uuid is 32 lower-case hex digits")
	}
	return nil
}

// Slug is the name of a fleet within the server: organization handle, slash, name, in lower case.
func Slug(handle, name string) string { return strings.ToLower(handle + "/" + name) }

// NewUUID makes a version 4 UUID of 32 hex digits from 16 random bytes.
func NewUUID(random [16]byte) string {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	return hex.EncodeToString(random[:])
}

// Bounds of variables and tags, in bytes.
const (
	MaxVariable = 100_000
	MaxTag      = 10_000
)

// CheckVariable says whether an environment variable may have this name and value.
func CheckVariable(name, value string) error {
	switch {
	case !shellName.MatchString(name) || len(name) > 255:
		return fault.Newf(fault.Invalid, "%q cannot be a variable's name", name).
			WithHint("use letters, digits and underscores, and no digit first")
	case name == "BALENA" || name == "RESIN" || name == "USER",
		strings.HasPrefix(name, "BALENA_"), strings.HasPrefix(name, "RESIN_"):
		return fault.Newf(fault.Invalid, "the variable name %s is reserved for the platform", name).
			WithHint("choose a name that does not start with BALENA_ or RESIN_")
	}
	return checkValue(name, value)
}

// CheckConfigVariable says whether a config variable may have this name and value. What its reserved name means is for
// the device to know: a supervisor may be newer than this server.
func CheckConfigVariable(name, value string) error {
	if !shellName.MatchString(name) || len(name) > 255 || !strings.HasPrefix(name, "BALENA_") && !strings.HasPrefix(name, "RESIN_") {
		return fault.Newf(fault.Invalid, "%q is not a config variable", name).
			WithHint("config variables start with BALENA_ or RESIN_, as BALENA_HOST_CONFIG_gpu_mem does")
	}
	return checkValue(name, value)
}

func checkValue(name, value string) error {
	switch {
	case len(value) > MaxVariable:
		return fault.Newf(fault.TooLarge, "the value of %s is over %d bytes", name, MaxVariable)
	case strings.IndexByte(value, 0) >= 0 || !utf8.ValidString(value):
		return fault.Newf(fault.Invalid, "the value of %s has bytes an environment cannot carry", name)
	}
	return nil
}

// CheckTag says whether a tag may have this key and value.
func CheckTag(key, value string) error {
	switch {
	case !tagKey.MatchString(key):
		return fault.Newf(fault.Invalid, "%q cannot be a tag's key", key).WithHint("use 1 to 255 bytes without white space")
	case strings.HasPrefix(key, "io.balena."), strings.HasPrefix(key, "io.resin."):
		return fault.Newf(fault.Invalid, "the tag key %s is reserved for the platform", key).
			WithHint("choose one that does not start with io.balena. or io.resin.")
	case len(value) > MaxTag:
		return fault.Newf(fault.TooLarge, "the value of tag %s is over %d bytes", key, MaxTag)
	}
	return nil
}
