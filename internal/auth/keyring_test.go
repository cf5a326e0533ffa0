package auth

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestTheKeyringIsMadeOnceForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.session, again.session) || !first.token.Equal(again.token) || !bytes.Equal(first.JWKS(), again.JWKS()) {
		t.Error("another start made other keys")
	}
	other, err := OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first.session, other.session) || first.token.Equal(other.token) || first.id == other.id {
		t.Error("another folder has the same keys")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("the folder has %v, want two files", entries)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestTheKeySetHasThePublicHalfAlone(t *testing.T) {
	k, err := OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(k.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 || set.Keys[0]["d"] != "" || set.Keys[0]["kid"] != k.id || len(set.Keys[0]["x"]) != 43 || len(set.Keys[0]["y"]) != 43 {
		t.Errorf("got %s", k.JWKS())
	}
}

func TestADamagedKeyIsNeverReplaced(t *testing.T) {
	for file, text := range map[string]string{"session.key": "abc", "token.key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		dir := t.TempDir()
		if _, err := OpenKeyring(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		for _, damaged := range []string{"", text} {
			if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenKeyring(dir); !fault.Is(err, fault.Invalid) || fault.Hint(err) == "" {
				t.Errorf("%s of %q: %v", file, damaged, err)
			}
			if kept, err := os.ReadFile(path); err != nil || string(kept) != damaged {
				t.Errorf("%s became %q, %v", file, kept, err)
			}
		}
	}
}
