package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

// dock is a real container engine. Tests that need one are skipped without it, unless DUNLIN_TEST_REQUIRE is set.
func dock(t *testing.T) (*client.Client, string) {
	t.Helper()
	address := os.Getenv("DUNLIN_TEST_ENGINE")
	if address == "" {
		address = "unix:///var/run/docker.sock"
	}
	c, err := client.New(client.WithHost(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
			t.Fatalf("no container engine at %s: %v", address, err)
		}
		t.Skipf("no container engine at %s: %v", address, err)
	}
	return c, address
}

// static compiles a program for an architecture and returns its text.
var static = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "static-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source := `package main

import ("fmt"; "os")

func main() {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "cat":
		for _, f := range os.Args[2:] {
			b, err := os.ReadFile(f)
			if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(9) }
			os.Stdout.Write(b)
		}
	case len(os.Args) > 2 && os.Args[1] == "fail":
		fmt.Println("the last words:", os.Args[2]); os.Exit(3)
	case len(os.Args) > 2 && os.Args[1] == "write":
		if err := os.WriteFile(os.Args[2], []byte("written"), 0o644); err != nil { panic(err) }
	case len(os.Args) > 1 && os.Args[1] == "hang":
		fmt.Println("hanging"); select {}
	default:
		fmt.Println("hello from", os.Args[0])
	}
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "tool"), filepath.Join(dir, "main.go"))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOARCH=amd64", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "tool"))
})

