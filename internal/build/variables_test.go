package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAFleetsBuildVariablesComeAfterWhatTheProjectSays(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"Dockerfile": "FROM scratch\n", ".balena/balena.yml": "build-variables:\n  global:\n    - LEVEL=project\n",
		"docker-compose.yml": "services:\n  main:\n    build:\n      context: .\n      args:\n        TIER: compose\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Detect(t.Context(), dir, Target{Arch: "amd64", Variables: map[string]string{"LEVEL": "fleet", "TIER": "fleet", "SITE": "fleet"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"LEVEL": "project", "TIER": "compose", "SITE": "fleet"}, p.Services[0].args); diff != "" {
		t.Error(diff)
	}
}
