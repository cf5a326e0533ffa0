package source

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// httpPrefix is where the repositories are below the server's root.
const httpPrefix = "/git/"

// ServeHTTP answers git's smart HTTP protocol below /git/ORG/FLEET.git/ (gitprotocol-http(5)).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	slug, service, advertise, err := parseRequest(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	actor, err := s.Credential(r)
	if err == nil && actor.Kind == fleet.Nobody {
		err = fault.New(fault.Unauthenticated, "who you are is not known").WithHint("use an API key as the password; the user name does not matter")
	}
	var found Repository
	if err == nil {
		found, err = s.open(r.Context(), actor, slug, service)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	body := io.Reader(r.Body)
	if enc := r.Header.Get("Content-Encoding"); enc == "gzip" || enc == "x-gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			s.refuse(w, r, fault.Wrap(fault.Invalid, err, "the body is not gzip as it says"))
			return
		}
		body = z
	}
	s.exchange(w, r, actor, found, service, advertise, body)
}

// exchange runs the service for one request.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, actor fleet.Actor, found Repository, service string, advertise bool, body io.Reader) {
	control := http.NewResponseController(w)
	// A push lasts as long as its build; idleness is what ends it. Errors mean that w has no deadlines to lift.
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	_ = control.EnableFullDuplex() // git may refuse a push before it has read all of it
	past := time.Unix(1, 0)
	out := &flushed{w: w, control: control}
	c := stream{
		in: body, out: out, errOut: io.Discard, args: []string{"--stateless-rpc"},
		finish:      out.finish,
		stopReading: func() { _ = control.SetReadDeadline(past) },
		abort: func() {
			_ = control.SetReadDeadline(past)
			_ = control.SetWriteDeadline(past)
		},
	}
	if v := r.Header.Get("Git-Protocol"); service == uploadPack && protocolVersion.MatchString(v) {
		c.protocol = v
	}
	kind := "-result"
	if advertise {
		kind = "-advertisement"
		c.args = append(c.args, "--advertise-refs")
		c.in = http.NoBody
		// Version 2 begins without this line.
		if !strings.Contains(":"+c.protocol+":", ":version=2:") {
			line := "# service=" + service + "\n"
			out.lead = fmt.Sprintf("%04x%s0000", len(line)+4, line)
		}
	}
	out.contentType = "application/x-" + service + kind
	if err := s.serve(r.Context(), actor, found, service, c); err != nil {
		s.refuse(w, r, err)
	}
}

// parseRequest reads which repository and service a request is for, and whether it asks for the refs or for work.
func parseRequest(r *http.Request) (slug, service string, advertise bool, err error) {
	nothing := fault.New(fault.NotFound, "there is nothing here").WithHint("a repository's address ends in /git/ORG/FLEET.git")
	rest, ok := strings.CutPrefix(r.URL.Path, httpPrefix)
	if !ok {
		return "", "", false, nothing
	}
	var path string
	if path, ok = strings.CutSuffix(rest, "/info/refs"); ok {
		service, advertise = r.URL.Query().Get("service"), true
		if r.Method != http.MethodGet {
			return "", "", false, nothing
		}
		if service != receivePack && service != uploadPack {
			return "", "", false, fault.New(fault.Invalid, "only git's smart protocol is spoken here").WithHint("use git 1.6.6 or later")
		}
	} else {
		cut := strings.LastIndexByte(rest, '/')
		if cut < 0 {
			return "", "", false, nothing
		}
		path, service = rest[:cut], rest[cut+1:]
		if r.Method != http.MethodPost || service != receivePack && service != uploadPack {
			return "", "", false, nothing
		}
		// A page in a browser cannot send this type to another site without asking first.
		if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/x-"+service+"-request" {
			return "", "", false, fault.New(fault.Invalid, "the content type is not git's")
		}
	}
	if slug, ok = parseSlug(path); !ok {
		return "", "", false, nothing
	}
	return slug, service, advertise, nil
}

// flushed is a response whose every write leaves at once. The header is written with the first byte, so that a git
// that could not be started still becomes an error.
type flushed struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
	lead        string // before the first byte
	begun       bool
}

func (f *flushed) Write(p []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", f.contentType)
		if _, err := io.WriteString(f.w, f.lead); err != nil {
			return 0, err
		}
	}
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}

// finish ends the response of a git that may have said nothing.
func (f *flushed) finish(code int) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", f.contentType)
		if code != 0 {
			f.w.WriteHeader(http.StatusInternalServerError)
		}
	}
	_ = f.control.Flush()
}

// refuse answers with the sentence for err; git shows plain text to its user.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, ref := http.StatusInternalServerError, reference()
	switch fault.KindOf(err) {
	case fault.Invalid:
		status = http.StatusBadRequest
	case fault.Unauthenticated:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="dunlin", charset="UTF-8"`)
	case fault.Denied:
		status = http.StatusForbidden
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Conflict:
		status = http.StatusConflict
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.Limited, fault.Unavailable:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "30")
	case fault.Internal:
		if context.Cause(r.Context()) == nil {
			s.log().Error("serve git over http", "path", r.URL.Path, "reference", ref, "err", err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	complain(w, err, "reference "+ref)
}
