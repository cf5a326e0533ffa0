package api

import "github.com/dunlin/dunlin/internal/fault"

// maxDepth bounds how deep a body's objects and arrays are nested. What is read into maps takes memory and stack for
// each level; the deepest real body, a composition, has about ten.
const maxDepth = 64

// shallow refuses JSON that is nested too deep. It reads no more than brackets and strings: what is no JSON is for the
// decoder to refuse.
func shallow(body []byte) error {
	depth, text := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fault.Newf(fault.Invalid, "the body is nested more than %d levels deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
