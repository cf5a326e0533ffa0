package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dunlin/dunlin/remote-monitor"

// room is one package: the rooms it may import and the outside modules (guests) that may enter it. What its tests
// import beyond that is in tests and testGuests.
type room struct{ rooms, guests, tests, testGuests string }

// house is the map. A new door is a new word here, and a reviewer sees it.
var house = map[string]room{
	// Pure: no input, no clock.
	"zone": {testGuests: "cmp rapid"},

	// Hardware, and who may drive it.
	"board":                  {guests: "sync sys periph", tests: "board/boardtest", testGuests: "cmp rapid"},
	"board/boardtest":        {guests: "periph sys"},
	"board/kerneltest":       {},
	"board/kerneltest/guest": {tests: "board board/boardtest", testGuests: "cmp sys"},
	"relay":                  {rooms: "board", tests: "board/boardtest", testGuests: "cmp rapid periph sys"},

	// Ways out.
	"bus":    {guests: "paho amqp msgpack", testGuests: "cmp rapid"},
	"ping":   {guests: "sys", testGuests: "cmp"},
	"syslog": {testGuests: "cmp rapid rfc5424"},
	"sentry": {},

	// What it is told.
	"config": {rooms: "board relay zone", guests: "yaml", testGuests: "cmp"},
	"secret": {guests: "renameio"},

	// The loop, and those who look at it.
	"monitor": {rooms: "board bus config relay zone", guests: "renameio", tests: "board/boardtest", testGuests: "cmp rapid periph sys"},
	"page":    {rooms: "bus monitor zone", tests: "board relay", testGuests: "cmp rapid"},
	"metrics": {rooms: "board monitor relay zone", tests: "bus", testGuests: "prometheus"},

	// Recordings.
	"recording":            {rooms: "config zone", testGuests: "cmp rapid"},
	"recording/simulation": {rooms: "recording", tests: "config zone", testGuests: "cmp"},

	// The only wiring.
	"": {rooms: "board bus config metrics monitor page ping recording recording/simulation secret sentry syslog zone"},
}

// guests are the outside modules by the short names the map uses. Everything below the path is meant.
var guests = map[string]string{
	"amqp":       "github.com/rabbitmq/amqp091-go",
	"cmp":        "github.com/google/go-cmp",
	"msgpack":    "github.com/vmihailenco/msgpack/v5",
	"paho":       "github.com/eclipse/paho.golang",
	"periph":     "periph.io/x/conn/v3",
	"prometheus": "github.com/prometheus/client_golang",
	"rapid":      "pgregory.net/rapid",
	"renameio":   "github.com/google/renameio/v2",
	"rfc5424":    "github.com/leodido/go-syslog/v4",
	"sync":       "golang.org/x/sync",
	"sys":        "golang.org/x/sys",
	"yaml":       "github.com/goccy/go-yaml",
}

// heavy is what must never be linked into a device's binary.
var heavy = []string{"text/template", "html/template", "go/ast", "testing"}

// mostBytes is the budget of the program, stripped.
const mostBytes = 12_000_000

type pkg struct {
	ImportPath, Doc                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func TestTheHouseIsAsTheMapSays(t *testing.T) {
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		seen[name] = true
		r, ok := house[name]
		if !ok {
			t.Errorf("room %q is not on the map; give it an address in arch_test.go", name)
			continue
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("room %q has no package comment; say what it owns and what it does not", name)
		}
		tests := slices.Concat(p.TestImports, p.XTestImports)
		check(t, name, p.Imports, words(r.rooms), words(r.guests))
		check(t, name+" (tests)", tests, append(words(r.rooms+" "+r.tests), name), words(r.guests+" "+r.testGuests))
		unused(t, name, p.Imports, words(r.rooms), words(r.guests))
		unused(t, name+" (tests)", tests, words(r.tests), words(r.testGuests))
		if name == "" {
			for _, h := range heavy {
				if slices.Contains(p.Deps, h) {
					t.Errorf("the program links %s; a device has no room for it", h)
				}
			}
		}
	}
	for name := range house {
		if !seen[name] {
			t.Errorf("the map has a room %q that the house has not; take it off the map", name)
		}
	}
}

func TestTheProgramFitsItsBudget(t *testing.T) {
	file := filepath.Join(t.TempDir(), "remote-monitor")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes for arm64", info.Size())
	if info.Size() > mostBytes {
		t.Errorf("the program has %d bytes for arm64, and at most %d are allowed", info.Size(), mostBytes)
	}
}

func TestEveryDirectModuleHasAnAddress(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) != 2 || strings.Contains(line, "// indirect") || !strings.HasPrefix(f[1], "v") {
			continue
		}
		known := false
		for _, g := range guests {
			known = known || f[0] == g || strings.HasPrefix(f[0]+"/", g+"/")
		}
		if !known {
			t.Errorf("module %s has no short name in arch_test.go", f[0])
		}
	}
}

// check reports the imports of a room that are on neither list.
func check(t *testing.T, name string, imports, rooms, names []string) {
	t.Helper()
	for _, imp := range imports {
		switch {
		case imp == "C" || !strings.Contains(strings.Split(imp, "/")[0], "."):
		case imp == module || strings.HasPrefix(imp, module+"/"):
			if short := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/"); !slices.Contains(rooms, short) {
				t.Errorf("%s imports room %s; the map has no such door", name, short)
			}
		case !slices.ContainsFunc(names, func(g string) bool { return below(imp, guests[g]) }):
			t.Errorf("%s lets in %s; the map does not list that guest for it", name, imp)
		}
	}
}

// unused reports the doors that nobody goes through: the map tells the truth both ways.
func unused(t *testing.T, name string, imports, rooms, names []string) {
	t.Helper()
	for _, r := range rooms {
		if !slices.Contains(imports, module+"/"+r) {
			t.Errorf("%s does not import room %s; take the door off the map", name, r)
		}
	}
	for _, g := range names {
		if !slices.ContainsFunc(imports, func(i string) bool { return below(i, guests[g]) }) {
			t.Errorf("%s does not let in %s; take it off the map", name, g)
		}
	}
}

func below(path, parent string) bool { return path == parent || strings.HasPrefix(path, parent+"/") }

func words(s string) []string { return strings.Fields(s) }
