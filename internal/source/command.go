package source

import (
	"regexp"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// maxCommand bounds the command line of an SSH session, in bytes.
const maxCommand = 4 << 10

var (
	slugPart = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,99}$`)
	// protocolVersion is what GIT_PROTOCOL may say: a list of keys and values (gitprotocol-v2(5)).
	protocolVersion = regexp.MustCompile(`^[a-z0-9=:.-]{1,64}$`)
)

// parseCommand reads the command line that git sends over SSH: a service and a repository, the latter quoted as for
// a shell. Nothing of it ever reaches a shell or names a file.
func parseCommand(line string) (service, slug string, err error) {
	only := fault.New(fault.Invalid, "only git push, git fetch and git clone work here").
		WithHint("git remote add dunlin ssh://HOST:PORT/ORG/FLEET.git")
	if len(line) > maxCommand {
		return "", "", only
	}
	line = strings.TrimSpace(line)
	if rest, ok := strings.CutPrefix(line, "git "); ok {
		line = "git-" + strings.TrimLeft(rest, " ")
	}
	service, arg, _ := strings.Cut(line, " ")
	switch service {
	case receivePack, uploadPack:
	case "git-upload-archive":
		return "", "", fault.New(fault.Invalid, "git archive does not work here").WithHint("clone the repository instead")
	default:
		return "", "", only
	}
	path, ok := unquote(strings.TrimSpace(arg))
	if !ok {
		return "", "", badAddress(arg)
	}
	if slug, ok = parseSlug(path); !ok {
		return "", "", badAddress(path)
	}
	return service, slug, nil
}

func badAddress(path string) error {
	return fault.Newf(fault.Invalid, "%q does not name a fleet", clean(path, 200)).
		WithHint("a repository's address ends in ORG/FLEET.git")
}

// parseSlug reads a repository's path: ORG/FLEET, with or without a slash before it and .git after it. With the
// path of smart HTTP, git/ORG/FLEET, it means the same.
func parseSlug(path string) (slug string, ok bool) {
	path = strings.Trim(strings.ToLower(path), "/")
	parts := strings.Split(path, "/")
	if len(parts) == 3 && parts[0] == "git" {
		parts = parts[1:]
	}
	if len(parts) != 2 {
		return "", false
	}
	parts[1] = strings.TrimSuffix(parts[1], ".git")
	if !slugPart.MatchString(parts[0]) || !slugPart.MatchString(parts[1]) {
		return "", false
	}
	return parts[0] + "/" + parts[1], true
}

// unquote reads one word of a POSIX shell without expansions, as git writes it: 'it'\”s'.
func unquote(word string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		switch c := word[i]; c {
		case '\'', '"':
			end := strings.IndexByte(word[i+1:], c)
			if end < 0 || c == '"' && strings.ContainsAny(word[i+1:i+1+end], "\\$`") {
				return "", false
			}
			b.WriteString(word[i+1 : i+1+end])
			i += end + 1
		case '\\':
			if i++; i == len(word) {
				return "", false
			}
			b.WriteByte(word[i])
		case ' ', '\t', '\n', ';', '&', '|', '<', '>', '(', ')', '$', '`', '*', '?', '[', '#', '~', 0:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), b.Len() > 0
}
