package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// Modes of a tree's entries, as git writes them.
const (
	modeTree       = "040000"
	modeExecutable = "100755"
	modeSymlink    = "120000"
	modeSubmodule  = "160000"
)

// lfsPrefix is how every Git LFS pointer begins (git-lfs, docs/spec.md).
const lfsPrefix = "version https://git-lfs.github.com/spec/"

const (
	maxLFSPointer = 1024
	maxPath       = 4096 // bytes; PATH_MAX
)

// tree is a commit whose files are wanted, on whose behalf, and where it came from.
type tree struct {
	repo   repo
	commit string
	origin origin
	actor  fleet.Actor
	prefix string // where in the archive its files go; "" or ending in a slash
	depth  int    // how many submodules it is in
}

// archive writes the files of t and its submodules as a tar: what the trees hold, as they hold it. warn gets what the
// pusher should know.
func (s *Server) archive(ctx context.Context, t tree, w io.Writer, warn io.Writer) error {
	when, err := s.output(ctx, t.repo, "log", "-1", "--no-show-signature", "--format=%ct", t.commit)
	if err != nil {
		return fmt.Errorf("archive %s: %w", t.commit, err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(when)), 10, 64)
	if err != nil {
		return fmt.Errorf("archive %s: %w", t.commit, err)
	}
	limits := s.Limits.orDefaults()
	p := &packer{
		server: s, tar: tar.NewWriter(w), warn: warn, when: time.Unix(seconds, 0).UTC(), seen: map[string]bool{},
		bytes: limits.Archive, limits: limits,
	}
	if err := p.add(ctx, t); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("archive %s: %w", t.commit, err)
	}
	if n := len(p.pointers); n > 0 {
		what := fmt.Sprintf("%s is a Git LFS pointer", p.pointers[0])
		if n > 1 {
			what = fmt.Sprintf("%s and %d more are Git LFS pointers", p.pointers[0], n-1)
		}
		fmt.Fprintf(warn, "warning: %s; LFS is not supported, the build gets the pointer instead of the content\n"+
			"hint: git lfs migrate export --include=PATH puts the content back into git\n", what)
	}
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("archive %s: %w", t.commit, err)
	}
	return nil
}

// packer writes one archive.
type packer struct {
	server     *Server
	tar        *tar.Writer
	warn       io.Writer
	when       time.Time
	seen       map[string]bool // every path written; true for folders
	bytes      int64           // that may still be written
	limits     Limits
	submodules int
	pointers   []string // to Git LFS
}

