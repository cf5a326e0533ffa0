package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// goConfigured are the settings of the server's own environment that the toolchain gets: where modules come from, and
// nothing else. In particular no credentials but those in a proxy's address.
var goConfigured = []string{
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// goModule compiles a Go program and lays it on an empty image. The toolchain runs without cgo, generators, tool
// wrappers, version control and other toolchains, so that no code of the push runs on the server.
func (b *Builder) goModule(ctx context.Context, p *Project, s Service, d Destination, scratch string, out *lines) (Result, error) {
	t, err := openTree(p.dir)
	if err != nil {
		return Result{}, err
	}
	defer t.close()
	module, err := t.on(s.module)
	if err != nil {
		return Result{}, err
	}
	g := toolchain{command: b.Go, dir: module, out: out}
	if g.command == "" {
		g.command = "go"
	}
	if g.env, err = b.goEnvironment(p, d, scratch); err != nil {
		return Result{}, err
	}
	have, root, err := g.version(ctx, scratch)
	if err != nil {
		return Result{}, err
	}
	if err := t.checkGoVersion(s.module, have); err != nil {
		return Result{}, err
	}
	main, err := g.mainPackage(ctx, s.main)
	if err != nil {
		return Result{}, err
	}
	if err := g.checkSources(ctx, main); err != nil {
		return Result{}, err
	}
	program := filepath.Join(scratch, "program")
	out.printf("go build %s for %s with %s", main, p.arch.Platform, have)
	began := time.Now()
	// Internal linking keeps the linker from calling a C toolchain for object files of the push.
	if err := g.run(ctx, nil, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -linkmode=internal", "-o", program, main); err != nil {
		return Result{}, err
	}
	info, err := os.Stat(program)
	if err != nil {
		return Result{}, fault.Newf(fault.Invalid, "go build %s made no program: the package is not main", main)
	}
	out.printf("compiled in %s: %s", brief(time.Since(began)), megabytes(info.Size()))
	img, err := programImage(p.arch, program, programName(t, s.module, main), root)
	if err != nil {
		return Result{}, err
	}
	return push(ctx, img, d, out)
}

// goEnvironment is the whole environment of the toolchain.
func (b *Builder) goEnvironment(p *Project, d Destination, scratch string) ([]string, error) {
	cache, err := filepath.Abs(b.goCache())
	if err != nil {
		return nil, fmt.Errorf("find the Go cache: %w", err)
	}
	compiled := filepath.Join(cache, "build")
	if d.NoCache {
		compiled = filepath.Join(scratch, "go-build")
	}
	for _, f := range []string{cache, filepath.Join(scratch, "home"), filepath.Join(scratch, "tmp"), filepath.Join(scratch, "path")} {
		if err := os.MkdirAll(f, 0o700); err != nil {
			return nil, fmt.Errorf("make the Go cache: %w", err)
		}
	}
	// Otherwise go leaves a child behind that writes its counters here after the build has been cleared away.
	quiet := filepath.Join(scratch, "home", ".config", "go", "telemetry")
	if err := os.MkdirAll(quiet, 0o700); err != nil {
		return nil, fmt.Errorf("make the Go cache: %w", err)
	}
	if err := os.WriteFile(filepath.Join(quiet, "mode"), []byte("off"), 0o600); err != nil {
		return nil, fmt.Errorf("make the Go cache: %w", err)
	}
	env := []string{
		"HOME=" + filepath.Join(scratch, "home"), "TMPDIR=" + filepath.Join(scratch, "tmp"),
		"PATH=" + filepath.Join(scratch, "path"), // empty: there is nothing to call
		"LANG=C", "CGO_ENABLED=0", "GO111MODULE=on", "GOWORK=off", "GOENV=off", "GOTOOLCHAIN=local", "GOVCS=*:off", "GOAUTH=off",
		"GOFLAGS=-modcacherw", "GOPATH=" + filepath.Join(scratch, "home", "go"),
		"GOMODCACHE=" + filepath.Join(cache, "mod"), "GOCACHE=" + compiled,
		"GOOS=" + p.arch.OS, "GOARCH=" + p.arch.GoArch,
	}
	if p.arch.GoArm != "" {
		env = append(env, "GOARM="+p.arch.GoArm)
	}
	if p.arch.Slug == "i386-nlp" {
		env = append(env, "GO386=softfloat") // the Quark has no SSE2
	}
	for _, name := range goConfigured {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env, nil
}

type toolchain struct {
	command string
	dir     string
	env     []string
	out     *lines
}

// run starts one go command in a process group of its own and streams what it says. Its standard output goes to stdout
// if that is not nil. What the command complains about is the error.
func (g *toolchain) run(ctx context.Context, stdout io.Writer, args ...string) error {
	said := &tail{}
	said.next = g.out
	cmd := exec.CommandContext(ctx, g.command, args...)
	cmd.Dir, cmd.Env = g.dir, g.env
	cmd.Stdout, cmd.Stderr = stdout, said
	if stdout == nil {
		cmd.Stdout = said
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	g.out.flush()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return fault.Wrap(fault.Unavailable, err, "the server has no Go toolchain").
			WithHint("install Go on the server, or add a Dockerfile")
	case !errors.As(err, &exit):
		return fmt.Errorf("run go %s: %w", args[0], err)
	}
	f := fault.Wrap(fault.Invalid, err, "go "+args[0]+": "+g.out.clean(said.complaint()))
	switch {
	case bytes.Contains(said.text(), []byte("build constraints exclude all Go files")):
		f.Hint = "if a package needs cgo, add a Dockerfile: the server runs no C compiler"
	case bytes.Contains(said.text(), []byte("missing go.sum entry")), bytes.Contains(said.text(), []byte("updates to go.mod needed")):
		f.Hint = "run go mod tidy and commit go.mod and go.sum"
	}
	return f
}

// version asks the toolchain for its version and its folder. It asks in scratch: a go.mod that wants a newer one is looked
// at later, with its line.
func (g *toolchain) version(ctx context.Context, scratch string) (have, root string, err error) {
	var said bytes.Buffer
	quiet := *g
	quiet.dir = scratch
	if err := quiet.run(ctx, &said, "env", "GOVERSION", "GOROOT"); err != nil {
		return "", "", err
	}
	have, root, _ = strings.Cut(strings.TrimSpace(said.String()), "\n")
	// What follows the version, "X:" and experiments, says nothing about the language.
	have, _, _ = strings.Cut(have, " ")
	if !version.IsValid(have) {
		return "", "", fmt.Errorf("ask go for its version: it said %q", shorten(have, 80))
	}
	return have, root, nil
}

type goPackage struct {
	ImportPath, Name, Dir string
	Standard              bool
	SFiles                []string
	Module                *struct{ Dir string }
}

func (g *toolchain) list(ctx context.Context, args ...string) ([]goPackage, error) {
	var said bytes.Buffer
	if err := g.run(ctx, &said, append([]string{"list", "-e", "-json=ImportPath,Name,Dir,Standard,SFiles,Module"}, args...)...); err != nil {
		return nil, err
	}
	var all []goPackage
	for dec := json.NewDecoder(&said); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list said: %w", err)
		}
		all = append(all, p)
	}
}

