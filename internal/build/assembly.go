package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"text/scanner"
	"unicode"

	"github.com/dunlin/dunlin/internal/fault"
)

// Go's assembler has a preprocessor whose #include takes any file of the machine, and a complaint about that file's text
// shows it. So every include of a package that is not the toolchain's own has to be a header of the same module, which
// is looked through as well, or one of the toolchain's. And a directive stands where it is read: no "#" may come out of a
// macro, and no file may end within a line, whose rest the including file would write.
var plainHeader = regexp.MustCompile(`^(?:[A-Za-z0-9_.+-]+/)*[A-Za-z0-9_+-][A-Za-z0-9_.+-]*\.h$`)

// toolchainHeader is a header of the toolchain's own folder, or the one it makes of a package's constants. No other name
// will do: it also copies x_linux.h of the push, which nobody looked through, to x_GOOS.h.
var toolchainHeader = regexp.MustCompile(`^(?:textflag|funcdata|go_asm|asm_(?:amd64|ppc64x|riscv64))\.h$`)

const addDockerfile = "to build it all the same, add a Dockerfile"

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
	all, stray := includes(text)
	if stray > 0 {
		return at(shown, stray, "assembly may only use # for define, undef, ifdef, ifndef, else, endif and include at the start of a line, never in a macro, and ends with a whole line").
			WithHint(addDockerfile)
	}
	for _, i := range all {
		refused := at(shown, i.line, "assembly may only include headers of its own module").
			WithHint(addDockerfile)
		if !plainHeader.MatchString(i.name) {
			return refused
		}
		switch _, _, inside, err := a.find(i.name); {
		case err == nil && inside:
			if err := a.check(i.name); err != nil {
				return err
			}
		case err != nil && toolchainHeader.MatchString(i.name):
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

// directives are what may follow a "#". #line is not among them: nobody needs it.
var directives = map[string]bool{
	"define": true, "undef": true, "ifdef": true, "ifndef": true, "else": true, "endif": true, "include": true,
}

// includes are the files an assembly file includes. stray is the first line whose "#" is not at the start of a line or
// names no directive, or the last line if it does not end; 0 if there is none. Tokens are read the way the assembler
// reads them.
func includes(text []byte) (all []include, stray int) {
	var s scanner.Scanner
	s.Init(bytes.NewReader(text))
	s.Error = func(*scanner.Scanner, string) {} // the assembler will say it
	s.Whitespace = 1<<'\t' | 1<<'\r' | 1<<' '
	s.Mode = scanner.ScanChars | scanner.ScanFloats | scanner.ScanIdents | scanner.ScanInts | scanner.ScanStrings |
		scanner.ScanComments | scanner.SkipComments
	s.IsIdentRune = func(r rune, i int) bool {
		return unicode.IsLetter(r) || r == '_' || r == '·' || r == '∕' || i > 0 && unicode.IsDigit(r)
	}
	// The two tokens before this one. A line that follows a backslash may be the rest of a macro.
	before, last := rune('\n'), rune('\n')
	tok := s.Scan()
	for ; tok != scanner.EOF; before, last, tok = last, tok, s.Scan() {
		if tok != '#' {
			continue
		}
		line := s.Position.Line
		starts := last == '\n' && before != '\\'
		if before, last, tok = last, tok, s.Scan(); !starts || tok != scanner.Ident || !directives[s.TokenText()] {
			return nil, line
		}
		if s.TokenText() != "include" {
			continue
		}
		i := include{line: s.Position.Line}
		if before, last, tok = last, tok, s.Scan(); tok == scanner.String {
			i.name, _ = strconv.Unquote(s.TokenText()) // "" is refused like any other name
		}
		all = append(all, i)
	}
	if last != '\n' || before == '\\' {
		return nil, s.Pos().Line
	}
	return all, 0
}
