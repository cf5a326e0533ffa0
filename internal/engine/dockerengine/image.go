package dockerengine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
)

// Pull keeps the contract. What of a pull cut short is kept for the next one is the engine's affair: Docker 20.10 keeps
// no layer that is not part of a whole image, though within one pull it goes on after a broken connection.
func (e *Engine) Pull(ctx context.Context, ref string, auth engine.Credentials, progress func(percent int)) error {
	if progress == nil {
		progress = func(int) {}
	}
	return e.do(ctx, "pull "+ref, func(api *client.Client) error {
		if err := checkReference(ref); err != nil {
			return err
		}
		if here, err := holds(ctx, api, ref); err != nil || here {
			if here {
				progress(100)
			}
			return err
		}
		header, err := registryAuth(ref, auth)
		if err != nil {
			return err
		}
		stream, err := api.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: header})
		if err != nil {
			return refusal(err)
		}
		m := meter{tell: progress, layers: map[string]*layer{}, last: -1}
		for message, err := range stream.JSONMessages(ctx) {
			if err != nil {
				return err
			}
			if message.Error != nil {
				return refusal(message.Error)
			}
			m.add(message)
		}
		// The engine has checked the digest; that it has the image under it is what the caller builds on.
		here, err := holds(ctx, api, ref)
		if err != nil {
			return err
		}
		if !here {
			return errors.New("the engine has pulled it but does not have it under that digest")
		}
		m.at(100)
		return nil
	})
}

// checkReference sees that ref is a name with a digest, and nothing that means something else in a path of the API.
func checkReference(ref string) error {
	name, digest, _ := strings.Cut(ref, "@sha256:")
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("._-:/[]", r)
	}
	if name == "" || strings.ContainsFunc(name, odd) || slices.Contains(strings.Split(name, "/"), "..") ||
		len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not an image reference with a sha256 digest", ref)
	}
	return nil
}

// holds reports whether the engine has the image under this very reference.
func holds(ctx context.Context, api *client.Client, ref string) (bool, error) {
	i, err := api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && slices.Contains(i.RepoDigests, ref), err
}

func registryAuth(ref string, who engine.Credentials) (string, error) {
	if who == (engine.Credentials{}) {
		return "", nil
	}
	host, _, _ := strings.Cut(ref, "/")
	text, err := json.Marshal(registry.AuthConfig{Username: who.Username, Password: who.Password, ServerAddress: host})
	return base64.URLEncoding.EncodeToString(text), err
}

// refusal says what a pull's error means. Engines hand on what the registry said as text, most of it without a code.
func refusal(err error) error {
	text := strings.ToLower(err.Error())
	says := func(some ...string) bool {
		return slices.ContainsFunc(some, func(s string) bool { return strings.Contains(text, s) })
	}
	switch {
	case full(text):
		return err // before a registry's words, which may stand in the same sentence
	case errdefs.IsUnauthorized(err), says("unauthorized", "authentication required", "no basic auth credentials",
		"pull access denied", "access to the resource is denied", "403 forbidden", "http 403 response", "http 401 response"),
		strings.HasPrefix(text, "denied:"), says(": denied:") && !says("permission denied"):
		return fmt.Errorf("%w: %w", engine.ErrDenied, err)
	case errdefs.IsNotFound(err), says("manifest unknown", "name unknown", "repository name not known", "404 not found"):
		return fmt.Errorf("%w: %w", engine.ErrNotFound, err)
	}
	return err
}

// RemoveImage keeps the contract.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	return e.do(ctx, "remove image "+ref, func(api *client.Client) error {
		if ref == engine.Loaded {
			return unload(ctx, api)
		}
		if err := checkReference(ref); err != nil {
			return err
		}
		// An engine refuses to remove the last reference to what a container uses, but gives away one of several.
		list, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
		if err != nil {
			return err
		}
		for _, c := range list.Items {
			if c.Image == ref {
				return fmt.Errorf("container %s uses it", strings.TrimPrefix(strings.Join(c.Names, ","), "/"))
			}
		}
		if _, err = api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true}); errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// meter makes one percentage of an engine's messages about layers: each layer counts by its size, half for its
// download and half for its unpacking. The size of a layer is not known before its download begins; until then it
// counts as the mean of those that are.
type meter struct {
	tell   func(percent int)
	layers map[string]*layer
	last   int
}

type layer struct {
	size, down, up int64 // bytes; size 0: not known yet
	done           bool
}

func (m *meter) add(msg jsonstream.Message) {
	at := func() *layer {
		if m.layers[msg.ID] == nil {
			m.layers[msg.ID] = &layer{}
		}
		return m.layers[msg.ID]
	}
	bytes := jsonstream.Progress{}
	if msg.Progress != nil && (msg.Progress.Units == "" || msg.Progress.Units == "bytes") {
		bytes = *msg.Progress
	}
	switch msg.Status {
	case "Pulling fs layer", "Waiting":
		at()
	case "Downloading":
		l := at()
		l.size, l.down = max(l.size, bytes.Total), max(l.down, bytes.Current)
	case "Verifying Checksum", "Download complete":
		l := at()
		l.down = l.size
	case "Extracting":
		l := at()
		l.size, l.up = max(l.size, bytes.Total), max(l.up, bytes.Current)
		l.down = l.size
	case "Pull complete":
		at().done = true
	case "Already exists":
		delete(m.layers, msg.ID) // nothing to do is no part of the work
	default:
		return
	}
	m.at(min(m.percent(), 99)) // 100 is when the image has its name
}

func (m *meter) percent() int {
	var known, sum int64
	for _, l := range m.layers {
		if l.size > 0 {
			known++
			sum += l.size
		}
	}
	mean := 1.0
	if known > 0 {
		mean = float64(sum) / float64(known)
	}
	var all, did float64
	for _, l := range m.layers {
		size := float64(l.size)
		if l.size <= 0 {
			size = mean
		}
		all += size
		if l.done {
			did += size
			continue
		}
		did += min(float64(l.down+l.up)/2, size)
	}
	if all == 0 {
		return 0
	}
	return int(max(0, min(100, 100*did/all)))
}

func (m *meter) at(percent int) {
	if percent > m.last {
		m.last = percent
		m.tell(percent)
	}
}