// mainPackage is the program to build: the one asked for, else the module's root, else the only one below cmd, else
// the only one there is.
func (g *toolchain) mainPackage(ctx context.Context, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	all, err := g.list(ctx, "-find", "./...")
	if err != nil {
		return "", err
	}
	var mains, commands []string
	for _, p := range all {
		rel, err := filepath.Rel(g.dir, p.Dir)
		if p.Name != "main" || err != nil {
			continue
		}
		if rel == "." {
			return ".", nil
		}
		mains = append(mains, "./"+rel)
		if filepath.Dir(rel) == "cmd" {
			commands = append(commands, "./"+rel)
		}
	}
	slices.Sort(mains)
	slices.Sort(commands)
	switch {
	case len(commands) == 1:
		return commands[0], nil
	case len(mains) == 1:
		return mains[0], nil
	case len(mains) == 0:
		return "", fault.New(fault.Invalid, "the Go module has no main package").
			WithHint("a program has a file with package main, at the top of the module or below cmd")
	default:
		if len(mains) > 20 {
			mains = append(mains[:20], "…")
		}
		return "", fault.Newf(fault.Invalid, "the Go module has several main packages: %s", strings.Join(mains, ", ")).
			WithHint("add a docker-compose.yml with a service for each that is to run, for example build: " + mains[0] + ", or a Dockerfile")
	}
}

// checkSources fetches what main needs and looks at the files that could make the toolchain read others.
func (g *toolchain) checkSources(ctx context.Context, main string) error {
	all, err := g.list(ctx, "-deps", main)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Standard || len(p.SFiles) == 0 {
			continue
		}
		module := g.dir // of a vendored package, whose module has no folder of its own
		if p.Module != nil && p.Module.Dir != "" {
			module = p.Module.Dir
		}
		a, err := newAssembly(p.Dir, module)
		if err != nil {
			return err
		}
		for _, f := range p.SFiles {
			if err := a.check(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// tail passes output on and keeps the end of it.
type tail struct {
	next io.Writer

	mu   sync.Mutex
	kept []byte
}

const maxTail = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxTail; over > maxTail {
		t.kept = bytes.Clone(t.kept[over:])
	}
	t.mu.Unlock()
	return t.next.Write(p)
}

func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

// complaint is the first line that is not about a package's name or a download, and how many follow it.
func (t *tail) complaint() string {
	first, more := "", 0
	for _, line := range strings.Split(string(t.text()), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "go: downloading ") || strings.HasPrefix(line, "go: finding ") {
			continue
		}
		if first == "" {
			first = line
		} else {
			more++
		}
	}
	switch {
	case first == "":
		return "it failed and said nothing"
	case more > 0:
		return fmt.Sprintf("%s (and %d more lines)", shorten(first, 500), more)
	}
	return shorten(first, 500)
}
