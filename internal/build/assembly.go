package build

import (
	"bytes"
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
// shows it. So every include of a package that is not the toolchain's own has to be a plain header name: of a file in
// the same folder, which is looked through as well, or one of the toolchain's.
var plainHeader = regexp.MustCompile(`^[A-Za-z0-9_+-][A-Za-z0-9_.+-]*\.h$`)

// maxAssembly bounds one assembly file, in bytes.
const maxAssembly = 32 << 20

// checkAssembly looks through the assembly files of one package and all headers beside them. shown is the package in
// messages.
func checkAssembly(dir, shown string, files []string) error {
	headers, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.h"))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the folder of "+shown+" cannot be read")
	}
	for _, h := range headers {
		files = append(files[:len(files):len(files)], filepath.Base(h))
	}
	for _, f := range files {
		name := strings.TrimPrefix(shown+"/"+f, "./")
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxAssembly {
			return fault.Newf(fault.Invalid, "%s is not an assembly file the server takes", name)
		}
		text, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return fault.Wrap(fault.Invalid, err, name+" cannot be read")
		}
		if line := badInclude(text); line > 0 {
			return at(name, line, "assembly may only include headers of its own folder").
				WithHint("to build it all the same, add a Dockerfile")
		}
	}
	return nil
}

// badInclude is the first line with an include that is not plain, or 0. It reads tokens the way the assembler does.
func badInclude(text []byte) int {
	var s scanner.Scanner
	s.Init(bytes.NewReader(text))
	s.Error = func(*scanner.Scanner, string) {} // the assembler will say it
	s.Whitespace = 1<<'\t' | 1<<'\r' | 1<<' '
	s.Mode = scanner.ScanChars | scanner.ScanFloats | scanner.ScanIdents | scanner.ScanInts | scanner.ScanStrings |
		scanner.ScanComments | scanner.SkipComments
	s.IsIdentRune = func(r rune, i int) bool {
		return unicode.IsLetter(r) || r == '_' || r == '·' || r == '∕' || i > 0 && unicode.IsDigit(r)
	}
	var before rune
	for tok := s.Scan(); tok != scanner.EOF; before, tok = tok, s.Scan() {
		if tok != scanner.Ident || before != '#' || s.TokenText() != "include" {
			continue
		}
		line := s.Position.Line
		if s.Scan() != scanner.String {
			return line
		}
		if name, err := strconv.Unquote(s.TokenText()); err != nil || !plainHeader.MatchString(name) {
			return line
		}
	}
	return 0
}
