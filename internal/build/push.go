package build

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// tag is what an image is called in its repository; targets name it by digest.
const tag = ":latest"

// registryClient is how the server talks to the destination's registry, which is its own: directly, never by a proxy.
type registryClient struct {
	repository name.Repository
	options    []remote.Option
	close      func()
}

func newRegistryClient(ctx context.Context, d Destination) (*registryClient, error) {
	var opts []name.Option
	if d.Insecure {
		opts = append(opts, name.Insecure)
	}
	repository, err := name.NewRepository(d.Repository, opts...)
	if err != nil {
		return nil, fmt.Errorf("name the image: %w", err)
	}
	if host, _, _ := strings.Cut(d.Repository, "/"); repository.RegistryStr() != host {
		return nil, fmt.Errorf("name the image: %q is no registry's host; it needs a dot or a port", host)
	}
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: d.RootCA, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
	}
	auth := authn.Anonymous
	if d.Token != "" {
		auth = &authn.Bearer{Token: d.Token}
	}
	return &registryClient{
		repository: repository,
		options:    []remote.Option{remote.WithContext(ctx), remote.WithTransport(t), remote.WithAuth(auth)},
		close:      t.CloseIdleConnections,
	}, nil
}

// push sends an image's layers, config and manifest; a layer the repository has is not sent again.
func push(ctx context.Context, img v1.Image, d Destination, out *lines) (Result, error) {
	c, err := newRegistryClient(ctx, d)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	began := time.Now()
	if err := remote.Write(c.repository.Tag(strings.TrimPrefix(tag, ":")), img, c.options...); err != nil {
		return Result{}, refused(err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Result{}, fmt.Errorf("push the image: %w", err)
	}
	size, err := weigh(img)
	if err != nil {
		return Result{}, err
	}
	out.printf("pushed in %s: %s", brief(time.Since(began)), digest)
	return Result{Digest: digest.String(), Size: size}, nil
}

// weigh is the compressed size of an image's config and layers.
func weigh(img v1.Image) (int64, error) {
	m, err := img.Manifest()
	if err != nil {
		return 0, fmt.Errorf("read the image's manifest: %w", err)
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}

// refused is an error of the server's own registry.
func refused(err error) error {
	var t *transport.Error
	if errors.As(err, &t) && (t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden) {
		return fmt.Errorf("push the image: the registry refused the token: %w", err)
	}
	return fault.Wrap(fault.Unavailable, err, "the image could not be pushed to the registry").WithHint("push again")
}

// external copies an image that the project only names from its registry to the destination.
func (b *Builder) external(ctx context.Context, p *Project, s Service, d Destination, out *lines) (Result, error) {
	ref, err := name.ParseReference(s.image)
	if err != nil {
		return Result{}, fault.Newf(fault.Invalid, "service %s: %q is no name of an image", s.Name, shorten(s.image, 200))
	}
	reach := b.reach(d)
	if host := address(ref.Context().Registry); !reach.allows(host) && !reach.public(host) {
		return Result{}, notFetched(s, errPrivate)
	}
	t := reach.transport()
	defer t.CloseIdleConnections()
	auth := authn.Anonymous
	if l, ok := p.logins[registryHost(ref.Context().RegistryStr())]; ok {
		auth = &authn.Basic{Username: l.username, Password: l.password}
	}
	out.printf("copying %s for %s", s.image, p.arch.Platform)
	found, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(t), remote.WithAuth(auth))
	if err != nil {
		return Result{}, notFetched(s, err)
	}
	var img v1.Image
	if found.MediaType.IsIndex() {
		img, err = pick(found, p.arch)
	} else {
		img, err = found.Image()
	}
	if err != nil {
		return Result{}, notFetched(s, err)
	}
	if img == nil {
		return Result{}, fault.Newf(fault.Invalid, "service %s: %s has no image for %s", s.Name, s.image, p.arch.Platform)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Result{}, notFetched(s, err)
	}
	if config.Architecture != "" && !runs(p.arch, config.Architecture, config.Variant) {
		return Result{}, fault.Newf(fault.Invalid, "service %s: %s is for %s/%s, and the fleet needs %s", s.Name, s.image, config.OS, config.Architecture, p.arch.Platform)
	}
	return push(ctx, img, d, out)
}

// runs reports whether an image of a processor and variant runs on arch.
func runs(arch fleet.Architecture, processor, variant string) bool {
	if processor != arch.Arch {
		return false
	}
	return arch.Arch != "arm" || variant == "" || variant <= arch.Variant
}

// pick finds the image for arch in an index: of several variants the newest that runs. It is nil if there is none.
func pick(d *remote.Descriptor, arch fleet.Architecture) (v1.Image, error) {
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var best *v1.Descriptor
	for i, e := range m.Manifests {
		if e.Platform == nil || e.Platform.OS != arch.OS || !e.MediaType.IsImage() || !runs(arch, e.Platform.Architecture, e.Platform.Variant) {
			continue
		}
		if best == nil || e.Platform.Variant > best.Platform.Variant {
			best = &m.Manifests[i]
		}
	}
	if best == nil {
		return nil, nil
	}
	return index.Image(best.Digest)
}

// notFetched is an error of somebody else's registry.
func notFetched(s Service, err error) error {
	message := fmt.Sprintf("service %s: %s cannot be fetched", s.Name, s.image)
	var t *transport.Error
	switch {
	case errors.Is(err, errPrivate):
		return fault.Wrap(fault.Invalid, err, message+": "+errPrivate.Error()).WithHint("name an image of a public registry")
	case errors.As(err, &t) && t.StatusCode == http.StatusNotFound:
		return fault.Wrap(fault.Invalid, err, message+": there is no such image")
	case errors.As(err, &t) && (t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden):
		return fault.Wrap(fault.Invalid, err, message+": the registry wants a login, or there is no such image").
			WithHint("put the account into .balena/registry-secrets.json")
	case errors.As(err, &t):
		return fault.Wrap(fault.Unavailable, err, fmt.Sprintf("%s: the registry answered %d", message, t.StatusCode))
	}
	return fault.Wrap(fault.Unavailable, err, message+": its registry does not answer")
}
