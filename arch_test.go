package dunlin_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/dunlin/dunlin"

// room is one package: the rooms it may import and the outside modules ("guests") that may enter it. What a room's
// tests import beyond that is in tests and testGuests.
type room struct {
	rooms      string
	guests     string
	tests      string
	testGuests string
}

// house is the map. A new door is a new word here, and a reviewer sees it.
var house = map[string]room{
	// Words: no I/O, no clock.
	"internal/fault": {},
	"internal/wire":  {testGuests: "rapid cmp"},
	"internal/fleet": {rooms: "fault wire", testGuests: "rapid cmp"},
	"internal/odata": {rooms: "fault", testGuests: "rapid cmp"},
	"internal/plan":  {rooms: "engine", testGuests: "rapid cmp"},

	// Words: the difference between two images.
	"internal/delta":          {rooms: "delta/code delta/entropy delta/literal delta/match delta/member delta/residue delta/tarfile", testGuests: "cmp rapid"},
	"internal/delta/code":     {rooms: "delta/entropy delta/match", testGuests: "rapid cmp"},
	"internal/delta/entropy":  {testGuests: "rapid"},
	"internal/delta/literal":  {rooms: "delta/entropy", testGuests: "rapid"},
	"internal/delta/match":    {testGuests: "rapid"},
	"internal/delta/member":   {rooms: "delta/entropy", testGuests: "rapid"},
	"internal/delta/librsync": {testGuests: "rapid"},
	"internal/delta/stock":    {rooms: "delta delta/librsync", guests: "compress"},
	"internal/delta/tarfile":  {rooms: "delta/entropy", testGuests: "cmp rapid"},
	"internal/delta/residue":  {rooms: "delta/entropy", testGuests: "rapid"},

	// Instruments: one technology each.
	"internal/archive":             {rooms: "fault", guests: "compress", testGuests: "cmp"},
	"internal/store":               {rooms: "fault fleet", guests: "sqlite pgx goose", tests: "store/storetest", testGuests: "cmp"},
	"internal/store/storetest":     {rooms: "store"},
	"internal/resource":            {rooms: "fault fleet odata store", tests: "store/storetest", testGuests: "cmp rapid"},
	"internal/source":              {rooms: "fault fleet", guests: "crypto", testGuests: "cmp"},
	"internal/build":               {rooms: "fault fleet", guests: "buildkit moby-client moby-api gcr compose mod yaml grpc fsutil", testGuests: "cmp gcr rapid"},
	"internal/registry":            {guests: "distribution logrus renameio", tests: "auth fault fleet store store/storetest", testGuests: "gcr jwt sync"},
	"internal/folder":              {rooms: "fault", guests: "dockerignore"},
	"internal/logs":                {rooms: "fault wire", testGuests: "rapid cmp"},
	"internal/asset":               {rooms: "fault", testGuests: "rapid"},
	"internal/trust":               {rooms: "fault", guests: "renameio"},
	"internal/engine":              {},
	"internal/engine/dockerengine": {rooms: "engine", guests: "moby-client moby-api moby-errdefs", tests: "archive engine/enginetest", testGuests: "gcr"},
	"internal/engine/enginetest":   {rooms: "archive engine"},

	// Work: instruments put to a purpose.
	"internal/auth":     {rooms: "fault fleet store", guests: "crypto jwt renameio", tests: "store/storetest", testGuests: "cmp rapid"},
	"internal/hub":      {rooms: "fleet store"},
	"internal/deltajob": {rooms: "delta delta/stock fault fleet registry store", guests: "compress sync", tests: "store/storetest"},
	"internal/release":  {rooms: "fault fleet wire store build hub", guests: "sync", tests: "store/storetest", testGuests: "gcr"},
	"internal/delivery": {rooms: "archive delta engine", guests: "sys", tests: "engine/enginetest engine/dockerengine fleettest", testGuests: "gcr"},
	"internal/agent":    {rooms: "fault wire plan engine delivery", guests: "renameio sys sync", tests: "delta engine/enginetest engine/dockerengine", testGuests: "cmp"},

	// Front doors: they translate.
	"internal/route":      {testGuests: "rapid"},
	"internal/deviceapi":  {rooms: "fault wire fleet store auth hub logs route", tests: "deltajob store/storetest"},
	"internal/api":        {rooms: "fault fleet wire auth asset hub release resource odata route", tests: "build hub logs store store/storetest", testGuests: "cmp gcr"},
	"internal/cli":        {rooms: "archive client delta delta/stock fault folder", guests: "cobra term crypto", tests: "asset api auth build fleet hub logs release resource store store/storetest wire", testGuests: "testscript cmp gcr"},
	"client":              {rooms: "", testGuests: "cmp"},
	"internal/deltabench": {},
	"internal/fleettest":  {rooms: "store/storetest"},
	"internal/balenatest": {tests: "fleettest", testGuests: "cmp"},

	// The only wiring.
	"cmd/dunlin":       {rooms: "*", guests: "cobra pflag prometheus sync yaml"},
	"cmd/dunlin-agent": {rooms: "agent delivery engine engine/dockerengine fault"},
	"":                 {},
}

