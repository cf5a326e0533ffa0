// Package engine is the contract between the agent and a container engine: the few things an agent needs of one,
// with what each promises. It decides nothing and knows no release; drivers (dockerengine) and the fake
// (enginetest) keep the same contract, and enginetest's suite holds both to it.
package engine

import (
	"context"
	"errors"
	"io"
	"time"
)

// Label keys that mark what the agent made. Whatever does not carry LabelSupervised is somebody else's and is
// neither shown by Inspect nor ever touched.
const (
	LabelSupervised  = "io.balena.supervised"
	LabelAppID       = "io.balena.app-id"
	LabelAppUUID     = "io.balena.app-uuid"
	LabelServiceID   = "io.balena.service-id"
	LabelServiceName = "io.balena.service-name"
	// LabelImage is the reference (with digest) the container was made from.
	LabelImage = "io.dunlin.image"
	// LabelImageID is the server's id of that image.
	LabelImageID = "io.dunlin.image-id"
	// LabelRelease is the commit the container was made for.
	LabelRelease = "io.dunlin.release"
	// LabelSpec is the hash of everything of the container but its image: two containers with the same hash and
	// image need no restart to become each other. Networks and volumes carry it too.
	LabelSpec = "io.dunlin.spec"
)

// Errors that callers branch on.
var (
	// ErrNotFound is the answer to asking for something that is not there. Removing what is not there is no error.
	ErrNotFound = errors.New("not found")
	// ErrDiskFull means that the engine's storage has no room. What was there before is still there.
	ErrDiskFull = errors.New("no space left on the engine's storage")
	// ErrDenied means that the registry refused the credentials.
	ErrDenied = errors.New("the registry refused the credentials")
	// ErrUnavailable means that the engine does not answer.
	ErrUnavailable = errors.New("the container engine does not answer")
)

