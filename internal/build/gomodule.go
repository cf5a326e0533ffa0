package build

import (
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/dunlin/dunlin/internal/fault"
)

// goModule takes a Go module without a Dockerfile. The context is the module's folder or, in a compose project, the
// folder of one package of a module whose go.mod lies further up in the tree.
func (d *detector) goModule(s *Service, folder string) error {
	module := folder
	if !d.tree.has(path.Join(folder, "go.mod")) {
		if folder == "." || !d.goFiles(folder) {
			return nil
		}
		for !d.tree.has(path.Join(module, "go.mod")) {
			if module == "." {
				return nil
			}
			module = path.Dir(module)
		}
		s.main = "./" + strings.TrimPrefix(strings.TrimPrefix(folder, module), "/")
		if module == "." {
			s.main = "./" + folder
		}
	}
	s.Kind, s.module = KindGo, module
	return d.checkModule(module)
}

func (d *detector) goFiles(folder string) bool {
	found, err := fs.Glob(d.tree.root.FS(), path.Join(escapeGlob(folder), "*.go"))
	return err == nil && len(found) > 0
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// checkModule refuses a module that would make the toolchain read outside the tree: by a replace directive or by a
// symbolic link.
func (d *detector) checkModule(module string) error {
	name := path.Join(module, "go.mod")
	text, ok, err := d.tree.read(name)
	if err != nil || !ok {
		return err
	}
	mod, err := modfile.Parse(name, text, nil)
	if err != nil {
		var list modfile.ErrorList
		if errors.As(err, &list) && len(list) > 0 {
			return at(name, list[0].Pos.Line, "%s", shorten(list[0].Err.Error(), 300))
		}
		return fault.Wrap(fault.Invalid, err, name+" cannot be read as a go.mod file")
	}
	if mod.Module == nil {
		return at(name, 1, "it names no module").WithHint("its first line is: module NAME")
	}
	if err := d.checkLinks(); err != nil {
		return err
	}
	// The toolchain runs where the folder really is, and counts a replacement's ".." from there. What is below the tree by
	// name is so in fact: no link in it leads out.
	on, err := d.tree.on(module)
	if err != nil {
		return err
	}
	if module, err = filepath.Rel(d.tree.dir, on); err != nil {
		return fmt.Errorf("look through %s: %w", name, err)
	}
	for _, r := range mod.Replace {
		if r.New.Version != "" {
			continue
		}
		if _, ok := join(filepath.ToSlash(module), r.New.Path); !ok {
			return at(name, r.Syntax.Start.Line, "replace %s => %s leads out of the project", r.Old.Path, shorten(r.New.Path, 100)).
				WithHint("copy the module into the repository, or add it as a git submodule")
		}
	}
	return nil
}

// checkLinks refuses symbolic links anywhere in the tree that leave it: the toolchain follows them, and reaches more than
// the module's own folder by those that stay inside.
func (d *detector) checkLinks() error {
	return fs.WalkDir(d.tree.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("look through the Go module: %w", err)
		}
		if e.Type()&fs.ModeSymlink == 0 {
			return nil
		}
		if _, err := d.tree.root.Stat(name); err != nil {
			return fault.Newf(fault.Invalid, "%s is a symbolic link that leads out of the project or nowhere, and Go source may not be reached through it", name).
				WithHint("put the file itself into the repository, or add a Dockerfile")
		}
		return nil
	})
}

// checkGoVersion refuses a module whose go or toolchain line asks for more than the server has: it fetches no other
// toolchain.
func (t *tree) checkGoVersion(module, have string) error {
	name := path.Join(module, "go.mod")
	text, _, err := t.read(name)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(name, text, nil)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, name+" cannot be read as a go.mod file")
	}
	newer := func(line int, want string) error {
		return at(name, line, "it asks for %s, and the server has %s", want, have).
			WithHint("lower the line, update Go on the server, or add a Dockerfile that brings its own Go")
	}
	if mod.Go != nil && version.Compare("go"+mod.Go.Version, have) > 0 {
		return newer(mod.Go.Syntax.Start.Line, "go"+mod.Go.Version)
	}
	if mod.Toolchain != nil && version.Compare(mod.Toolchain.Name, have) > 0 {
		return newer(mod.Toolchain.Syntax.Start.Line, "the toolchain "+mod.Toolchain.Name)
	}
	return nil
}