// guests are the outside modules by the short names the map uses. Everything below the path is meant.
var guests = map[string]string{
	"sqlite":       "modernc.org/sqlite",
	"pgx":          "github.com/jackc/pgx/v5",
	"goose":        "github.com/pressly/goose/v3",
	"crypto":       "golang.org/x/crypto",
	"buildkit":     "github.com/moby/buildkit",
	"moby-client":  "github.com/moby/moby/client",
	"moby-api":     "github.com/moby/moby/api",
	"moby-errdefs": "github.com/containerd/errdefs",
	"gcr":          "github.com/google/go-containerregistry",
	"compose":      "github.com/compose-spec/compose-go/v2",
	"mod":          "golang.org/x/mod",
	"yaml":         "github.com/goccy/go-yaml",
	"sync":         "golang.org/x/sync",
	"sys":          "golang.org/x/sys",
	"term":         "golang.org/x/term",
	"grpc":         "google.golang.org/grpc",
	"fsutil":       "github.com/tonistiigi/fsutil",
	"distribution": "github.com/distribution/distribution/v3",
	"compress":     "github.com/klauspost/compress",
	"logrus":       "github.com/sirupsen/logrus",
	"dockerignore": "github.com/moby/patternmatcher",
	"prometheus":   "github.com/prometheus/client_golang",
	"jwt":          "github.com/golang-jwt/jwt/v5",
	"renameio":     "github.com/google/renameio/v2",
	"cobra":        "github.com/spf13/cobra",
	"pflag":        "github.com/spf13/pflag",
	"rapid":        "pgregory.net/rapid",
	"testscript":   "github.com/rogpeppe/go-internal",
	"cmp":          "github.com/google/go-cmp",
}

// slim are the binaries that run on devices, and what must never be linked into them.
var slim = map[string][]string{
	"cmd/dunlin-agent": {
		"database/sql", "modernc.org/sqlite", "github.com/moby/buildkit", "github.com/distribution/distribution", "github.com/spf13/cobra",
		"github.com/google/go-containerregistry", "github.com/prometheus/client_golang", "google.golang.org/grpc", "github.com/compose-spec",
	},
}

type pkg struct {
	ImportPath, Name, Doc              string
	Imports, TestImports, XTestImports []string
	Deps                               []string
	GoFiles                            []string
}