// add writes the files of one tree, then those of its submodules where they belong.
func (p *packer) add(ctx context.Context, t tree) (err error) {
	modules, err := p.server.modules(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blobs, err := p.server.blobs(ctx, t.repo)
	if err != nil {
		return err
	}
	defer blobs.close()
	list := p.server.quick(ctx, t.repo, "ls-tree", "-r", "-t", "-z", "--full-tree", t.commit)
	stdout, err := list.StdoutPipe()
	if err != nil {
		return err
	}
	stderr := &head{max: 4 << 10}
	list.Stderr = stderr
	if err := list.Start(); err != nil {
		return err
	}
	in := bufio.NewReader(stdout)
	for {
		var line string
		if line, err = in.ReadString(0); err != nil {
			break
		}
		if err = p.entry(ctx, t, strings.TrimSuffix(line, "\x00"), modules, blobs); err != nil {
			break
		}
	}
	if err != io.EOF {
		cancel() // the list is of no use any more
		_ = list.Wait()
		return err
	}
	if err := list.Wait(); err != nil {
		return &gitError{name: "git ls-tree", stderr: stderr.String(), err: err}
	}
	return nil
}

// entry writes one line of git ls-tree: mode, type, object, tab, path.
func (p *packer) entry(ctx context.Context, t tree, line string, modules map[string]string, blobs *blobs) error {
	meta, name, ok := strings.Cut(line, "\t")
	f := strings.Fields(meta)
	if !ok || len(f) != 3 || !isObjectID(f[2]) {
		return fmt.Errorf("git ls-tree: a line that is none: %q", line)
	}
	mode, id, path := f[0], f[2], t.prefix+name
	if err := p.place(path, mode == modeTree || mode == modeSubmodule); err != nil {
		return err
	}
	h := &tar.Header{Name: path, ModTime: p.when, Mode: 0o644, Format: tar.FormatPAX}
	switch mode {
	case modeTree, modeSubmodule:
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, path+"/", 0o755
		if err := p.tar.WriteHeader(h); err != nil {
			return err
		}
		if mode == modeSubmodule {
			return p.submodule(ctx, t, name, modules[name], id)
		}
		return nil
	case modeSymlink:
		target, err := blobs.small(id, maxPath)
		if err != nil || bytes.IndexByte(target, 0) >= 0 {
			return errors.Join(hostile(path, "is a link that leads nowhere"), err)
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, string(target), 0o777
		return p.tar.WriteHeader(h)
	case modeExecutable:
		h.Mode = 0o755
	}
	content, size, err := blobs.open(id)
	if err != nil {
		return err
	}
	if p.bytes -= size; p.bytes < 0 {
		return fault.Newf(fault.TooLarge, "the files of the commit are larger than %d MB together", p.limits.Archive>>20).
			WithHint("take what the build does not need out of the repository")
	}
	h.Typeflag, h.Size = tar.TypeReg, size
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	if size <= maxLFSPointer {
		if start, _ := content.Peek(min(int(size), len(lfsPrefix))); string(start) == lfsPrefix {
			p.pointers = append(p.pointers, clean(path, 200))
		}
	}
	if _, err := io.CopyN(p.tar, content, size); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return blobs.end()
}

// place checks that path can stand in the archive: it names something below its root, once, in a folder that was
// written. Git's own check of a push covers most of this; the trees of submodules come from elsewhere.
func (p *packer) place(path string, folder bool) error {
	if len(p.seen) >= p.limits.Files {
		return fault.Newf(fault.TooLarge, "the commit has more than %d files", p.limits.Files).
			WithHint("take what the build does not need out of the repository")
	}
	if len(path) > maxPath {
		return hostile(path, "has too long a name")
	}
	parts := strings.Split(path, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return hostile(path, "has a name that no file may have")
		}
	}
	if _, twice := p.seen[path]; twice {
		return hostile(path, "is there twice")
	}
	if parent := strings.Join(parts[:len(parts)-1], "/"); parent != "" && !p.seen[parent] {
		return hostile(path, "is in a folder that is none")
	}
	p.seen[path] = folder
	return nil
}

func hostile(path, why string) error {
	return fault.Newf(fault.Invalid, "file %q %s", clean(path, 200), why).WithHint("git fsck says more")
}

// submodule writes the tree that the folder path of t stands for.
func (p *packer) submodule(ctx context.Context, t tree, path, url, commit string) error {
	bounds := p.server.Submodules.orDefaults()
	m := submodule{path: t.prefix + path, url: url, commit: commit}
	switch p.submodules++; {
	case url == "":
		return m.refuse(fault.Invalid, ".gitmodules has no url for it").
			WithHint("if it is not meant as a submodule: git rm --cached " + clean(m.path, 200) + ", and add its files")
	case t.depth >= bounds.Depth:
		return m.refuse(fault.Invalid, fmt.Sprintf("submodules are nested more than %d deep", bounds.Depth)).WithHint("vendor it")
	case p.submodules > bounds.Number:
		return m.refuse(fault.TooLarge, fmt.Sprintf("there are more than %d submodules", bounds.Number)).WithHint("vendor some")
	}
	below, err := p.server.obtain(ctx, t, m, p.warn)
	if err != nil {
		return err
	}
	return p.add(ctx, below)
}

// blobs reads objects through one git cat-file --batch.
type blobs struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (s *Server) blobs(ctx context.Context, r repo) (*blobs, error) {
	cmd := s.quick(ctx, r, "cat-file", "--batch")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &blobs{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 64<<10)}, nil
}

// close ends the process; it may be in the middle of an object.
func (b *blobs) close() {
	_ = b.in.Close()
	_ = b.cmd.Cancel()
	_ = b.cmd.Wait()
}

// open starts reading a blob: exactly size bytes follow, then end must be called.
func (b *blobs) open(id string) (content *bufio.Reader, size int64, err error) {
	if _, err := io.WriteString(b.in, id+"\n"); err != nil {
		return nil, 0, fmt.Errorf("git cat-file: %w", err)
	}
	line, err := b.out.ReadString('\n')
	if err != nil {
		return nil, 0, fmt.Errorf("git cat-file: %w", err)
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != id || f[1] != "blob" {
		return nil, 0, fmt.Errorf("git cat-file: want a blob, got %q", strings.TrimSpace(line))
	}
	size, err = strconv.ParseInt(f[2], 10, 64)
	return b.out, size, err
}

// end reads what follows an object.
func (b *blobs) end() error {
	if c, err := b.out.ReadByte(); err != nil || c != '\n' {
		return fmt.Errorf("git cat-file: the object did not end where it should: %v", err)
	}
	return nil
}

// small reads a blob of at most limit bytes.
func (b *blobs) small(id string, limit int64) ([]byte, error) {
	content, size, err := b.open(id)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("object %s has %d bytes, want at most %d", id, size, limit)
	}
	buf := make([]byte, size)
	if _, err := io.ReadFull(content, buf); err != nil {
		return nil, fmt.Errorf("git cat-file: %w", err)
	}
	return buf, b.end()
}
