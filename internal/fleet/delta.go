package fleet

import "time"

// DeltaStatus is where a delta stands on its way.
type DeltaStatus string

// The states of a delta.
const (
	DeltaWaiting DeltaStatus = "waiting" // to be made, when its turn comes
	DeltaRunning DeltaStatus = "running" // being made
	DeltaReady   DeltaStatus = "ready"   // in the registry
	DeltaUseless DeltaStatus = "useless" // not smaller than what it would replace
	DeltaFailed  DeltaStatus = "failed"  // tried in vain, and not tried again by itself
	DeltaDropped DeltaStatus = "dropped" // it was ready and gave way to others; it is made again when somebody asks
)

// Settled reports whether nobody is at work on it, nor will be by himself.
func (s DeltaStatus) Settled() bool { return s != DeltaWaiting && s != DeltaRunning }

// Delta is the difference between two images of one service, or what is known of one that is to be made.
type Delta struct {
	ID             int64
	Source, Target DeltaImage
	Format         string
	Status         DeltaStatus
	Reason         string
	Attempts       int64
	Replaces       int64 // bytes of the layers that a device fetches without it; 0 while it is not known
	Artifact       Artifact
}

// DeltaImage is an image as a delta's maker needs it.
type DeltaImage struct {
	ID         int64
	Location   string // HOST/v2/<32 hex>
	Repository string // v2/<32 hex>
	Digest     string // sha256:… of its manifest
}

// Artifact is a delta in the registry, in the repository of its target.
type Artifact struct {
	Manifest string // sha256:… of the manifest
	Name     string // what follows the target's location to name it: @sha256:… or :tag
	Blob     string // sha256:… of what a device fetches
	Size     int64  // bytes that a device fetches
	From, To string // sha256:… of the configurations of the two images
}

// DeltaBase is what the devices of a release that comes from another one download for it.
type DeltaBase struct {
	Release   Release
	Size      int64 // bytes, with the deltas that are ready
	Replaces  int64 // bytes of the layers that would travel without any
	Unsettled bool  // not all of its deltas have an outcome yet
	Whole     bool  // none of its images comes as a delta
	Reason    string
}

// DeltaCount is how many deltas have a status.
type DeltaCount struct {
	Status DeltaStatus
	Count  int64
	Bytes  int64 // of those that are ready
}

// DeltaUse is what became of a delta between two writes of it.
type DeltaUse struct {
	Times int64     // it was fetched to its end
	Last  time.Time // it was asked for or fetched
}