func TestTheHouseIsAsTheMapSays(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		seen[name] = true
		r, ok := house[name]
		if !ok {
			t.Errorf("room %s is not on the map; give it an address in arch_test.go", name)
			continue
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("room %s has no package comment; say what it owns and what it does not", name)
		}
		rooms := words(r.rooms)
		if r.rooms == "*" {
			check(t, name, outside(p.Imports), nil, words(r.guests))
			continue
		}
		check(t, name, p.Imports, rooms, words(r.guests))
		check(t, name+" (tests)", slices.Concat(p.TestImports, p.XTestImports),
			slices.Concat(rooms, words(r.tests), []string{strings.TrimPrefix(name, "internal/")}), slices.Concat(words(r.guests), words(r.testGuests)))
		unused(t, name, p.Imports, rooms, words(r.guests))
		unused(t, name+" (tests)", slices.Concat(p.TestImports, p.XTestImports), words(r.tests), words(r.testGuests))
	}
	for name := range house {
		if !seen[name] {
			t.Errorf("the map has a room %q that the house has not; take it off the map", name)
		}
	}
}

func TestNothingHeavyIsLinkedIntoADevicesBinary(t *testing.T) {
	for name, heavy := range slim {
		for _, p := range list(t, "./"+name) {
			for _, dep := range p.Deps {
				for _, h := range heavy {
					if dep == h || strings.HasPrefix(dep, h+"/") {
						t.Errorf("%s links %s; a device has no room for it", name, dep)
					}
				}
			}
		}
	}
}

func TestEveryDirectModuleHasAnAddress(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, line := range strings.Split(string(mod), "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) != 2 || strings.Contains(line, "// indirect") || !strings.HasPrefix(f[1], "v") {
			continue
		}
		if !slices.ContainsFunc(sorted(guests), func(g string) bool { return f[0] == g || strings.HasPrefix(f[0]+"/", g+"/") }) {
			missing = append(missing, f[0])
		}
	}
	if len(missing) > 0 {
		t.Errorf("modules without a short name in arch_test.go: %s", strings.Join(missing, ", "))
	}
}

// check reports the imports of a room that are on neither list.
func check(t *testing.T, name string, imports, rooms, guestNames []string) {
	t.Helper()
	for _, imp := range imports {
		switch {
		case imp == "C" || !strings.Contains(strings.Split(imp, "/")[0], "."):
			continue // the standard library
		case imp == module || strings.HasPrefix(imp, module+"/"):
			short := strings.TrimPrefix(strings.TrimPrefix(imp, module+"/"), "internal/")
			if !slices.Contains(rooms, short) {
				t.Errorf("%s imports room %s; the map has no such door", name, short)
			}
		default:
			if !slices.ContainsFunc(guestNames, func(g string) bool { return imp == guests[g] || strings.HasPrefix(imp, guests[g]+"/") }) {
				t.Errorf("%s lets in %s; the map does not list that guest for it", name, imp)
			}
		}
	}
}

// unused reports the doors of a room that nobody goes through: the map tells the truth both ways.
func unused(t *testing.T, name string, imports, rooms, guestNames []string) {
	t.Helper()
	for _, r := range rooms {
		if !slices.ContainsFunc(imports, func(i string) bool { return i == module+"/internal/"+r || i == module+"/"+r }) {
			t.Errorf("%s does not import room %s; take the door off the map", name, r)
		}
	}
	for _, g := range guestNames {
		if !slices.ContainsFunc(imports, func(i string) bool { return i == guests[g] || strings.HasPrefix(i, guests[g]+"/") }) {
			t.Errorf("%s does not let in %s; take it off the map", name, g)
		}
	}
}

func outside(imports []string) []string {
	return slices.DeleteFunc(slices.Clone(imports), func(i string) bool { return strings.HasPrefix(i, module) })
}

func words(s string) []string { return strings.Fields(s) }

func sorted(m map[string]string) []string {
	var v []string
	for _, x := range m {
		v = append(v, x)
	}
	sort.Strings(v)
	return v
}

func list(t *testing.T, pattern string) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json", pattern).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pattern, err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var all []pkg
	for dec.More() {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(fmt.Errorf("read go list: %w", err))
		}
		p.ImportPath = path.Clean(p.ImportPath)
		all = append(all, p)
	}
	return all
}