// Engine runs containers. Methods may be called concurrently; every method returns soon after ctx ends, and what it
// had not finished is then undone or can be done again by the same call. All methods are idempotent in the sense
// each says.
//
// Objects are named by their full names, never by parts of ids. What is made here carries LabelSupervised whether its
// Labels say so or not; an object without it is to every method as if it were not there, but that making one of its
// name is an error.
type Engine interface {
	// Info says what the engine is.
	Info(ctx context.Context) (Info, error)

	// Inspect returns everything supervised, sorted by name: containers, networks, volumes, and all images that
	// have a repository digest.
	Inspect(ctx context.Context) (State, error)

	// Pull fetches ref (HOST/v2/HEX@sha256:…) unless it is already there. progress, if not nil, is called with
	// percents that never go down, from one goroutine, the last one 100 if all went well. The digest is checked
	// before the image has its name. A pull cut short leaves no image; the same call does it again, and does not
	// fetch what the engine kept of the first. A reference that the registry does not know is ErrNotFound.
	Pull(ctx context.Context, ref string, auth Credentials, progress func(percent int)) error

	// RemoveImage removes ref, or Loaded, and the layers nobody else uses. An image that a container uses, running or
	// not, is an error; one that is not there is none.
	RemoveImage(ctx context.Context, ref string) error

	// Layers says what an image is made of: one that is here under that very reference, or Loaded. One that is not
	// here is ErrNotFound. An engine that could not Load is errors.ErrUnsupported.
	Layers(ctx context.Context, ref string) (Layers, error)
	// Load takes in the image that archive holds, as package archive writes them, and names it Loaded, in place of
	// what had that name. Layers that the engine has already, on the same ones below, may be missing from the archive.
	// A Pull of a reference of the same image then asks the registry for its manifest alone. Where the engine has not
	// what is missing, or a layer is not what its diff ID says, Load fails, or that Pull is as if there had been none.
	// What archive fails with is what Load fails with, and there is then nothing loaded. Inspect does not show it. One
	// Load at a time.
	Load(ctx context.Context, archive io.Reader) error
	// Export writes the image to w as an archive, with its config and all layers, which may be compressed. An image that
	// is not here is ErrNotFound; of one that the engine has not kept in that form something may be missing.
	Export(ctx context.Context, ref string, w io.Writer) error

	// CreateNetwork makes a network; one of the same name is left as it is.
	CreateNetwork(ctx context.Context, n Network) error
	// RemoveNetwork removes a network. One that a running container uses is an error; one that is not there is none.
	RemoveNetwork(ctx context.Context, name string) error

	// CreateVolume makes a volume; one of the same name is left as it is.
	CreateVolume(ctx context.Context, v Volume) error
	// RemoveVolume removes a volume and what is in it. One that a container uses, running or not, is an error; one
	// that is not there is none.
	RemoveVolume(ctx context.Context, name string) error

	// Create makes a container without starting it; one of the same name with the same labels is left as it is,
	// one of the same name with others is an error. Labels that the image brings do not count. Its image, networks
	// and volumes must be there, or it is ErrNotFound; a missing folder of the host is made.
	Create(ctx context.Context, c Container) error
	// Start starts a created or stopped container; a running one is left as it is. One that is not there is
	// ErrNotFound. When Start fails the container is there still, not running.
	Start(ctx context.Context, name string) error
	// Stop asks the container to stop, kills it after grace (0: its own StopGrace; whole seconds, rounded up) and
	// returns when it has ended. A stopped one is left as it is; one that is not there is ErrNotFound. Its restart
	// policy does not bring it back, but that "always" does when the engine itself starts again.
	Stop(ctx context.Context, name string, grace time.Duration) error
	// Rename gives a container another name, running or not. One that has the new name already, while nothing has
	// the old, is left as it is; neither there is ErrNotFound; the new name taken is an error.
	Rename(ctx context.Context, name, to string) error
	// Remove removes a container, running or not, with the unnamed volumes its image asked for. One that is not
	// there is no error.
	Remove(ctx context.Context, name string) error

	// Logs calls line for each line the container wrote after since (the Time of the last line seen; the zero time
	// is the beginning), oldest first, from one goroutine, and goes on with new ones. It returns nil when the
	// container has ended and all is read, or was not running, and ctx's error when ctx ends. Lines over MaxLine
	// bytes are split between characters; the parts have one Time. What was written long ago may be gone: an engine
	// keeps a bounded amount. A container that is gone is ErrNotFound.
	Logs(ctx context.Context, name string, since time.Time, line func(Line)) error

	// Events sends a token when something supervised changed, and when the engine is back after it was away;
	// tokens coalesce, and one may come for nothing. The channel closes when ctx ends, and only then.
	Events(ctx context.Context) <-chan struct{}
}

// Loaded is the name of an image that Load has taken in and no Pull has named yet.
const Loaded = "dunlin.invalid/delivery:loaded"

// MaxLine is the length in bytes of the longest Line.
const MaxLine = 10_000

// Info is what an engine is.
type Info struct {
	Name, Version string // "Docker Engine" 20.10.24
	Arch          string // GOARCH style: amd64, arm64, arm
	Root          string // its storage folder on the host
}

// Credentials are for one pull. The zero value is an anonymous pull.
type Credentials struct {
	Username, Password string
}

// State is everything supervised that an engine holds. Slices are sorted by name.
type State struct {
	Containers []Container
	Images     []Image
	Networks   []Network
	Volumes    []Volume
}

// Image is one image as the engine holds it.
type Image struct {
	ID         string   // sha256:… of its config
	References []string // HOST/v2/HEX@sha256:… forms it can be named by, sorted
	Size       int64    // bytes
}

// Layers are what an image is made of, the lowest first.
type Layers struct {
	// ID is sha256:… of the image's config, or "" where the engine does not know it.
	ID string
	// DiffIDs are the layers' own digests, nil where the engine does not know them.
	DiffIDs []string
	// Folders are where the engine has unpacked each layer, as overlayfs keeps what a layer adds or changes; nil where
	// they cannot be read.
	Folders []string
}

