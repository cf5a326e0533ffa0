package build

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	bk "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/dunlin/dunlin/internal/fault"
)

// maxStepLines is how much of one step's output a pusher is shown as it comes; of a step that fails, the last
// tailLines are shown too if there were more.
const (
	maxStepLines = 2000
	tailLines    = 50
)

// progress tells what BuildKit does in lines for a person. One goroutine uses it.
type progress struct {
	out   *lines
	steps map[string]*step
	shown int   // steps that have a number
	last  *step // that failed
}

type step struct {
	number int
	name   string
	begun  bool
	ended  bool
	shown  int
	rest   string   // of an output line that has not ended
	tail   []string // last output lines
}

func newProgress(out *lines) *progress { return &progress{out: out, steps: map[string]*step{}} }

func (p *progress) step(digest string) *step {
	s := p.steps[digest]
	if s == nil {
		s = &step{}
		p.steps[digest] = s
	}
	return s
}

// say writes a line about a step; a step gets its number with its first line, because most of BuildKit's are not shown.
func (p *progress) say(s *step, format string, args ...any) {
	if s.number == 0 {
		p.shown++
		s.number = p.shown
	}
	p.out.printf("#%d "+format, append([]any{s.number}, args...)...)
}

func (p *progress) update(u *bk.SolveStatus) {
	for _, v := range u.Vertexes {
		s := p.step(v.Digest.String())
		s.name = stepName(v.Name)
		if v.Completed == nil || s.ended {
			continue
		}
		p.endLine(s)
		switch {
		case v.Error != "" && !strings.Contains(v.Error, "context canceled"):
			s.ended = true
			p.last = s
			if s.shown > maxStepLines {
				p.say(s, "the last lines of its output:")
				for _, line := range s.tail {
					p.say(s, "| %s", line)
				}
			}
			p.say(s, "%s … failed%s", s.name, took(v, " after "))
		case v.Error != "":
			s.ended = true
		case strings.HasPrefix(s.name, "[internal]") || strings.HasPrefix(s.name, "[auth]"):
		case v.Cached:
			s.ended = true
			p.say(s, "%s … cached", s.name)
		case v.Started != nil:
			s.ended = true
			p.say(s, "%s … done%s", s.name, took(v, " in "))
		}
	}
	for _, l := range u.Logs {
		s := p.step(l.Vertex.String())
		parts := strings.Split(s.rest+string(l.Data), "\n")
		s.rest = parts[len(parts)-1]
		if len(s.rest) > maxLine {
			parts, s.rest = append(parts, ""), ""
		}
		for _, line := range parts[:len(parts)-1] {
			p.line(s, line)
		}
	}
}

func took(v *bk.Vertex, word string) string {
	if v.Started == nil {
		return ""
	}
	return word + brief(max(v.Completed.Sub(*v.Started), 0).Round(100*time.Millisecond))
}

// line shows a line of a step's output.
func (p *progress) line(s *step, line string) {
	if s.tail = append(s.tail, line); len(s.tail) > tailLines {
		s.tail = s.tail[1:]
	}
	s.shown++
	switch {
	case s.shown <= maxStepLines:
		if !s.begun {
			s.begun = true
			p.say(s, "%s", s.name)
		}
		p.say(s, "| %s", line)
	case s.shown == maxStepLines+1:
		p.say(s, "| … more than %d lines; the rest is left out", maxStepLines)
	}
}

func (p *progress) endLine(s *step) {
	if s.rest != "" {
		p.line(s, s.rest)
		s.rest = ""
	}
}

var (
	stepPlace = regexp.MustCompile(`^\[[^\]]*\d+/\d+\] `)
	mountFlag = regexp.MustCompile(`--mount=\S+\s+`)
)

// stepName is a step as one line: RUN make.
func stepName(name string) string {
	name = mountFlag.ReplaceAllString(stepPlace.ReplaceAllString(name, ""), "")
	name, more, _ := strings.Cut(name, "\n")
	name = strings.Join(strings.Fields(name), " ")
	if more != "" {
		name += " …"
	}
	return shorten(name, 100)
}

var (
	wrapping = regexp.MustCompile(`^(?:failed to solve|rpc error: code = \w+ desc =|with frontend [\w.]+|failed to (?:build|create) LLB definition|` +
		`failed to (?:build|create) LLB|failed to solve with frontend [\w.]+|failed to compute cache key|failed to read dockerfile|failed to load cache key|` +
		`process ".*?" did not complete successfully|executor failed running \[.*?\])[: ]*`)
	exitCode = regexp.MustCompile(`exit code: (\d+)`)
	network  = regexp.MustCompile(`dial tcp|no such host|connection refused|i/o timeout|TLS handshake|network is unreachable`)
)

// readable takes the layers of BuildKit off an error.
func readable(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for {
		cut := wrapping.ReplaceAllString(text, "")
		if cut == text || cut == "" {
			return shorten(text, 500)
		}
		text = cut
	}
}