func tool(t *testing.T) string {
	t.Helper()
	text, err := static()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// plantTool writes a source tree with the static program in it, executable.
func plantTool(t *testing.T, tree map[string]string) string {
	t.Helper()
	dir := plant(t, tree)
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte(tool(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func engineBuild(t *testing.T, address, dir, arch string, d build.Destination) (build.Result, string, error) {
	t.Helper()
	p, err := build.Detect(context.Background(), dir, target(arch))
	if err != nil {
		return build.Result{}, "", err
	}
	b := builder(t)
	b.Engine = address
	var out output
	res, err := b.Build(context.Background(), p, p.Services[0], d, &out)
	t.Logf("output:\n%s", out.String())
	if left := leftovers(t, b.Work); len(left) > 0 {
		t.Errorf("the scratch folder still has %v", left)
	}
	return res, out.String(), err
}

// noTag checks that the engine does not keep a name for what was built.
func noTag(t *testing.T, c *client.Client, d build.Destination) {
	t.Helper()
	if _, err := c.ImageInspect(context.Background(), d.Repository+":latest"); err == nil {
		t.Errorf("the engine still has %s", d.Repository)
	}
}

func TestADockerfileFromScratchIsBuiltAndPushedToTwoRepositories(t *testing.T) {
	c, address := dock(t)
	shelf := newShelf(t)
	dir := plantTool(t, map[string]string{
		"Dockerfile": "FROM scratch AS build\nCOPY tool /tool\nRUN [\"/tool\", \"write\", \"/made\"]\n\n" +
			"FROM scratch\nARG GREETING\nCOPY --from=build /made /made\nCOPY . /app/\nENV GREETING=$GREETING\nENTRYPOINT [\"/app/tool\"]\n",
		".dockerignore":                 "ignored\n",
		"ignored":                       "not for the image",
		"kept":                          "for the image",
		".balena/balena.yml":            "build-variables:\n  global: [GREETING=hi]\n",
		".balena/secrets/key":           "the-secret-itself",
		".balena/registry-secrets.json": `{"example.com":{"username":"u","password":"the-secret-itself"}}`,
	})
	// The engine remembers where it pushed layers and tries to mount them from there; the second token forbids it.
	for _, digit := range []string{"1", "2"} {
		d := shelf.destination(digit)
		res, out, err := engineBuild(t, address, dir, "amd64", d)
		if err != nil {
			t.Fatalf("build: %v", err)
		}
		noTag(t, c, d)
		img := shelf.image(t, d, res.Digest)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != "amd64" || strings.Join(config.Config.Env, " ") != "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GREETING=hi" {
			t.Errorf("the image is for %s with %v", config.Architecture, config.Config.Env)
		}
		all := files(t, img)
		if all["made"] != "written" || all["app/kept"] != "for the image" {
			t.Errorf("the image lacks what was made or copied")
		}
		if _, ok := all["app/ignored"]; ok {
			t.Error("the image has what .dockerignore names")
		}
		for name, text := range all {
			if strings.Contains(text, "the-secret-itself") {
				t.Errorf("%s in the image holds a secret", name)
			}
		}
		if res.Size <= 0 || res.Kind != build.KindDockerfile || !strings.HasPrefix(res.Dockerfile, "FROM scratch") {
			t.Errorf("the result is %+v", res)
		}
		if !strings.Contains(out, "RUN [\"/tool\", \"write\", \"/made\"] … ") && !strings.Contains(out, "RUN /tool write /made … ") {
			t.Error("the output does not tell of the RUN")
		}
	}
}

func TestADockerfileForAnotherArchitectureNeedsOnlyCopies(t *testing.T) {
	_, address := dock(t)
	shelf := newShelf(t)
	d := shelf.destination("3")
	dir := plantTool(t, map[string]string{
		"Dockerfile.template": "FROM scratch\nCOPY tool /tool\nLABEL machine=%%BALENA_MACHINE_NAME%% arch=%%RESIN_ARCH%%\nCMD [\"/tool\"]\n"})
	res, _, err := engineBuild(t, address, dir, "armv7hf", d)
	if err != nil {
		t.Fatal(err)
	}
	config, err := shelf.image(t, d, res.Digest).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm" || config.Config.Labels["machine"] != "raspberrypi4-64" || config.Config.Labels["arch"] != "armv7hf" {
		t.Errorf("the image is for %s with %v", config.Architecture, config.Config.Labels)
	}
	if !strings.Contains(res.Dockerfile, "machine=raspberrypi4-64") || res.Kind != build.KindTemplate {
		t.Errorf("the result is %+v", res)
	}
}

func TestAGoModulesProgramRunsInTheEngine(t *testing.T) {
	c, _ := dock(t)
	shelf, b := newShelf(t), builder(t)
	b.Engine = "unix:///there/is/no/engine.sock" // a Go module needs none
	p := detect(t, plant(t, map[string]string{"go.mod": "module example.com/lamp\n", "main.go": hello}), "amd64")
	d := shelf.destination("4")
	res, err := b.Build(context.Background(), p, p.Services[0], d, &output{})
	if err != nil {
		t.Fatal(err)
	}
	// The engine has no token for the registry, so the image goes in by hand: as a file system with its entry point.
	got := run(t, c, files(t, shelf.image(t, d, res.Digest)), "/bin/lamp")
	if got != "hello from /bin/lamp\n" {
		t.Errorf("the program said %q", got)
	}
}

// run starts a command in a container made of files.
func run(t *testing.T, c *client.Client, all map[string]string, command ...string) string {
	t.Helper()
	ctx := context.Background()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range all {
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image := fmt.Sprintf("dunlin-test-build:%d", time.Now().UnixNano())
	imported, err := c.ImageImport(ctx, client.ImageImportSource{Source: &b, SourceName: "-"}, image, client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, imported); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.ImageRemove(ctx, image, client.ImageRemoveOptions{Force: true, PruneChildren: true}) })
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Image: image, Config: &container.Config{Cmd: command, Tty: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true}) })
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	wait := c.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-wait.Result:
	case err := <-wait.Error:
		t.Fatal(err)
	}
	logs, err := c.ContainerLogs(ctx, made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func TestASecretIsSeenByRunAndNotByTheImage(t *testing.T) {
	_, address := dock(t)
	shelf := newShelf(t)
	d := shelf.destination("5")
	d.NoCache = true
	dir := plantTool(t, map[string]string{
		"docker-compose.yml": "services:\n  web:\n    build: .\n",
		"Dockerfile":         "FROM scratch\nCOPY tool /tool\n# a comment\nRUN [\"/tool\", \"cat\", \"/run/secrets/api/key\", \"/run/secrets/all\"]\n",
		".balena/balena.yml": "build-secrets:\n  global:\n    - {source: a, dest: all}\n  services:\n    web:\n      - {source: b, dest: api/key}\n",
		".balena/secrets/a":  "known-to-all-of-them\n",
		".balena/secrets/b":  "known-to-one-of-them\n",
	})
	res, out, err := engineBuild(t, address, dir, "amd64", d)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "known-to-one-of-them") || !strings.Contains(out, "known-to-all-of-them") {
		t.Error("RUN did not see the secrets")
	}
	for name, text := range files(t, shelf.image(t, d, res.Digest)) {
		if strings.Contains(text, "known-to-one") {
			t.Errorf("%s in the image holds a secret", name)
		}
	}
	if strings.Contains(res.Dockerfile, "--mount") {
		t.Error("the Dockerfile that is shown is not the author's")
	}
}

