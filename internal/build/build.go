// Package build turns a source tree into images in a registry: it unpacks the archive, finds out what kind of
// project it is (compose, Dockerfile, Dockerfile.template, Go module), builds each service for the fleet's
// architecture and pushes it. It knows nothing of releases, of rows, or of who asked.
//
// What arrives is hostile. Detect only reads files and never leaves the tree; Dockerfiles run inside the container
// engine; a Go module is compiled by the server's toolchain, which runs no code of the push. The package is longer
// than others because three ways of building share one description of a service.
package build

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// The kinds of service, as people and the API's project_type read them.
const (
	KindDockerfile   = "Dockerfile"
	KindTemplate     = "Dockerfile.template"
	KindArchitecture = "Architecture-specific Dockerfile"
	KindGo           = "go module"
	KindExternal     = "external service"
)

// Target is what a project is built for.
type Target struct {
	DeviceType string // balena's slug
	Arch       string // balena's slug
	FleetName  string
	Commit     string // of the release
	// Dockerfile is the one to build a project without a compose file with, as a slash path below its folder; "" for the
	// order of Detect.
	Dockerfile string
	// Variables are build arguments of every service that the project's own settings do not name.
	Variables map[string]string
}

// Project is a source tree that has been understood. It stays valid as long as its folder does and may be used by
// several Builds at once.
type Project struct {
	// Composition is the whole composition: services (without build and image, in compose's short forms), volumes
	// and networks.
	Composition json.RawMessage
	Services    []Service       // sorted by name, at least one
	Contract    json.RawMessage // balena.yml as JSON; nil if there is none
	Version     string          // semantic version from balena.yml; "" if there is none
	Warnings    []string        // sentences for the pusher

	dir    string // absolute, without symbolic links
	arch   fleet.Architecture
	logins map[string]login // of private registries, by host
}

// Service is one container of a project.
type Service struct {
	Name        string
	Kind        string
	Labels      map[string]string
	Environment map[string]string
	// Composition is the compose service without build, image, labels and environment.
	Composition json.RawMessage
	Contract    json.RawMessage // contract.yml of the build context as JSON; nil if there is none

	image      string // of an external service
	context    string // build context: slash path below the project's folder
	dockerfile dockerfile
	module     string // Go: folder of go.mod, slash path below the project's folder
	main       string // Go: the package to build, as a path in the module; "" to look for it
	args       map[string]string
	labels     map[string]string // of the image
	hosts      []string          // name=address, for RUN
	stage      string            // multi-stage target
	shm        int64             // bytes of /dev/shm for RUN; 0 for the engine's default
	secrets    map[string][]byte // by path below /run/secrets
}

// Destination is where an image goes.
type Destination struct {
	Repository string         // HOST/v2/<32 hex>
	Token      string         // registry bearer token, good for push and pull of that repository; "" for none
	Fleet      int64          // cache mounts are shared within a fleet and never between fleets
	NoCache    bool           // build every step again
	Insecure   bool           // the registry speaks plain HTTP
	RootCA     *x509.CertPool // trusted for the registry; nil for the system's
}

// Result is a built and pushed image.
type Result struct {
	Digest     string // sha256:<64 hex> of the manifest in the registry
	Size       int64  // compressed bytes of the config and the layers
	Kind       string
	Dockerfile string // text of the Dockerfile used, after expansion; "" without one
}

// Builder builds services. Its fields are set before the first Build and not changed after; Build may be called for
// several services at once.
type Builder struct {
	// Engine is the container engine's address, e.g. unix:///var/run/docker.sock; "" for what the environment says.
	// Only Dockerfiles need an engine.
	Engine string
	// Go is the go command; "" for "go" from PATH.
	Go string
	// Work is the scratch folder; "" for the system's.
	Work string
	// GoCache holds downloaded modules and compiled packages of all fleets; "" for a folder in Work. Both caches
	// are addressed by content and no code of a push runs beside them.
	GoCache string
	// Private are registries, HOST or HOST:PORT, from which services may name images though they are on this machine or
	// in a private network; HOST stands for all its ports. The destination's registry is always among them.
	Private []string
	// Timeout bounds one Build; 0 for one hour.
	Timeout time.Duration
	Log     *slog.Logger // nil for none
}

var errTimeout = errors.New("the build took too long")

// Build builds one service of p and pushes it to d. Each line of out arrives in a Write of its own; a writer shared by
// several Builds has to bear concurrent Writes. When ctx ends the build is stopped and nothing of it is left but
// caches. Errors that are the project's fault are fault.Invalid and name file and line where possible.
func (b *Builder) Build(ctx context.Context, p *Project, s Service, d Destination, out io.Writer) (Result, error) {
	timeout := b.Timeout
	if timeout <= 0 {
		timeout = time.Hour
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	if b.Work != "" {
		if err := os.MkdirAll(b.Work, 0o700); err != nil {
			return Result{}, fmt.Errorf("make the scratch folder: %w", err)
		}
	}
	scratch, err := os.MkdirTemp(b.Work, "build-")
	if err != nil {
		return Result{}, fmt.Errorf("make the scratch folder: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(scratch); err != nil {
			b.log().Warn("cannot remove the scratch folder", "path", scratch, "err", err)
		}
	}()

	prefix := ""
	if len(p.Services) > 1 {
		prefix = "[" + s.Name + "] "
	}
	o := newLines(out, prefix, p.dir, scratch, b.goCache())
	began := time.Now()
	var res Result
	switch s.Kind {
	case KindExternal:
		res, err = b.external(ctx, p, s, d, o)
	case KindGo:
		res, err = b.goModule(ctx, p, s, d, scratch, o)
	default:
		res, err = b.fromDockerfile(ctx, p, s, d, scratch, o)
	}
	o.flush()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
			return Result{}, fault.Wrap(fault.Unavailable, err, fmt.Sprintf("service %s was not built within %s", s.Name, timeout)).
				WithHint("make the build quicker, or raise the server's build time-out")
		} else if cause != nil {
			return Result{}, fmt.Errorf("build service %s: %w", s.Name, cause)
		}
		return Result{}, fmt.Errorf("build service %s: %w", s.Name, err)
	}
	res.Kind = s.Kind
	o.printf("built in %s: %s, %s", brief(time.Since(began)), s.Kind, megabytes(res.Size))
	return res, nil
}

func (b *Builder) log() *slog.Logger {
	if b.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return b.Log
}

func (b *Builder) goCache() string {
	if b.GoCache != "" {
		return b.GoCache
	}
	work := b.Work
	if work == "" {
		work = os.TempDir()
	}
	return filepath.Join(work, "go-cache")
}
