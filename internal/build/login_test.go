package build_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

func TestThePasswordsOfRegistriesAreTakenOutOfTheTree(t *testing.T) {
	const accounts = `{"registry.invalid": {"username": "ann", "password": "hunter2"}}`
	for _, name := range []string{".balena/registry-secrets.json", ".balena/registry-secrets.yml", ".balena/registry-secrets.yaml", ".resin/registry-secrets.json"} {
		dir := plant(t, map[string]string{"Dockerfile": "FROM scratch\n", name: accounts, filepath.Dir(name) + "/balena.yml": "build-variables: {}\n"})
		if _, err := build.Detect(context.Background(), dir, target("amd64")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
		if _, err := os.Lstat(filepath.Join(dir, filepath.Dir(name), "balena.yml")); err != nil {
			t.Errorf("beside %s: %v", name, err)
		}
	}
}

func TestAFileOfPasswordsThatCannotBeReadIsNotQuoted(t *testing.T) {
	for _, text := range []string{"{\"h\": {\"password\" \"hunter2\"", "hunter2: [\n", "h: {username: ann, password: hunter2", "\thunter2", "- hunter2: x\n  - y", "h: {username: ann, password: *hunter2}",
		"h: {username: ann, password: @hunter2}", "h: {username: ann, password: hunter2: x}", "h:\n  password: 'hunter2"} {
		dir := plant(t, map[string]string{"Dockerfile": "FROM scratch\n", ".balena/registry-secrets.yml": text})
		_, err := build.Detect(context.Background(), dir, target("amd64"))
		if err == nil {
			continue // a list has no accounts, and that is no secret
		}
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAProjectIsBuiltWithTheDockerfileThatIsNamed(t *testing.T) {
	tree := map[string]string{"Dockerfile": "FROM scratch\n", "docker/Dockerfile.ci": "FROM scratch\nCOPY x /\n", "go.mod": "module example.com/x\n\ngo 1.24\n"}
	named := func(file string) (*build.Project, error) {
		of := target("amd64")
		of.Dockerfile = file
		return build.Detect(context.Background(), plant(t, tree), of)
	}
	for file, kind := range map[string]string{"": build.KindDockerfile, "docker/Dockerfile.ci": build.KindDockerfile, "go.mod": build.KindGo} {
		if p, err := named(file); err != nil || p.Services[0].Kind != kind || len(p.Warnings) != 0 {
			t.Errorf("%q: %+v, %v", file, p, err)
		}
	}
	for _, file := range []string{"nowhere/Dockerfile", "docker", "../Dockerfile"} {
		if _, err := named(file); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", file, err)
		}
	}
	tree["docker-compose.yml"] = "services:\n  a:\n    build: .\n"
	if p, err := named("docker/Dockerfile.ci"); err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "docker/Dockerfile.ci was asked for") {
		t.Errorf("with a compose file: %+v, %v", p, err)
	}
}