// Network is a bridge network.
type Network struct {
	Name       string
	Labels     map[string]string
	Internal   bool
	EnableIPv6 bool
	Options    map[string]string
	IPAM       []IPAMPool
}

// IPAMPool is an address pool of a network, in CIDR notation.
type IPAMPool struct{ Subnet, Gateway, IPRange string }

// Volume is a named folder that outlives containers.
type Volume struct {
	Name       string
	Labels     map[string]string
	DriverOpts map[string]string
}

// Container is what a container should be and, from Inspect, what it is. The zero value of a field leaves the engine's
// default.
//
// Inspect returns every field that was set as it was set, in the normal form its comment says. A field that was not set
// may come back as the engine's or the image's own value, and Env and Labels have those of the image among them; so
// whoever asks whether a container is as it should be compares LabelSpec and Image, not fields.
type Container struct {
	Name   string
	Image  string // HOST/v2/HEX@sha256:…
	Labels map[string]string

	Entrypoint, Command []string // nil: the image's; with an Entrypoint the image's command does not count
	Env                 []string // NAME=value, sorted
	WorkingDir, User    string
	Hostname            string
	Domainname          string
	TTY, Init           bool
	ReadOnly            bool
	Privileged          bool
	CapAdd, CapDrop     []string // from Inspect: CAP_NET_ADMIN or ALL, sorted
	SecurityOpt         []string
	GroupAdd            []string
	Devices             []string // HOST[:CONTAINER[:rwm]]; from Inspect: all three
	DeviceCgroupRules   []string
	Mounts              []Mount    // from Inspect: sorted by Target
	Tmpfs               []string   // PATH[:OPTIONS], sorted
	NetworkMode         string     // bridge, host, none, container:NAME; "" when Networks says
	Networks            []Endpoint // from Inspect: sorted by name
	Ports               []Port     // sorted by container port, protocol, address, host port
	ExtraHosts          []string   // name:address
	DNS, DNSSearch      []string
	DNSOpt              []string
	MACAddress          string // on the first of Networks
	PIDMode, IPCMode    string
	UsernsMode          string
	CgroupParent        string
	Sysctls             map[string]string
	Ulimits             []Ulimit
	Restart             string // no, always, unless-stopped, on-failure[:N]
	StopSignal          string
	StopGrace           time.Duration // whole seconds, rounded up; 0: the engine's, 10 s
	Healthcheck         *Healthcheck
	GPU                 bool // all GPUs the engine knows

	Memory, MemoryReservation int64   // bytes
	ShmSize                   int64   // bytes
	CPUs                      float64 // cores
	CPUShares, CPUQuota       int64   // CPUQuota in µs of each 100 ms; not together with CPUs
	Cpuset                    string
	PidsLimit                 int64
	OOMScoreAdj               int
	OOMKillDisable            bool

	// From Inspect only:
	ID         string
	Status     Status
	Health     string // "", starting, healthy, unhealthy
	ExitCode   int
	Restarts   int
	StartedAt  time.Time
	FinishedAt time.Time
	CreatedAt  time.Time
}

// Status is the engine's word for a container's life.
type Status string

// The states of a container.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Exited     Status = "exited"
	Removing   Status = "removing"
	Dead       Status = "dead"
)

// Mount binds a volume or a folder of the host into a container.
type Mount struct {
	Volume   string // name of a volume, or
	Host     string // absolute path on the host
	Target   string
	ReadOnly bool
}

// Endpoint joins a container to a network.
type Endpoint struct {
	Network   string
	Aliases   []string
	IPv4      string
	IPv6      string
	LinkLocal []string
}

// Port publishes a container's port.
type Port struct {
	HostIP    string
	Host      uint16 // 0: any free one
	Container uint16
	Protocol  string // tcp, udp, sctp
}

// Ulimit is a resource limit.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Healthcheck is how the engine tests a container.
type Healthcheck struct {
	Test                           []string // as Docker's: CMD …, CMD-SHELL …, NONE
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// Line is one line a container wrote.
type Line struct {
	Time    time.Time
	Stderr  bool
	Message string // without the line end
}
