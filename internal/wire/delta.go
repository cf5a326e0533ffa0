package wire

// DeltaAnswer is the media type of Delta. A device that takes it is answered with one; every other one as a stock
// supervisor is (protocol §4.4).
const DeltaAnswer = "application/vnd.dunlin.delta.v1+json"

// Delta is where the difference between two images is: a blob in the repository of the newer one.
type Delta struct {
	Name string `json:"name"` // HOST/v2/HEX@sha256:… of its manifest
	Blob string `json:"blob"` // sha256:… of the delta
	Size int64  `json:"size"` // of the blob, in bytes
	From string `json:"from"` // sha256:… of the images' configurations
	To   string `json:"to"`
}
