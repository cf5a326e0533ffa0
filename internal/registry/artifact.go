package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/renameio/v2"
)

// What the server itself reads and writes in the registry, without a client: images to make something of, and artifacts
// that belong to them.

// maxManifest bounds the manifests and configurations that are read into memory, in bytes; distribution takes no longer
// manifests.
const maxManifest = 4 << 20

// ErrNotHere means that a repository does not have what was asked for.
var ErrNotHere = errors.New("it is not in the registry")

// Open opens a layer, a manifest or a configuration of a repository by its digest. It is the file itself: it may be read
// from anywhere, by several at once, and stays readable after Collect has removed it.
func (r *Registry) Open(repository, digest string) (*os.File, error) {
	hex, err := hexOf(digest)
	if err != nil {
		return nil, err
	}
	linked := false
	for _, links := range []string{"_layers", "_manifests/revisions"} {
		_, err := os.Stat(r.path(repositories, repository, links, "sha256", hex, "link"))
		linked = linked || err == nil
	}
	if !linked || !filepath.IsLocal(repository) {
		return nil, fmt.Errorf("open %s of %s: %w", digest, repository, ErrNotHere)
	}
	f, err := os.Open(r.path(blobs, "sha256", hex[:2], hex, "data"))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotHere
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", digest, repository, err)
	}
	return f, nil
}

// Read is the whole of a manifest or a configuration, checked against its digest.
func (r *Registry) Read(repository, digest string) ([]byte, error) {
	f, err := r.Open(repository, digest)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", digest, repository, err)
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("read %s of %s: it has more than %d bytes", digest, repository, maxManifest)
	}
	if Digest(b) != digest {
		return nil, fmt.Errorf("read %s of %s: the file on disk is damaged", digest, repository)
	}
	return b, nil
}

// Blob is content for a repository: a file, which is moved from where it is, or a few bytes.
type Blob struct {
	Digest string // sha256:…; whoever puts it has checked it
	Path   string // on the file system that the registry is on
	Bytes  []byte // if Path is ""
}

// Put puts blobs and the manifest that names them into a repository, and gives the manifest a tag unless it is "". Of what
// is there already nothing is written again, but a file is moved away all the same. A manifest is there whole or not at all;
// blobs of one that came to nothing go with a later Collect.
func (r *Registry) Put(repository string, content []Blob, manifest []byte, tag string) error {
	if !filepath.IsLocal(repository) || tag != "" && !tagName.MatchString(tag) {
		return fmt.Errorf("put into %q as %q: no such place", repository, tag)
	}
	r.collecting.RLock()
	defer r.collecting.RUnlock()
	link := func(digest string, to ...string) error {
		return write(r.path(append([]string{repositories, repository}, append(to, "link")...)...), []byte(digest))
	}
	digest := Digest(manifest)
	hex, err := hexOf(digest)
	if err != nil {
		return err
	}
	for _, b := range content {
		hex, err := hexOf(b.Digest)
		if err == nil {
			err = r.put(b, hex)
		}
		if err == nil {
			err = link(b.Digest, "_layers", "sha256", hex)
		}
		if err != nil {
			return fmt.Errorf("put %s into %s: %w", b.Digest, repository, err)
		}
	}
	if err := r.put(Blob{Bytes: manifest}, hex); err != nil {
		return fmt.Errorf("put manifest into %s: %w", repository, err)
	}
	if tag != "" {
		if err := errors.Join(link(digest, "_manifests", "tags", tag, "index", "sha256", hex), link(digest, "_manifests", "tags", tag, "current")); err != nil {
			return fmt.Errorf("tag %s in %s: %w", tag, repository, err)
		}
	}
	if err := link(digest, "_manifests", "revisions", "sha256", hex); err != nil {
		return fmt.Errorf("put manifest into %s: %w", repository, err)
	}
	return nil
}

// put makes content one of the registry's blobs.
func (r *Registry) put(b Blob, hex string) error {
	data := r.path(blobs, "sha256", hex[:2], hex, "data")
	_, err := os.Stat(data)
	switch {
	case err == nil && b.Path != "":
		return os.Remove(b.Path)
	case err == nil:
		return nil
	case b.Path == "":
		return write(data, b.Bytes)
	}
	f, err := os.Open(b.Path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.MkdirAll(filepath.Dir(data), 0o700)); err != nil {
		return err
	}
	return os.Rename(b.Path, data)
}

