package cli_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/internal/cli"
	"github.com/dunlin/dunlin/internal/fault"
)

// run is `dunlin args…` with something on standard input.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := cli.New("1.2.3")
	var out, errOut bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	code = cli.Execute(t.Context(), root)
	return code, out.String(), errOut.String()
}

// nowhere is an environment in which nobody has logged in.
func nowhere(t *testing.T) (config string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	for _, name := range []string{"DUNLIN_URL", "DUNLIN_TOKEN", "DUNLIN_CA"} {
		t.Setenv(name, "")
	}
	return filepath.Join(dir, "dunlin", "config.json")
}

func TestAServerWithItsOwnAuthorityIsTrustedOnceItsRootIsGiven(t *testing.T) {
	nowhere(t)
	w := newWorld(t, t.TempDir())
	t.Cleanup(w.close)
	s := httptest.NewTLSServer(w.handler())
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "root.pem")
	w.must(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))

	code, _, stderr := run(t, w.users["admin"], "login", s.URL, "--token-stdin")
	if code != 1 || !strings.Contains(stderr, "certificate") || !strings.Contains(stderr, "hint: if the server has a certificate authority of its own") {
		t.Errorf("a stranger: %d %s", code, stderr)
	}
	if code, _, stderr := run(t, w.users["admin"], "login", s.URL, "--token-stdin", "--ca", ca); code != 0 {
		t.Fatalf("with its root: %d %s", code, stderr)
	}
	if code, stdout, stderr := run(t, "", "whoami"); code != 0 || !strings.HasPrefix(stdout, "admin at https://") {
		t.Errorf("afterwards: %d %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := run(t, "", "provisioning-key", "create", "porch"); code != 0 || !strings.Contains(stdout, " --ca ca.crt\n") || !strings.Contains(stderr, s.URL+"/ca.crt") {
		t.Errorf("devices are not told of the authority: %d %s%s", code, stdout, stderr)
	}
	if code, _, stderr := run(t, w.users["admin"], "logout"); code != 0 {
		t.Errorf("logout: %d %s", code, stderr)
	}
	if code, _, stderr := run(t, w.users["bob"], "login", "--token-stdin"); code != 0 {
		t.Errorf("the root is not remembered: %d %s", code, stderr)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("DUNLIN_URL", s.URL)
	t.Setenv("DUNLIN_TOKEN", w.users["bob"])
	t.Setenv("DUNLIN_CA", ca)
	if code, stdout, stderr := run(t, "", "whoami"); code != 0 || !strings.HasPrefix(stdout, "bob") {
		t.Errorf("from the environment: %d %s%s", code, stdout, stderr)
	}
}

func TestAnOldSessionIsMadeYoungAgainInPassing(t *testing.T) {
	config := nowhere(t)
	w := newWorld(t, t.TempDir())
	t.Cleanup(w.close)
	w.auth.Now = func() time.Time { return time.Now().Add(-48 * time.Hour) }
	if code, _, stderr := run(t, password, "login", w.http.URL, "--user", "admin", "--password-stdin"); code != 0 {
		t.Fatal(stderr)
	}
	w.auth.Now = nil
	old, err := os.ReadFile(config)
	w.must(err)
	for range 2 {
		if code, _, stderr := run(t, "", "whoami"); code != 0 {
			t.Fatal(stderr)
		}
	}
	young, err := os.ReadFile(config)
	w.must(err)
	if bytes.Equal(old, young) {
		t.Error("the session is as old as before")
	}
	if code, _, stderr := run(t, "", "whoami"); code != 0 {
		t.Fatal(stderr)
	}
	if again, err := os.ReadFile(config); err != nil || !bytes.Equal(young, again) {
		t.Error("a young session was traded once more")
	}
}

func TestAnErrorIsOneLineWithHintsBelow(t *testing.T) {
	for _, row := range []struct {
		err    error
		code   int
		stderr string
	}{
		{errors.New("disk\nfull"), 1, "error: disk; full\n"},
		{fault.New(fault.Conflict, "no\x1b[2J\rway").WithHint("one\ntwo\x07"), 5, "error: noway\nhint: one\nhint: two\n"},
		{fault.New(fault.Unavailable, "away"), 1, "error: away\n"},
		{context.Canceled, 1, "error: context canceled\n"},
	} {
		root := cli.New("1.2.3")
		root.AddCommand(&cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error { return row.err }})
		var stderr bytes.Buffer
		root.SetErr(&stderr)
		root.SetArgs([]string{"fail"})
		if code := cli.Execute(t.Context(), root); code != row.code || stderr.String() != row.stderr {
			t.Errorf("%v: exit code %d, %q", row.err, code, stderr.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := cli.New("1.2.3")
	root.AddCommand(&cobra.Command{Use: "wait", RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Context().Err() }})
	var stderr bytes.Buffer
	root.SetErr(&stderr)
	root.SetArgs([]string{"wait"})
	if code := cli.Execute(ctx, root); code != 130 || stderr.Len() != 0 {
		t.Errorf("interrupted: exit code %d, %q", code, stderr.String())
	}
}
