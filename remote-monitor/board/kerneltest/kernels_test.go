package kerneltest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// debian is where kernels come from. apt checks what it fetches against the signature of the archive.
const debian = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"

// kernel is a kernel of Debian in the cache: the image, and modules that are to be loaded in this order.
type kernel struct {
	image   string
	modules []string
	version string
}

// kernels finds kernels in the cache of this user, and fetches the others from Debian. A kernel once fetched stays;
// remove the folder to get a newer one.
func kernels(ctx context.Context, t *testing.T, machines []machine) (map[string]kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache = filepath.Join(cache, "dunlin-test", "kernels")
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return nil, err
	}
	unlock, err := lock(cache)
	if err != nil {
		return nil, err
	}
	defer unlock()

	found := map[string]kernel{}
	var a *archive
	for _, m := range machines {
		sum := sha256.Sum256([]byte(strings.Join(m.modules, " ")))
		dir := filepath.Join(cache, fmt.Sprintf("%s-%x", m.debian, sum[:4]))
		k, err := load(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if a == nil {
				if a, err = openArchive(ctx, t.TempDir()); err != nil {
					return nil, err
				}
			}
			t.Logf("fetching %s for %s", m.pkg, m.debian)
			if err := a.extract(ctx, m, dir); err != nil {
				return nil, fmt.Errorf("fetch %s for %s: %w", m.pkg, m.debian, err)
			}
			k, err = load(dir)
		}
		if err != nil {
			return nil, err
		}
		found[m.debian] = k
	}
	return found, nil
}

// lock keeps other runs of this test out of the cache until the returned function is called.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { f.Close() }, nil
}

// load reads a folder that extract has written.
func load(dir string) (kernel, error) {
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return kernel{}, err
	}
	modules, err := filepath.Glob(filepath.Join(dir, "*.ko")) // sorted: the order of loading
	return kernel{image: filepath.Join(dir, "vmlinuz"), modules: modules, version: string(version)}, err
}

// archive is Debian, seen through an apt that has a state of its own and so knows other architectures than this
// machine's without the system being told of them.
type archive struct {
	dir     string
	options []string
}

func openArchive(ctx context.Context, dir string) (*archive, error) {
	a := &archive{dir: dir}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"status": "", "sources.list": debian} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			return nil, err
		}
	}
	for _, o := range []string{
		"Dir::State=" + filepath.Join(dir, "state"),
		"Dir::State::status=" + filepath.Join(dir, "status"),
		"Dir::Cache=" + filepath.Join(dir, "cache"),
		"Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"),
		"Dir::Etc::sourceparts=-",
		"APT::Architecture=amd64",
		"APT::Architectures=amd64,arm64,armhf",
		"APT::Sandbox::User=root", // the user _apt cannot enter the folder
		"Acquire::Languages=none",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::Retries=3",
	} {
		a.options = append(a.options, "-o", o)
	}
	_, err := a.run(ctx, "apt-get", "update", "--error-on=any")
	return a, err
}

func (a *archive) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append(args, a.options...)...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// extract fetches the kernel of m and puts its image and modules into dir, which is not there or complete.
func (a *archive) extract(ctx context.Context, m machine, dir string) error {
	// The package m.pkg is a pointer to the newest kernel.
	depends, err := a.run(ctx, "apt-cache", "depends", "--important", m.pkg+":"+m.debian)
	if err != nil {
		return err
	}
	_, after, ok := strings.Cut(depends, "Depends: ")
	if !ok {
		return fmt.Errorf("%s depends on no kernel: %q", m.pkg, depends)
	}
	name, _, _ := strings.Cut(strings.Fields(after)[0], ":")
	if _, err := a.run(ctx, "apt-get", "download", name+":"+m.debian); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, name+"_*_"+m.debian+".deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s left %q", name, debs)
	}
	deb := debs[0]
	defer os.Remove(deb)

	order, err := closure(ctx, deb, m.modules)
	if err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "partial-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial)
	missing := len(order) + 1
	err = eachFile(ctx, deb, func(name string, content io.Reader) error {
		to := ""
		if strings.HasPrefix(name, "boot/vmlinuz-") {
			to = "vmlinuz"
		} else if i := slices.Index(order, moduleName(name)); i >= 0 && strings.HasSuffix(name, ".ko") {
			to = fmt.Sprintf("%02d-%s.ko", i, order[i])
		} else {
			return nil
		}
		b, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		missing--
		return os.WriteFile(filepath.Join(partial, to), b, 0o666)
	})
	if err != nil {
		return err
	}
	if missing != 0 {
		return fmt.Errorf("%s: %d files are missing", filepath.Base(deb), missing)
	}
	if err := os.WriteFile(filepath.Join(partial, "version"), []byte(strings.TrimSuffix(filepath.Base(deb), ".deb")), 0o666); err != nil {
		return err
	}
	return os.Rename(partial, dir)
}

// closure lists the wanted modules and all that they depend on, the needed before the needing. The package has no
// modules.dep, which is made on installation; the modules say themselves what they need.
func closure(ctx context.Context, deb string, wanted []string) ([]string, error) {
	depends := map[string][]string{}
	builtin := map[string]bool{}
	err := eachFile(ctx, deb, func(name string, content io.Reader) error {
		switch {
		case strings.HasSuffix(name, ".ko"):
			b, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			d, err := moduleDepends(b)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			depends[moduleName(name)] = d
		case path.Base(name) == "modules.builtin":
			b, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				builtin[moduleName(line)] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var order []string
	var add func(name string) error
	add = func(name string) error {
		d, ok := depends[name]
		if builtin[name] || slices.Contains(order, name) {
			return nil
		}
		if !ok {
			return fmt.Errorf("%s has no module %s", filepath.Base(deb), name)
		}
		for _, n := range d {
			if err := add(n); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	for _, w := range wanted {
		if err := add(moduleName(w)); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is the name as the kernel writes it: kernel/drivers/i2c/i2c-dev.ko is i2c_dev.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(strings.TrimSpace(file)), ".ko"), "-", "_")
}

func moduleDepends(ko []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("has no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if d, ok := strings.CutPrefix(field, "depends="); ok && d != "" {
			names := strings.Split(d, ",")
			for i, n := range names {
				names[i] = moduleName(n)
			}
			return names, nil
		}
	}
	return nil, nil
}

// eachFile shows the regular files of a package, without unpacking it to disk.
func eachFile(ctx context.Context, deb string, show func(name string, content io.Reader) error) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // before Wait, when show wants no more
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			stop()
		}
		if e := cmd.Wait(); err == nil && e != nil {
			err = fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), e, strings.TrimSpace(errs.String()))
		}
	}()
	r := tar.NewReader(out)
	for {
		h, err := r.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, out)
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := show(path.Clean(h.Name), r); err != nil {
			return err
		}
	}
}
