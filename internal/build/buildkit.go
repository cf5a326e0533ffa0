package build

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	bk "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"github.com/dunlin/dunlin/internal/fault"
)

// fromDockerfile builds a service in the engine's BuildKit and pushes what comes out.
func (b *Builder) fromDockerfile(ctx context.Context, p *Project, s Service, d Destination, scratch string, out *lines) (res Result, err error) {
	t, err := openTree(p.dir)
	if err != nil {
		return Result{}, err
	}
	defer t.close()
	opt, err := b.solveOptions(t, p, s, d, scratch)
	if err != nil {
		return Result{}, err
	}
	engine, err := b.engine(ctx)
	if err != nil {
		return Result{}, err
	}
	defer engine.Close()
	buildkit, err := bk.New(ctx, "",
		bk.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return engine.DialHijack(ctx, "/grpc", "h2c", nil)
		}),
		bk.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return engine.DialHijack(ctx, "/session", proto, meta)
		}))
	if err != nil {
		return Result{}, away(engine.DaemonHost(), err)
	}
	defer buildkit.Close()

	out.printf("building %s for %s", s.dockerfile.path, p.arch.Platform)
	// Also after an error: a build that was cancelled late may have got its name already.
	defer b.removeTag(ctx, engine, d.Repository)
	pr := newProgress(out)
	status, done := make(chan *bk.SolveStatus), make(chan struct{})
	go func() {
		defer close(done)
		for s := range status {
			pr.update(s)
		}
	}()
	_, err = buildkit.Solve(ctx, nil, opt, status)
	<-done // Solve closes status
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		return Result{}, pr.explain(err, s, p, engine.DaemonHost())
	}
	res, err = pushFromEngine(ctx, engine, d, scratch, out)
	res.Dockerfile = s.dockerfile.text
	return res, err
}

// solveOptions is what BuildKit is asked to do.
func (b *Builder) solveOptions(t *tree, p *Project, s Service, d Destination, scratch string) (bk.SolveOpt, error) {
	folder, err := t.on(s.context)
	if err != nil {
		return bk.SolveOpt{}, err
	}
	files, err := fsutil.NewFS(folder)
	if err == nil {
		// Only the top of the tree has settings, but patterns that match nothing cost nothing.
		files, err = fsutil.NewFilterFS(files, &fsutil.FilterOpt{ExcludePatterns: secretFiles()})
	}
	if err != nil {
		return bk.SolveOpt{}, fmt.Errorf("open the build context: %w", err)
	}
	name := path.Base(s.dockerfile.path)
	beside, err := dockerfileFolder(t, s, filepath.Join(scratch, "dockerfile"), name)
	if err != nil {
		return bk.SolveOpt{}, err
	}
	attrs := map[string]string{"filename": name, "platform": p.arch.Platform}
	if s.stage != "" {
		attrs["target"] = s.stage
	}
	if d.NoCache {
		attrs["no-cache"] = ""
	}
	if len(s.hosts) > 0 {
		attrs["add-hosts"] = strings.Join(s.hosts, ",")
	}
	if s.shm > 0 {
		attrs["shm-size"] = strconv.FormatInt(s.shm, 10)
	}
	for k, v := range s.args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range s.labels {
		attrs["label:"+k] = v
	}
	// What RUN --mount=type=cache keeps is seen by this fleet's builds alone.
	attrs["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = "fleet-" + strconv.FormatInt(d.Fleet, 10)
	return bk.SolveOpt{
		Exports:     []bk.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": d.Repository + tag}}},
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": beside},
		// Under a key that was used before, BuildKit would take over files by name, size and time without reading
		// them, from another commit or another fleet. Steps are cached by content all the same.
		SharedKey:     rand.Text(),
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		Session:       []session.Attachable{secretsprovider.FromMap(s.secrets), logins{byHost: p.logins}},
	}, nil
}

// dockerfileFolder is a folder with the Dockerfile as it is to be read, and the .dockerignore that goes with it.
func dockerfileFolder(t *tree, s Service, dir, name string) (fsutil.FS, error) {
	text := s.dockerfile.text
	if len(s.secrets) > 0 {
		var err error
		if text, err = mountSecrets(s.dockerfile.path, text, slices.Sorted(maps.Keys(s.secrets))); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("write the Dockerfile: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the Dockerfile: %w", err)
	}
	ignore, ok, err := t.read(s.dockerfile.path + ".dockerignore")
	if err != nil {
		return nil, err
	}
	if ok {
		if err := os.WriteFile(filepath.Join(dir, name+".dockerignore"), ignore, 0o600); err != nil {
			return nil, fmt.Errorf("write the .dockerignore: %w", err)
		}
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, fmt.Errorf("write the Dockerfile: %w", err)
	}
	return files, nil
}

var runWord = regexp.MustCompile(`^(\s*(?i:RUN)\s+)`)

// mountSecrets lets every RUN see the secrets below /run/secrets, as balena's builder does, without them being in a
// layer. Lines keep their numbers.
func mountSecrets(file, text string, names []string) (string, error) {
	parsed, err := parser.Parse(bytes.NewReader([]byte(text)))
	if err != nil {
		return "", dockerfileFault(file, err.Error())
	}
	mounts := ""
	for _, n := range names {
		mounts += "--mount=type=secret,id=" + n + ",target=/run/secrets/" + n + " "
	}
	all := strings.SplitAfter(text, "\n")
	for _, n := range parsed.AST.Children {
		if !strings.EqualFold(n.Value, "run") || n.StartLine < 1 || n.StartLine > len(all) {
			continue
		}
		line := all[n.StartLine-1]
		if m := runWord.FindString(line); m != "" {
			all[n.StartLine-1] = m + mounts + line[len(m):]
		}
	}
	return strings.Join(all, ""), nil
}

// logins answers BuildKit when a base image's registry wants an account. The engine fetches tokens itself.
type logins struct {
	auth.UnimplementedAuthServer
	byHost map[string]login
}

func (l logins) Register(s *grpc.Server) { auth.RegisterAuthServer(s, l) }

func (l logins) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	a := l.byHost[registryHost(req.Host)]
	return &auth.CredentialsResponse{Username: a.username, Secret: a.password}, nil
}

var parseError = regexp.MustCompile(`(?:dockerfile|Dockerfile) parse error (?:on )?line (\d+): (.*)`)

// ownFrontend is BuildKit's own reader of Dockerfiles. Another's may mount the caches of other fleets.
var ownFrontend = regexp.MustCompile(`^(?:docker\.io/)?docker/dockerfile(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`)

// checkSyntax refuses a Dockerfile that is to be read by a program of its author's choice. Build arguments, which may say
// so too, are refused where they are read.
func checkSyntax(file, text string) error {
	ref, _, where, ok := parser.DetectSyntax([]byte(text))
	if !ok || ownFrontend.MatchString(ref) {
		return nil
	}
	line := 1 // a Dockerfile that is all JSON has none
	if len(where) > 0 && where[0].Start.Line > 0 {
		line = where[0].Start.Line
	}
	return at(file, line, "syntax=%s names another frontend than docker/dockerfile", shorten(ref, 100)).
		WithHint("remove the line, or write # syntax=docker/dockerfile:1")
}

// dockerfileFault is a Dockerfile that cannot be read.
func dockerfileFault(file, text string) error {
	text = readable(text)
	if m := parseError.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		return at(file, line, "%s", m[2])
	}
	return fault.Newf(fault.Invalid, "%s: %s", file, text)
}
