// Package plan decides: where a device is and where it should be go in, the steps that can be taken now come out. It
// takes none of them, knows no clock and no server, and never fails; the agent acts, looks again and asks again.
//
// Every step of one answer is right by itself in the state given: steps may run at the same time, in any order, or
// not at all, and a crash between any two of them leaves a state from which Next goes on.
//
// A release changes as a whole. While an image of it is missing, or one of its containers cannot be made, everything
// that runs goes on running. Containers are made beside their predecessors, so that a service is down only from the
// stop of the old container to the start of the new one.
package plan

import (
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// State is where a device is.
type State struct {
	engine.State
	// Fetching holds the references being fetched, and those whose next try is not due yet.
	Fetching map[string]bool
	// Busy holds the subjects of steps under way, and of those whose next try is not due yet.
	Busy map[string]bool
}

// Target is where a device should be. What is supervised and belongs to no app of it goes away.
type Target struct {
	Apps []App
	// Registries are the hosts that the device has run images from. Only their images are ever removed.
	Registries []string
}

// App is one fleet's part of a target. The zero value of Frozen and an empty Services mean that nothing of the
// fleet should run; its volumes stay.
type App struct {
	UUID     string
	ID       int64
	Services []Service
	Networks []engine.Network // with LabelSpec
	Volumes  []engine.Volume
	// Frozen means that nobody can say what the app should be: nothing of it is touched.
	Frozen bool
}

// Service is one container of an app.
type Service struct {
	Name string
	// Container is what to make. Its name stands for its content: another spec or image has another name.
	Container engine.Container
	Strategy  Strategy
	DependsOn []string // services to be started before; names that are not there and circles are ignored
	Stopped   bool     // made but not started
}

// Strategy is the order in which a service gives way to its successor.
type Strategy uint8

const (
	// DownloadThenKill keeps the old container until the whole release is here.
	DownloadThenKill Strategy = iota
	// KillThenDownload stops the old container first: for devices without the memory for both.
	KillThenDownload
	// DeleteThenDownload removes the old container and its image first: for devices without the room for both.
	DeleteThenDownload
)

// Step is one thing to do. All are comparable values and idempotent.
type Step interface {
	// Subject is what the step is about; at most one step about a subject is under way at a time.
	Subject() string
	step()
}

// The steps. Names are the engine's names; App and Service say whose they are.
type (
	// Fetch brings an image. Base is a reference that is here of the image that most likely resembles it, from the same
	// registry, or "".
	Fetch struct{ Image, Base string }
	// Cancel ends a fetch that nobody wants any more.
	Cancel struct{ Image string }
	// RemoveImage gives up a reference that no container uses and no service wants.
	RemoveImage struct{ Image string }
	// CreateNetwork makes a network of the target.
	CreateNetwork struct{ App, Name string }
	// RemoveNetwork removes a network that is not, or not so, in the target and that no running container is on.
	RemoveNetwork struct{ Name string }
	// CreateVolume makes a volume of the target.
	CreateVolume struct{ App, Name string }
	// RemoveVolume removes a volume of an app that the device no longer has.
	RemoveVolume struct{ Name string }
	// Create makes a service's container from Image, a reference that is here and has the wanted digest.
	Create struct{ App, Service, Name, Image string }
	// Start starts a container.
	Start struct{ App, Service, Name string }
	// Stop stops a container that is up.
	Stop struct {
		App, Service, Name string
		Grace              time.Duration // 0: the engine's
	}
	// Remove removes a container that is not up.
	Remove struct{ App, Service, Name string }
)

// Subject is the image.
func (s Fetch) Subject() string { return "image " + s.Image }

// Subject is the image.
func (s Cancel) Subject() string { return "image " + s.Image }

// Subject is the image.
func (s RemoveImage) Subject() string { return "image " + s.Image }

// Subject is the network.
func (s CreateNetwork) Subject() string { return "network " + s.Name }

// Subject is the network.
func (s RemoveNetwork) Subject() string { return "network " + s.Name }

// Subject is the volume.
func (s CreateVolume) Subject() string { return "volume " + s.Name }

// Subject is the volume.
func (s RemoveVolume) Subject() string { return "volume " + s.Name }

// Subject is the container.
func (s Create) Subject() string { return "container " + s.Name }

// Subject is the container.
func (s Start) Subject() string { return "container " + s.Name }

// Subject is the container.
func (s Stop) Subject() string { return "container " + s.Name }

// Subject is the container.
func (s Remove) Subject() string { return "container " + s.Name }

func (Fetch) step()         {}
func (Cancel) step()        {}
func (RemoveImage) step()   {}
func (CreateNetwork) step() {}
func (RemoveNetwork) step() {}
func (CreateVolume) step()  {}
func (RemoveVolume) step()  {}
func (Create) step()        {}
func (Start) step()         {}
func (Stop) step()          {}
func (Remove) step()        {}

// Up reports whether c runs or is about to run again by itself.
func Up(c engine.Container) bool {
	return c.Status == engine.Running || c.Status == engine.Paused || c.Status == engine.Restarting
}

// Is reports whether c is the container that s asks for, whatever its status.
func (s Service) Is(c engine.Container) bool {
	return c.Name == s.Container.Name && c.Status != engine.Dead && c.Status != engine.Removing &&
		c.Labels[engine.LabelServiceName] == s.Name &&
		c.Labels[engine.LabelSpec] == s.Container.Labels[engine.LabelSpec] &&
		Content(c.Image) == Content(s.Container.Image)
}

// Content is the part of an image reference that says what is in it: its digest, or the whole reference if it has
// none. The same content under another repository is the same image.
func Content(ref string) string {
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		return digest
	}
	return ref
}

// Owns reports whether what carries labels belongs to a.
func (a App) Owns(labels map[string]string) bool { return owns(a.UUID, a.ID, labels) }
