package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// buildSilence is the time between two signs of life; proxies give up after 60 s.
const buildSilence = 25 * time.Second

// element is one element of the array in which a build is told.
type element struct {
	Message  string `json:"message,omitempty"`
	IsError  bool   `json:"isError,omitempty"`
	Type     string `json:"type,omitempty"`
	Resource string `json:"resource,omitempty"`
	Value    any    `json:"value,omitempty"`
}

// elements writes a JSON array, each element as soon as it is there. It may be written to concurrently. A client that
// went away, or reads nothing for a while, gets no more.
type elements struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	beat    *time.Timer
	every   time.Duration
	count   int
	gone    bool
	closed  bool
}

func (a *API) stream(w http.ResponseWriter) *elements {
	return &elements{w: w, control: http.NewResponseController(w), every: cmp.Or(a.Heartbeat, buildSilence)}
}

// begun reports whether anything has been said.
func (s *elements) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count > 0
}

// Write makes an element of each line.
func (s *elements) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		s.send(element{Message: string(bytes.TrimRight(line, "\r\n"))})
	}
	return len(b), nil
}

// fail says why there is no release.
func (s *elements) fail(err error) {
	s.send(element{Message: "error: " + fault.Message(err), IsError: true})
	if hint := fault.Hint(err); hint != "" {
		s.send(element{Message: "hint: " + hint})
	}
}

func (s *elements) send(e element) {
	text, err := json.Marshal(e)
	if err != nil {
		return // an element is text and a number
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.count++; s.count == 1 {
		h := s.w.Header()
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("X-Accel-Buffering", "no") // a proxy passes on what comes
		s.beat = time.AfterFunc(s.every, s.alive)
		s.put("[" + string(text))
		return
	}
	s.put(",\n" + string(text))
}

// put writes and flushes. s.mu is held.
func (s *elements) put(text string) {
	if s.gone {
		return
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(uploadSilence)) // a test's recorder has no deadline
	_, err := io.WriteString(s.w, text)
	if err = errors.Join(err, s.control.Flush()); err != nil {
		s.gone = true
		return
	}
	_ = s.control.SetWriteDeadline(time.Time{}) // HTTP/2 ends a stream at its deadline, whether it is being written or not
	s.beat.Reset(s.every)
}

// alive is white space between two elements, for proxies that take silence for an end.
func (s *elements) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.put("\n")
	}
}

// close ends the array, if it has begun.
func (s *elements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed = true; s.count > 0 {
		s.put("]\n")
		s.beat.Stop()
	}
}
