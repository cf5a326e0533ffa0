package cli_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dunlin/dunlin/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dunlin": func() { os.Exit(cli.Execute(context.Background(), cli.NewPatient("1.2.3"))) },
	})
}

// TestScripts types commands as people do, each script against a server of its own (see newWorld), logged in as
// admin. $SERVER is its address, $BOB the token of somebody else. UPDATE=1 writes what was printed into the scripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			w := newWorld(env.T().(testing.TB), filepath.Join(env.WorkDir, ".server"))
			env.Defer(w.close)
			env.Values["world"] = w
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("TZ", "UTC")
			env.Setenv("SERVER", w.http.URL)
			env.Setenv("ADMIN", w.users["admin"])
			env.Setenv("BOB", w.users["bob"])
			env.Setenv("PASSWORD", password)
			config := `{"url":"` + w.http.URL + `","token":"` + w.users["admin"] + `","username":"admin"}`
			if err := os.MkdirAll(filepath.Join(env.WorkDir, "config", "dunlin"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "config", "dunlin", "config.json"), []byte(config), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// code N runs the rest and wants it to end with that exit code.
			"code": code,
			// await FILE TEXT waits until a command in the background has written the text.
			"await": await,
			// organization NAME FLEET makes admin a member of a second organization with a fleet.
			"organization": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value("world").(*world).organization(args[0], args[1]) // set above
			},
			// hold lets no build end from here on.
			"hold": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Value("world").(*world).held.Store(true) // set above
			},
			// damage FILE [TEXT] turns bits in the middle of the file, or where it has the text.
			"damage": func(ts *testscript.TestScript, _ bool, args []string) {
				b, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				at := len(b) / 2
				if len(args) > 1 {
					at = strings.Index(string(b), args[1])
				}
				b[at] ^= 0x55
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
			},
			// image FILE FOLDER... makes an archive of an image, each folder one of its layers.
			"image": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(saveImage(ts.MkAbs(args[0]), absolute(ts, args[1:])...))
			},
			// delta ID STATUS SIZE REPLACES ends the making of a delta.
			"delta": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value("world").(*world).delta(args[0], args[1], args[2], args[3]) // set above
			},
			// log UUID SERVICE SECOND MESSAGE adds a line to a device's log.
			"log": func(ts *testscript.TestScript, _ bool, args []string) {
				second, err := strconv.ParseInt(args[2], 10, 64)
				ts.Check(err)
				ts.Check(ts.Value("world").(*world).log(args[0], args[1], second, strings.Join(args[3:], " "))) // set above
			},
		},
	})
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await file text")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(b), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never had %q: %q, %v", args[0], args[1], b, err)
		}
	}
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program [args...]")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func absolute(ts *testscript.TestScript, names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, ts.MkAbs(name))
	}
	return all
}
