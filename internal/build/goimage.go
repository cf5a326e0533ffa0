package build

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dunlin/dunlin/internal/fleet"
)

// authorities are the places where distributions keep the certificates of public authorities, as one file.
var authorities = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// programImage lays a static program on an image that has what programs expect of a system and nothing else: users, the
// server's certificates of public authorities, the toolchain's time zones, and /tmp. The same input gives the same
// bytes: times are zero, and the layer below the program is the same for all.
func programImage(arch fleet.Architecture, program, name, goroot string) (v1.Image, error) {
	base, err := baseLayer(goroot)
	if err != nil {
		return nil, fmt.Errorf("make the base layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return programTar(program, name) },
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make the program's layer: %w", err)
	}
	zero := v1.Time{Time: time.Unix(0, 0).UTC()}
	img, err := mutate.Append(empty.Image,
		mutate.Addendum{Layer: base, History: v1.History{Created: zero, CreatedBy: "dunlin: certificates, time zones, users"}},
		mutate.Addendum{Layer: layer, History: v1.History{Created: zero, CreatedBy: "dunlin: go build"}},
	)
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.Created = arch.OS, arch.Arch, arch.Variant, zero
	config.Config = v1.Config{
		Entrypoint: []string{"/bin/" + name},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		WorkingDir: "/",
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	return img, nil
}

// programName is what the program is called in the image: the folder of its package, or the module's last word.
func programName(t *tree, module, main string) string {
	name := path.Base(main)
	if name == "." {
		name = "app"
		if text, ok, err := t.read(path.Join(module, "go.mod")); ok && err == nil {
			dir := modfile.ModulePath(text)
			name = path.Base(dir)
			if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
				name = path.Base(path.Dir(dir))
			}
		}
	}
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, name)
	if name == "" || strings.Trim(name, ".") == "" {
		return "app"
	}
	return name
}

func programTar(program, name string) (io.ReadCloser, error) {
	f, err := os.Open(program)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, w := io.Pipe()
	go func() {
		// Ends with the program's last byte, or with the reader's Close.
		t := tar.NewWriter(w)
		err := t.WriteHeader(header("bin/"+name, tar.TypeReg, 0o755, info.Size()))
		if err == nil {
			_, err = io.Copy(t, f)
		}
		w.CloseWithError(errors.Join(err, t.Close(), f.Close()))
	}()
	return r, nil
}

func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0).UTC(), Format: tar.FormatUSTAR}
}

// baseLayer is the layer all programs share.
func baseLayer(goroot string) (v1.Layer, error) {
	files := map[string][]byte{
		"etc/passwd":        []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"),
		"etc/group":         []byte("root:x:0:\nnobody:x:65534:\n"),
		"etc/nsswitch.conf": []byte("hosts: files dns\n"),
	}
	for _, name := range authorities {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files["etc/ssl/certs/ca-certificates.crt"] = text
		break
	}
	if err := zones(filepath.Join(goroot, "lib", "time", "zoneinfo.zip"), files); err != nil {
		return nil, err
	}
	folders := map[string]bool{"bin": true, "root": true, "tmp": true}
	var names []string
	for name := range files {
		names = append(names, name)
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for dir := range folders {
		names = append(names, dir)
	}
	slices.Sort(names)

	var out bytes.Buffer
	t := tar.NewWriter(&out)
	for _, name := range names {
		h := header(name, tar.TypeReg, 0o644, int64(len(files[name])))
		if folders[name] {
			h = header(name+"/", tar.TypeDir, 0o755, 0)
			switch name {
			case "tmp":
				h.Mode = 0o1777
			case "root":
				h.Mode = 0o700
			}
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}

// zones adds the toolchain's time zones, if it has them: some distributions leave them to a package of their own.
func zones(archive string, files map[string][]byte) error {
	z, err := zip.OpenReader(archive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		files["usr/share/zoneinfo/"+f.Name] = text
	}
	return nil
}