// write makes a file whole or not at all, unless it is there.
func write(path string, content []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, content, 0o600)
}

// Drop removes a manifest with its tags from a repository, and at once the blobs of it that the caller knows to be
// nobody else's; what else it named goes with the next Collect. What is not there is no error.
func (r *Registry) Drop(ctx context.Context, repository, manifest string, own ...string) (freed int64, err error) {
	if !filepath.IsLocal(repository) {
		return 0, fmt.Errorf("drop %s of %q: no such repository", manifest, repository)
	}
	r.collecting.Lock()
	defer r.collecting.Unlock()
	s := &sweeper{StorageDriver: r.driver, registry: r, now: r.now(), spared: map[string]bool{}}
	defer func() { freed = s.freed }()
	var gone []string
	for i, digest := range append([]string{manifest}, own...) {
		hex, err := hexOf(digest)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			tags, err := filepath.Glob(r.path(repositories, repository, "_manifests", "tags", "*", "current", "link"))
			if err != nil {
				return 0, err
			}
			for _, tag := range tags {
				if is, err := os.ReadFile(tag); err == nil && string(is) == digest {
					gone = append(gone, filepath.Dir(filepath.Dir(tag)))
				}
			}
			gone = append(gone, r.path(repositories, repository, "_manifests", "revisions", "sha256", hex))
			continue
		}
		gone = append(gone, r.path(repositories, repository, "_layers", "sha256", hex), r.path(blobs, "sha256", hex[:2], hex))
	}
	for _, path := range gone {
		if err := s.remove(ctx, path); err != nil {
			return 0, fmt.Errorf("drop %s of %s: %w", manifest, repository, err)
		}
	}
	return 0, nil
}

// CollectArtifacts takes those manifests of a kind of artifact out of all repositories that keep does not want; what they
// name goes with the next Collect. keep is asked while nothing is put.
func (r *Registry) CollectArtifacts(ctx context.Context, artifactType string, keep func(repository, manifest string) (bool, error)) error {
	root := r.path(repositories)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err := errors.Join(skipGone(err), ctx.Err()); err != nil || d == nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name, part, rest := split(filepath.ToSlash(rel))
		switch {
		case part == "":
			return nil
		case part != "_manifests" || rest != "" && rest != "revisions":
			return fs.SkipDir
		case rest == "":
			return nil
		}
		revisions, err := filepath.Glob(filepath.Join(path, "*", "*", "link"))
		if err != nil {
			return err
		}
		for _, link := range revisions {
			hex := filepath.Base(filepath.Dir(link))
			manifest := filepath.Base(filepath.Dir(filepath.Dir(link))) + ":" + hex
			if err := r.collectArtifact(ctx, name, manifest, artifactType, keep); err != nil {
				return fmt.Errorf("collect artifacts: repository %s: %w", name, err)
			}
		}
		return fs.SkipDir
	})
}

func (r *Registry) collectArtifact(ctx context.Context, repository, manifest, artifactType string, keep func(repository, manifest string) (bool, error)) error {
	b, err := r.Read(repository, manifest)
	if err != nil {
		return nil // whatever it is, it is no artifact that can be read
	}
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
	}
	if json.Unmarshal(b, &m) != nil || m.ArtifactType != artifactType {
		return nil
	}
	wanted, err := keep(repository, manifest)
	if err != nil || wanted {
		return err
	}
	_, err = r.Drop(ctx, repository, manifest)
	return err
}

var (
	digestName = regexp.MustCompile(`^sha256:([0-9a-f]{64})$`)
	tagName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`) // of the distribution specification
)

// hexOf is the digits of a digest; they lead nowhere else on a disk.
func hexOf(digest string) (string, error) {
	m := digestName.FindStringSubmatch(digest)
	if m == nil {
		return "", fmt.Errorf("%q is no SHA-256 digest", digest)
	}
	return m[1], nil
}

// Digest is the digest of some content.
func Digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
