package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dunlin/dunlin/remote-monitor"

// room is one package: the rooms it may import, and those its tests may import beyond that.
type room struct{ rooms, tests string }

// house is the map. A new door is a new word here, and a reviewer sees it.
var house = map[string]room{
	"zone":    {},
	"board":   {},
	"config":  {rooms: "zone"},
	"monitor": {rooms: "board zone"},
	"":        {rooms: "board config monitor zone"},
}

// guests are the outside modules that tests may use. The program itself uses none.
var guests = []string{"pgregory.net/rapid", "github.com/google/go-cmp/cmp"}

// heavy is what must never be linked into a device's binary.
var heavy = []string{"net", "net/http", "crypto/tls", "text/template", "go/ast", "testing"}

func TestTheHouseIsAsTheMapSays(t *testing.T) {
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath, Doc                          string
			Imports, TestImports, XTestImports, Deps []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		seen[name] = true
		r, ok := house[name]
		if !ok {
			t.Errorf("room %q is not on the map; give it an address in arch_test.go", name)
		}
		if p.Doc == "" {
			t.Errorf("room %q has no package comment; say what it owns and what it does not", name)
		}
		rooms := strings.Fields(r.rooms)
		check(t, name, p.Imports, rooms, nil)
		check(t, name+" (tests)", slices.Concat(p.TestImports, p.XTestImports), slices.Concat(rooms, strings.Fields(r.tests), []string{name}), guests)
		for _, h := range heavy {
			if slices.Contains(p.Deps, h) {
				t.Errorf("room %q links %s; a device has no room for it", name, h)
			}
		}
	}
	for name := range house {
		if !seen[name] {
			t.Errorf("the map has a room %q that the house has not; take it off the map", name)
		}
	}
}

// check reports the imports of a room that are on neither list.
func check(t *testing.T, name string, imports, rooms, guests []string) {
	t.Helper()
	for _, imp := range imports {
		switch {
		case imp == "C" || !strings.Contains(strings.Split(imp, "/")[0], "."):
		case imp == module || strings.HasPrefix(imp, module+"/"):
			if short := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/"); !slices.Contains(rooms, short) {
				t.Errorf("%s imports room %s; the map has no such door", name, short)
			}
		case !slices.Contains(guests, imp):
			t.Errorf("%s lets in %s; the map does not list that guest for it", name, imp)
		}
	}
}
