package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"github.com/dunlin/dunlin/internal/fault"
)

// engine is the container engine's own interface; builds go through the BuildKit inside it.
func (b *Builder) engine(ctx context.Context) (*client.Client, error) {
	opts := []client.Opt{client.FromEnv}
	if b.Engine != "" {
		opts = []client.Opt{client.WithHost(b.Engine)}
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open the container engine: %w", err)
	}
	pinging, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := c.Ping(pinging, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		_ = c.Close()
		return nil, away(c.DaemonHost(), err)
	}
	return c, nil
}

func away(host string, err error) error {
	return fault.Wrap(fault.Unavailable, err, "the server's container engine at "+host+" does not answer").
		WithHint("start Docker on the server and push again; Go modules without a Dockerfile need no engine")
}

// engineReaches reports whether the engine takes the registry as it is: with a certificate everybody trusts, or on
// its own machine, where it asks for none. Otherwise the server takes the image out of the engine and pushes it itself.
func engineReaches(c *client.Client, d Destination) bool {
	if !d.Insecure && d.RootCA == nil {
		return true
	}
	host, _, _ := strings.Cut(d.Repository, "/")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	local := host == "localhost" || ip != nil && ip.IsLoopback() && ip.To4() != nil
	return local && strings.HasPrefix(c.DaemonHost(), "unix://")
}

// pushFromEngine sends the image the engine has under the destination's name.
func pushFromEngine(ctx context.Context, c *client.Client, d Destination, scratch string, out *lines) (Result, error) {
	if !engineReaches(c, d) {
		return pushSaved(ctx, c, d, scratch, out)
	}
	began := time.Now()
	auth, err := json.Marshal(map[string]string{"registrytoken": d.Token})
	if err != nil {
		return Result{}, fmt.Errorf("push the image: %w", err)
	}
	stream, err := c.ImagePush(ctx, d.Repository+tag, client.ImagePushOptions{RegistryAuth: base64.URLEncoding.EncodeToString(auth)})
	if err != nil {
		return Result{}, refused(err)
	}
	defer stream.Close()
	digest := ""
	for dec := json.NewDecoder(stream); ; {
		var m jsonstream.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Result{}, refused(err)
		}
		if m.Error != nil {
			return Result{}, refused(m.Error)
		}
		switch m.Status {
		case "Pushed", "Layer already exists":
			out.printf("layer %s: %s", m.ID, strings.ToLower(m.Status))
		}
		var aux struct{ Digest string }
		if m.Aux != nil && json.Unmarshal(*m.Aux, &aux) == nil && aux.Digest != "" {
			digest = aux.Digest
		}
	}
	if digest == "" {
		return Result{}, refused(errors.New("the engine named no digest"))
	}
	size, err := pushedSize(ctx, d, digest)
	if err != nil {
		return Result{}, err
	}
	out.printf("pushed in %s: %s", brief(time.Since(began)), digest)
	return Result{Digest: digest, Size: size}, nil
}

// pushedSize asks the registry for what was pushed: that it is there under its digest, and what it weighs.
func pushedSize(ctx context.Context, d Destination, digest string) (int64, error) {
	c, err := newRegistryClient(ctx, d)
	if err != nil {
		return 0, err
	}
	defer c.close()
	img, err := remote.Image(c.repository.Digest(digest), c.options...)
	if err != nil {
		return 0, refused(err)
	}
	return weigh(img)
}

// pushSaved takes the image out of the engine as a file and pushes it from here.
func pushSaved(ctx context.Context, c *client.Client, d Destination, scratch string, out *lines) (res Result, err error) {
	out.printf("the engine does not trust the registry's address; the server pushes the image itself")
	saved, err := c.ImageSave(ctx, []string{d.Repository + tag})
	if err != nil {
		return Result{}, fmt.Errorf("take the image out of the engine: %w", err)
	}
	defer saved.Close()
	name := filepath.Join(scratch, "image.tar")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Result{}, fmt.Errorf("take the image out of the engine: %w", err)
	}
	_, err = io.Copy(f, saved)
	if err := errors.Join(err, f.Close()); err != nil {
		return Result{}, fmt.Errorf("take the image out of the engine: %w", err)
	}
	img, err := tarball.ImageFromPath(name, nil)
	if err != nil {
		return Result{}, fmt.Errorf("read the image the engine made: %w", err)
	}
	return push(ctx, img, d, out)
}

// removeTag takes the image's name away from the engine; layers stay in its cache. It is cleaning up: it goes on when
// the build was cancelled, and an error of it fails nothing.
func (b *Builder) removeTag(ctx context.Context, c *client.Client, repository string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := c.ImageRemove(ctx, repository+tag, client.ImageRemoveOptions{PruneChildren: true}); err != nil {
		b.log().Debug("cannot remove the engine's name for a built image", "image", repository, "err", err)
	}
}