// explain says what of a service's Dockerfile failed: its file, its line, the instruction and the reason.
func (p *progress) explain(err error, s Service, project *Project, host string) error {
	if code := grpcerrors.Code(err); code == codes.Unavailable && p.last == nil {
		return away(host, err)
	}
	text := readable(err.Error())
	if m := parseError.FindString(text); m != "" {
		f := dockerfileFault(s.dockerfile.path, text)
		return f
	}
	reason, instruction, line := text, "", 0
	if m := exitCode.FindStringSubmatch(err.Error()); m != nil {
		reason = "exit code " + m[1]
	}
	for _, src := range errdefs.Sources(err) {
		for _, r := range src.Ranges {
			if line == 0 {
				line = int(r.Start.Line)
			}
		}
	}
	if all := strings.Split(s.dockerfile.text, "\n"); line > 0 && line <= len(all) {
		instruction = strings.Join(strings.Fields(all[line-1]), " ")
	} else if strings.HasPrefix(p.lastName(), "resolve image config for ") && strings.HasPrefix(strings.TrimSpace(s.dockerfile.text), "#") {
		// The only image that is asked for before the file is read.
		instruction, line = "# syntax", 1
	} else if image, ok := strings.CutPrefix(p.lastName(), "[internal] load metadata for "); ok {
		instruction, line = lineOfBase(s.dockerfile.text, image)
	} else if p.last != nil && !strings.HasPrefix(p.last.name, "[") {
		instruction = p.last.name
		line = lineOfInstruction(s.dockerfile.text, instruction)
	}
	message := fmt.Sprintf("%s: %s", s.dockerfile.path, reason)
	if line > 0 {
		message = fmt.Sprintf("%s:%d: %s: %s", s.dockerfile.path, line, shorten(instruction, 120), reason)
	} else if instruction != "" {
		message = fmt.Sprintf("%s: %s: %s", s.dockerfile.path, shorten(instruction, 120), reason)
	}
	f := fault.Wrap(fault.Invalid, err, p.out.clean(message))
	var output string
	if p.last != nil {
		output = strings.Join(p.last.tail, "\n")
	}
	switch {
	case instruction == "# syntax":
		f.Kind = fault.Unavailable
		f.Hint = "this line makes the engine fetch another reader for Dockerfiles; without it the engine uses its own"
	case strings.Contains(text+output, "exec format error"):
		f.Hint = "the server cannot run programs for " + project.arch.Platform + " yet: install qemu-user-static and binfmt-support on it, or use only COPY in the last stage and build in a stage FROM --platform=$BUILDPLATFORM"
	case network.MatchString(text) && p.last == nil || network.MatchString(text) && !strings.HasPrefix(instruction, "RUN"):
		f.Kind = fault.Unavailable
		f.Hint = "the server's engine cannot reach the registry of the base image"
	case strings.Contains(text, "pull access denied") || strings.Contains(text, "authorization failed") || strings.Contains(text, "insufficient_scope"):
		f.Hint = "check the name of the image; for a private registry, put the account into .balena/registry-secrets.json"
	}
	return f
}

func (p *progress) lastName() string {
	if p.last == nil {
		return ""
	}
	return p.last.name
}

// lineOfBase finds the first FROM of an image, which BuildKit names in full.
func lineOfBase(text, image string) (instruction string, line int) {
	for i, l := range strings.Split(text, "\n") {
		words := strings.Fields(l)
		if len(words) < 2 || !strings.EqualFold(words[0], "FROM") {
			continue
		}
		for _, w := range words[1:] {
			if !strings.HasPrefix(w, "--") && (strings.HasSuffix("/"+image, "/"+w) || strings.HasSuffix("/"+image, "/"+w+":latest")) {
				return strings.Join(words, " "), i + 1
			}
		}
	}
	return "FROM " + image, 0
}

var variable = regexp.MustCompile(`\\\$(?:\\\{[^}]*\\\}|\w+)`)

// lineOfInstruction finds the one line of a Dockerfile that begins an instruction, or 0. Older engines name an
// instruction, its variables filled in, and not its line.
func lineOfInstruction(text, instruction string) int {
	instruction = strings.TrimSuffix(strings.TrimSuffix(instruction, "…"), " ")
	found := 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.Join(strings.Fields(mountFlag.ReplaceAllString(line, "")), " ")
		more := strings.HasSuffix(line, "\\") || strings.Contains(line, "<<")
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\\"), " ")
		if line == "" {
			continue
		}
		pattern := "^" + variable.ReplaceAllString(regexp.QuoteMeta(line), ".*")
		if !more {
			pattern += "$"
		}
		same, err := regexp.MatchString(pattern, instruction)
		// A long instruction was cut.
		if err != nil || !same && !(len(instruction) > 80 && strings.HasPrefix(line, instruction)) {
			continue
		}
		if found > 0 {
			return 0
		}
		found = i + 1
	}
	return found
}
