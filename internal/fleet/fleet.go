// Package fleet owns the nouns of the platform and the rules about them: names, who is asking, how releases are
// numbered, which release a device follows, and what a device's target is made of. It does no I/O and reads no
// clock; rows are store's and requests are the front doors'.
package fleet

import "time"

// ActorKind is what sort of thing is asking.
type ActorKind uint8

// The kinds of actor. The zero value is nobody.
const (
	Nobody ActorKind = iota
	UserActor
	DeviceActor
	FleetActor // a provisioning key: it may create devices in its fleet, and nothing else
)

func (k ActorKind) String() string {
	return [...]string{"nobody", "user", "device", "application"}[k]
}

// Actor is who is asking, as auth found out. The zero Actor is nobody and may do nothing.
type Actor struct {
	Kind  ActorKind
	Actor int64  // row of the actor, shared by all kinds
	ID    int64  // the user's, the device's or the fleet's id
	Fleet int64  // the fleet a device or a provisioning key belongs to; 0 for users
	Key   int64  // row of the API key used; 0 with a session
	Name  string // user name, device uuid or fleet slug
	// Administrator: a user who may make accounts on this server.
	Administrator bool
	// Address is the IP address the request came from, for the audit trail; "" if there was none.
	Address string
}

// Rank is what a role in an organization or a fleet may do; a higher one may do all that a lower one may.
type Rank int64

// The ranks, as table roles has them. Member sees the organization and none of its fleets.
const (
	Member    Rank = 0
	Observer  Rank = 1 // looks, at logs too
	Operator  Rank = 2 // and operates devices: actions, pins, device variables, tags, their shells
	Developer Rank = 3 // and develops: source, releases, fleets, variables, provisioning keys
	Owner     Rank = 4 // and owns: members, roles, teams, the organization, its audit trail
)

// Roles of an API key, as the protocol names them.
const (
	RoleProvisioning = "provisioning-api-key"
	RoleDevice       = "device-api-key"
	RoleUser         = "user-api-key"
	RoleNamedUser    = "named-user-api-key"
)

// User is a person with an account.
type User struct {
	ID, Actor       int64
	Username, Email string
}

// Organization owns fleets; its handle is the first part of a fleet's slug.
type Organization struct {
	ID           int64
	Handle, Name string
}

// Fleet is a set of devices that run the same releases.
type Fleet struct {
	ID, Actor    int64
	Organization int64
	Name         string
	Slug         string // organization handle, slash, name; lower case
	UUID         string // 32 hex
	DeviceType   string // slug of the default device type
	Arch         string // architecture of that type
	TrackLatest  bool   // a new release becomes the target by itself
	Target       int64  // release the fleet should run; 0 for none
	RootCommit   string // first commit of the repository's history; "" before the first push
}

// Device is one machine of a fleet.
type Device struct {
	ID, Actor   int64
	UUID, Name  string
	Fleet       int64
	DeviceType  string
	Arch        string
	Pin         int64 // release it is pinned on; 0 for none
	Deactivated bool  // it gets no new target
	Running     int64 // release it says it runs; 0 for none
	LastSeen    time.Time
	Status      string
	APIPort     int64
	CreatedAt   time.Time
	UpdateState string // worst update state it reported
}

// Status of a release or an image on its way.
type Status string

// The states of a build, as the protocol names them.
const (
	Running     Status = "running"
	Success     Status = "success"
	Failed      Status = "failed"
	Errored     Status = "error"
	Cancelled   Status = "cancelled"
	Interrupted Status = "interrupted"
)

// Ended reports whether the state is final.
func (s Status) Ended() bool { return s != Running }

// Release is a numbered revision of a fleet.
type Release struct {
	ID, Fleet   int64
	Commit      string // 32 hex; of a push: the first 32 digits of the git commit
	Status      Status
	Version     Version
	Revision    int64 // -1 while it is a draft
	Composition []byte
	Contract    []byte
	Note        string
	Created     time.Time
	Started     time.Time
	Ended       time.Time
	GitCommit   string // all 40 digits, when it came by git
	GitRef      string
	WantsDraft  bool // it is to stay a draft when its build succeeds
	Deployed    bool // a client made it and builds it, not this server
	NoCache     bool
	Dockerfile  string // path in the source, when the pusher named it
}

// Draft reports whether the release has not been finalised.
func (r Release) Draft() bool { return r.Revision < 0 }

// Image is one built image of a service.
type Image struct {
	ID, Service int64
	ServiceName string
	Location    string // HOST/v2/<32 hex>, without digest
	Digest      string // sha256:<64 hex> of the manifest; "" until pushed
	Size        int64  // bytes of the compressed layers
	Status      Status
}

// Reference is the form a target carries: location and digest.
func (i Image) Reference() string {
	if i.Digest == "" {
		return i.Location
	}
	return i.Location + "@" + i.Digest
}

// Asset is a file that is kept with a release.
type Asset struct {
	Filename, ContentType string
	Size                  int64  // bytes
	SHA256                string // of its content, 64 hex digits
}
