package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dunlin/dunlin/client"
)

// table is rows for people: aligned columns, two spaces apart, no borders.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) error {
	widths := make([]int, len(t.header))
	all := append([][]string{t.header}, t.rows...)
	for r, row := range all {
		clean := make([]string, len(row))
		for i, cell := range row {
			clean[i] = cellText(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(clean[i]))
		}
		all[r] = clean
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sheet is one thing for people: a name and a value on each line. Lines without a value are left out.
type sheet struct{ table }

func (t *sheet) line(name, value string) {
	if value != "" {
		t.add(name+":", value)
	}
}

func (t *sheet) print(w io.Writer) error {
	width := 0
	for _, row := range t.rows {
		width = max(width, utf8.RuneCountInString(row[0]))
	}
	for _, row := range t.rows {
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, row[0], cellText(row[1])); err != nil {
			return err
		}
	}
	return nil
}

// cellText keeps a cell on its line, whatever a device or a person has put into it.
func cellText(s string) string {
	if s == "" {
		return "-"
	}
	return plain(strings.NewReplacer("\r\n", `\n`, "\n", `\n`, "\t", `\t`).Replace(s), false)
}

// plain takes out of s what would make a terminal do more than show it: control characters and escape sequences.
// Line breaks and tabs stay, and with colours also the sequences that set them.
func plain(s string, colours bool) string {
	if !strings.ContainsFunc(s, hostile) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			n, colour := escape(s[i:])
			if colour && colours {
				b.WriteString(s[i : i+n])
			}
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !hostile(r) {
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// hostile characters move the cursor, start sequences, or turn the direction of writing round.
func hostile(r rune) bool {
	return r != '\n' && r != '\t' && unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// escape is the length of the escape sequence at the start of s (ECMA-48 §5.4: CSI, parameters, final byte), and
// whether it sets colours and nothing else. What is no such sequence counts as the one escape character.
func escape(s string) (n int, colour bool) {
	if len(s) < 2 || s[1] != '[' {
		return 1, false
	}
	for n = 2; n < len(s); n++ {
		switch c := s[n]; {
		case c >= 0x40 && c <= 0x7e:
			return n + 1, c == 'm'
		case c < 0x20 || c > 0x3f:
			return n, false
		}
	}
	return n, false
}

// abbreviated is the part of a commit or uuid that people are shown.
func abbreviated(hex string) string { return hex[:min(7, len(hex))] }

// releaseLabel names a release for people: its version and the beginning of its commit.
func releaseLabel(r client.Release) string {
	switch {
	case r.Commit == "":
		return ""
	case r.Version == "":
		return abbreviated(r.Commit)
	}
	return version(r) + " (" + abbreviated(r.Commit) + ")"
}

// version is the version of a release; without the time of day that the raw version of a draft ends in.
func version(r client.Release) string {
	if !r.Final && r.Semver != "" {
		return r.Semver
	}
	return r.Version
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
