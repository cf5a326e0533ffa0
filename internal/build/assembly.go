package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/scanner"
	"unicode"

	"github.com/dunlin/dunlin/internal/fault"
)

// Go's assembler has a preprocessor whose #include takes any file of the machine, and a complaint about that file's text
// shows it. So every include of a package that is not the toolchain's own has to be a header of the same module, which
// is looked through as well, or one of the toolchain's, which are named without a folder.
var plainHeader = regexp.MustCompile(`^(?:[A-Za-z0-9_.+-]+/)*[A-Za-z0-9_+-][A-Za-z0-9_.+-]*\.h$`)

// maxAssembly bounds one assembly file, in bytes.
const maxAssembly = 32 << 20

// assembly looks through the assembly files of one package.
type assembly struct {
	dir    string // of the package: the assembler runs there, and all includes start there
	module string // folder of its module
	seen   map[string]bool
}

// newAssembly takes the folders of a package and its module without their symbolic links, as the kernel sees them.
func newAssembly(dir, module string) (*assembly, error) {
	a := &assembly{seen: map[string]bool{}}
	var err error
	if a.dir, err = filepath.EvalSymlinks(dir); err == nil {
		a.module, err = filepath.EvalSymlinks(module)
	}
	if err != nil {
		return nil, fmt.Errorf("look through assembly: %w", err)
	}
	return a, nil
}

// find is where a file named from the package's folder really lies, each link followed before the ".." after it, and
// what it is called in the module; inside is false outside the module.
func (a *assembly) find(file string) (path, shown string, inside bool, err error) {
	path, err = filepath.EvalSymlinks(a.dir + string(filepath.Separator) + file)
	if err != nil {
		return "", file, false, err
	}
	rel, err := filepath.Rel(a.module, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path, file, false, nil
	}
	return path, filepath.ToSlash(rel), true, nil
}

// check refuses a file, by its path from the package's folder, that includes what it may not.
func (a *assembly) check(file string) error {
	path, shown, inside, err := a.find(file)
	if err != nil || !inside {
		return fault.Newf(fault.Invalid, "%s is not an assembly file of the module", shown)
	}
	if a.seen[path] {
		return nil
	}
	a.seen[path] = true
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxAssembly {
		return fault.Newf(fault.Invalid, "%s is not an assembly file the server takes", shown)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, shown+" cannot be read")
	}
	for _, i := range includes(text) {
		refused := at(shown, i.line, "assembly may only include headers of its own module").
			WithHint("to build it all the same, add a Dockerfile")
		if !plainHeader.MatchString(i.name) {
			return refused
		}
		switch _, _, inside, err := a.find(i.name); {
		case err == nil && inside:
			if err := a.check(i.name); err != nil {
				return err
			}
		case err != nil && !strings.Contains(i.name, "/"):
			// One of the toolchain's: the assembler finds no other by a bare name.
		default:
			return refused
		}
	}
	return nil
}

type include struct {
	name string // "" if it is no string
	line int
}

// includes are the files an assembly file includes. Tokens are read the way the assembler reads them.
func includes(text []byte) []include {
	var s scanner.Scanner
	s.Init(bytes.NewReader(text))
	s.Error = func(*scanner.Scanner, string) {} // the assembler will say it
	s.Whitespace = 1<<'\t' | 1<<'\r' | 1<<' '
	s.Mode = scanner.ScanChars | scanner.ScanFloats | scanner.ScanIdents | scanner.ScanInts | scanner.ScanStrings |
		scanner.ScanComments | scanner.SkipComments
	s.IsIdentRune = func(r rune, i int) bool {
		return unicode.IsLetter(r) || r == '_' || r == '·' || r == '∕' || i > 0 && unicode.IsDigit(r)
	}
	var all []include
	var before rune
	for tok := s.Scan(); tok != scanner.EOF; before, tok = tok, s.Scan() {
		if tok != scanner.Ident || before != '#' || s.TokenText() != "include" {
			continue
		}
		i := include{line: s.Position.Line}
		if s.Scan() == scanner.String {
			i.name, _ = strconv.Unquote(s.TokenText()) // "" is refused like any other name
		}
		all = append(all, i)
	}
	return all
}