func TestAFailingDockerfileIsExplainedWithFileLineAndReason(t *testing.T) {
	c, address := dock(t)
	for _, cse := range []struct {
		name, arch, dockerfile, says, hint, out string
	}{
		{"a RUN that fails", "amd64", "FROM scratch\nCOPY tool /tool\n\nRUN [\"/tool\", \"fail\", \"goodbye\"]\n",
			"Dockerfile:4: RUN [\"/tool\", \"fail\", \"goodbye\"]: exit code 3", "", "| the last words: goodbye"},
		{"an instruction that is none", "amd64", "FROM scratch\n\nFETCH x\n", "Dockerfile:3: unknown instruction: FETCH", "", ""},
		{"a file that is not there", "amd64", "FROM scratch\nCOPY nowhere /\n", "Dockerfile:2: COPY nowhere /: ", "", ""},
		{"a RUN with a variable", "amd64", "FROM scratch\nARG WORD=goodbye\nCOPY tool /tool\nSHELL [\"/tool\", \"fail\"]\n\nRUN $WORD \\\n  and more\n",
			"Dockerfile:6: RUN goodbye and more: exit code 3", "", "| the last words: $WORD"},
		{"a RUN for another processor", "aarch64", "FROM scratch\nCOPY --chmod=755 Dockerfile /arm\nRUN [\"/arm\"]\n", "Dockerfile:3: RUN [\"/arm\"]: ", "qemu-user-static", "exec format error"},
		{"a base image that is not there", "amd64", "FROM 127.0.0.1:1/x:y\nRUN x\n", "Dockerfile:1: FROM 127.0.0.1:1/x:y: ", "registry of the base image", ""},
		{"a frontend that cannot be fetched", "amd64", "# syntax=docker/dockerfile:there-is-none\nFROM scratch\n", "Dockerfile:1: # syntax", "without it the engine uses its own", ""},
		{"an empty Dockerfile", "amd64", "# nothing\n", "Dockerfile: ", "", ""},
	} {
		t.Run(cse.name, func(t *testing.T) {
			d := newShelf(t).destination("6")
			_, out, err := engineBuild(t, address, plantTool(t, map[string]string{"Dockerfile": cse.dockerfile}), cse.arch, d)
			if !strings.HasPrefix(fault.Message(err), cse.says) || !strings.Contains(fault.Hint(err), cse.hint) {
				t.Errorf("build said %q (%q), want %q (%q)\n%v", fault.Message(err), fault.Hint(err), cse.says, cse.hint, err)
			}
			if !strings.Contains(out, cse.out) {
				t.Errorf("the output lacks %q", cse.out)
			}
			noTag(t, c, d)
		})
	}
}

func TestTwoServicesAreBuiltAtOnceWithTheirNamesBeforeEachLine(t *testing.T) {
	_, address := dock(t)
	shelf := newShelf(t)
	dir := plantTool(t, map[string]string{
		"docker-compose.yml": "services:\n  one:\n    build: {context: ., target: first}\n  two:\n    build: {context: ., args: {X: y}, labels: {made: here}}\n  three:\n    build: ./three\n",
		"Dockerfile":         "FROM scratch AS first\nCOPY tool /first\n\nFROM scratch\nARG X\nCOPY tool /second\nLABEL x=$X\n",
		"three/go.mod":       "module three\n", "three/main.go": hello,
	})
	p := detect(t, dir, "amd64")
	b := builder(t)
	b.Engine = address
	var out output
	var all sync.WaitGroup
	results := make([]build.Result, len(p.Services))
	errs := make([]error, len(p.Services))
	for i, s := range p.Services {
		all.Go(func() {
			results[i], errs[i] = b.Build(context.Background(), p, s, shelf.destination(fmt.Sprint(7+i)), &out)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("build: %v\n%s", err, out.String())
	}
	for i, want := range []string{"first", "bin/three", "second"} {
		img := shelf.image(t, shelf.destination(fmt.Sprint(7+i)), results[i].Digest)
		if _, ok := files(t, img)[want]; !ok {
			t.Errorf("the image of %s has no /%s", p.Services[i].Name, want)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if p.Services[i].Name == "two" && (config.Config.Labels["x"] != "y" || config.Config.Labels["made"] != "here") {
			t.Errorf("labels of two are %v", config.Config.Labels)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.HasPrefix(line, "[one] ") && !strings.HasPrefix(line, "[two] ") && !strings.HasPrefix(line, "[three] ") {
			t.Errorf("the line %q has no service's name before it", line)
		}
	}
}

func TestAChangeIsBuiltEvenIfTheFilesTimeAndSizeAreTheSame(t *testing.T) {
	_, address := dock(t)
	shelf := newShelf(t)
	when := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, text := range []string{"one", "two"} {
		dir := plant(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY text /\n", "text": text})
		if err := os.Chtimes(filepath.Join(dir, "text"), when, when); err != nil {
			t.Fatal(err)
		}
		d := shelf.destination("f")
		res, _, err := engineBuild(t, address, dir, "amd64", d)
		if err != nil {
			t.Fatal(err)
		}
		if got := files(t, shelf.image(t, d, res.Digest))["text"]; got != text {
			t.Errorf("the image holds %q, want %q", got, text)
		}
	}
}

func TestACancelledDockerfileStopsInTheEngine(t *testing.T) {
	c, address := dock(t)
	dir := plantTool(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY tool /tool\nRUN [\"/tool\", \"hang\"]\n"})
	p := detect(t, dir, "amd64")
	b := builder(t)
	b.Engine = address
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "| hanging") {
			cancel()
		}
		return len(p), nil
	})
	d := newShelf(t).destination("a")
	d.NoCache = true
	if _, err := b.Build(ctx, p, p.Services[0], d, w); !errors.Is(err, context.Canceled) {
		t.Errorf("the build ended with %v", err)
	}
	noTag(t, c, d)
	if left := leftovers(t, b.Work); len(left) > 0 {
		t.Errorf("the scratch folder still has %v", left)
	}
}

func TestAnEngineThatIsAwayIsSaidWithAHint(t *testing.T) {
	_, _, err := engineBuild(t, "unix:///there/is/no/engine.sock", plant(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}), "amd64", newShelf(t).destination("b"))
	if !fault.Is(err, fault.Unavailable) || fault.Hint(err) == "" {
		t.Errorf("the build ended with %v", err)
	}
}
