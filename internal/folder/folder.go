// Package folder owns what travels in a push of a folder on the pusher's own machine: which files a .dockerignore leaves
// out, in which order they go into the archive, and what git knows of the folder. It does not own where the archive
// goes, nor what is built of it.
package folder

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// loginFile is where the server looks for the accounts at registries, and logins is what it may be called.
const (
	loginFile = ".balena/registry-secrets.json"
	logins    = "registry-secrets."
)

// Options say what is sent.
type Options struct {
	// Multi lets a folder below with a .dockerignore of its own follow that one instead.
	Multi bool
	// Keep are slash paths that are sent though they are ignored.
	Keep []string
	// Logins are the accounts at registries, as JSON or YAML, instead of those the folder has; nil for the folder's.
	Logins []byte
}

// Folder is what of a folder is sent. It does not change after Read.
type Folder struct {
	Files   int      // and links
	Bytes   int64    // of the files
	Skipped []string // slash paths of what is neither file, folder nor link

	dir     string
	entries []entry
	logins  []byte
}

type entry struct {
	name string // slash path
	info fs.FileInfo
	link string
}

// Read walks a folder in an order that never varies. A pattern that cannot be understood is fault.Invalid.
func Read(dir string, o Options) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fault.New(fault.NotFound, "cannot read the folder: "+dir+": "+reason(err))
	}
	if !info.IsDir() {
		return nil, fault.Newf(fault.Invalid, "%s is not a folder", dir)
	}
	f := &Folder{dir: dir, logins: o.Logins}
	rules, err := readRules(dir, "", true)
	if err != nil {
		return nil, err
	}
	w := walk{Folder: f, options: o}
	return f, w.folder("", rules, verdict{})
}

type walk struct {
	*Folder
	options Options
}

// folder adds what is in a folder.
func (w *walk) folder(name string, r *rules, above verdict) error {
	dir := filepath.Join(w.dir, filepath.FromSlash(name))
	list, err := os.ReadDir(dir)
	if err != nil {
		return fault.New(fault.Invalid, "cannot read the folder: "+dir+": "+reason(err)).WithHint("leave it out with a .dockerignore")
	}
	for _, d := range list {
		below := path.Join(name, d.Name())
		v, err := r.judge(below, above)
		if err != nil {
			return err
		}
		ignored := v.ignored && !w.wanted(below, d.IsDir())
		if w.options.Logins != nil && !d.IsDir() && strings.HasPrefix(below, ".balena/"+logins) {
			continue
		}
		switch {
		case d.IsDir():
			if ignored && !r.mayReturn(below) && !w.above(below) {
				continue
			}
			if err := w.enter(below, d, r, v, ignored); err != nil {
				return err
			}
		case ignored:
			continue
		case d.Type().IsRegular(), d.Type() == fs.ModeSymlink:
			if err := w.add(below, d); err != nil {
				return err
			}
		default:
			w.Skipped = append(w.Skipped, below)
		}
	}
	return nil
}

// enter adds a folder and what is in it. Of one that is ignored only what is in it and is not counts.
func (w *walk) enter(name string, d fs.DirEntry, r *rules, v verdict, ignored bool) error {
	if w.options.Multi && !ignored {
		own, err := readRules(w.dir, name, false)
		if err != nil {
			return err
		}
		if own != nil {
			r, v = own, verdict{}
		}
	}
	if !ignored {
		if err := w.add(name, d); err != nil {
			return err
		}
	}
	return w.folder(name, r, v)
}

// wanted reports whether the server needs a file to build, so that it is sent though it is ignored: people keep their
// Dockerfile out of the image with it, not out of the build.
func (w *walk) wanted(name string, isDir bool) bool {
	first, _, _ := strings.Cut(name, "/")
	if first == ".balena" || first == ".resin" || slices.Contains(w.options.Keep, name) {
		return true
	}
	base := path.Base(name)
	return !isDir && (base == ".dockerignore" || base == "Dockerfile" || strings.HasPrefix(base, "Dockerfile.") ||
		!strings.Contains(name, "/") && slices.Contains([]string{
			"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml", "balena.yml", "balena.yaml",
		}, base))
}

// above reports whether something that is to be kept lies in a folder.
func (w *walk) above(name string) bool {
	return slices.ContainsFunc(w.options.Keep, func(k string) bool { return strings.HasPrefix(k, name+"/") })
}

func (w *walk) add(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return fault.Newf(fault.Invalid, "cannot read %s: %s", name, reason(err))
	}
	e := entry{name: name, info: info}
	switch {
	case info.Mode().IsRegular():
		w.Files++
		w.Bytes += info.Size()
	case info.Mode().Type() == fs.ModeSymlink:
		w.Files++
		if e.link, err = os.Readlink(filepath.Join(w.dir, filepath.FromSlash(name))); err != nil {
			return fault.Newf(fault.Invalid, "cannot read the link %s: %s", name, reason(err))
		}
		e.link = filepath.ToSlash(e.link)
	}
	w.entries = append(w.entries, e)
	return nil
}

// Share is how much of a folder something at its top is.
type Share struct {
	Name  string
	Bytes int64
}

// Biggest are the n biggest files and folders at the top, biggest first.
func (f *Folder) Biggest(n int) []Share {
	sum := map[string]int64{}
	for _, e := range f.entries {
		if e.info.Mode().IsRegular() {
			top, _, _ := strings.Cut(e.name, "/")
			sum[top] += e.info.Size()
		}
	}
	var all []Share
	for name, bytes := range sum {
		all = append(all, Share{name, bytes})
	}
	slices.SortFunc(all, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name)) })
	return all[:min(n, len(all))]
}

// Archive writes the folder as a tar. A file that was changed meanwhile so that the archive cannot hold it is an error.
func (f *Folder) Archive(ctx context.Context, to io.Writer) error {
	w := tar.NewWriter(to)
	for _, e := range f.entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := f.write(w, e); err != nil {
			return err
		}
	}
	if f.logins != nil {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: loginFile, Mode: 0o600, Size: int64(len(f.logins))}); err != nil {
			return err
		}
		if _, err := w.Write(f.logins); err != nil {
			return err
		}
	}
	return w.Close()
}

func (f *Folder) write(w *tar.Writer, e entry) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: int64(e.info.Mode().Perm()), ModTime: e.info.ModTime()}
	switch {
	case e.info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		return w.WriteHeader(h)
	case e.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		return w.WriteHeader(h)
	}
	file, err := os.Open(filepath.Join(f.dir, filepath.FromSlash(e.name)))
	if err != nil {
		return fault.Newf(fault.Invalid, "cannot read %s: %s", e.name, reason(err)).WithHint("make it readable, or leave it out with a .dockerignore")
	}
	defer file.Close() // only read
	h.Size = e.info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(file, h.Size))
	if err == nil && n < h.Size {
		return fault.Newf(fault.Conflict, "%s became shorter while it was being sent", e.name).WithHint("push again")
	}
	return err
}

// reason is why a file cannot be read, without its path, which the sentence has.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
