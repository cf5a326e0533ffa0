package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/client"
)

// logServer keeps the lines of one device and answers for them as the protocol says (§3.2). Its streams break when
// the test says so.
type logServer struct {
	deaf bool // its streams ignore start, as a server's may

	mu      sync.Mutex
	lines   []string // JSON
	stamps  []int64
	grown   chan struct{}
	breaks  chan struct{}
	streams int
}

func newLogServer() *logServer {
	return &logServer{grown: make(chan struct{}), breaks: make(chan struct{})}
}

func (s *logServer) add(stamp int64, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(`{"message":%q,"timestamp":%d,"createdAt":%d,"isSystem":false,"isStdErr":false}`, message, stamp, stamp))
	s.stamps = append(s.stamps, stamp)
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *logServer) breakStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.breaks)
	s.breaks = make(chan struct{})
}

// from is the lines that a query asks for, and how many lines there are.
func (s *logServer) from(q url.Values) (lines []string, total int, grown, breaks chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start, _ := strconv.ParseInt(q.Get("start"), 10, 64)
	for i, l := range s.lines {
		if s.stamps[i] >= start || s.deaf && q.Get("stream") != "" {
			lines = append(lines, l)
		}
	}
	if n, err := strconv.Atoi(q.Get("count")); err == nil {
		lines = lines[max(0, len(lines)-n):]
	}
	return lines, len(s.lines), s.grown, s.breaks
}

func (s *logServer) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	lines, sent, grown, breaks := s.from(q)
	if q.Get("stream") == "" {
		return response(200, nil, text("["+strings.Join(lines, ",")+"]")), nil
	}
	s.mu.Lock()
	s.streams++
	s.mu.Unlock()
	pr, pw := io.Pipe()
	go func() {
		for {
			for _, l := range lines {
				if _, err := io.WriteString(pw, l+"\n\n"); err != nil {
					return
				}
			}
			select {
			case <-grown:
			case <-breaks:
				pw.CloseWithError(io.ErrUnexpectedEOF)
				return
			case <-r.Context().Done():
				pw.CloseWithError(r.Context().Err())
				return
			}
			s.mu.Lock()
			lines, sent, grown = s.lines[sent:], len(s.lines), s.grown
			s.mu.Unlock()
		}
	}()
	return response(200, nil, pr), nil
}

func (s *logServer) client() *client.Client {
	return &client.Client{URL: "http://server", HTTP: &http.Client{Transport: s}}
}

func TestAHistoryIsTheNewestLinesInOrder(t *testing.T) {
	s := newLogServer()
	for i := range 5 {
		s.add(int64(1000+i), fmt.Sprint("line ", i))
	}
	var got []string
	err := s.client().Logs(t.Context(), "abc", client.LogOptions{Count: 2}, func(l client.Line) error {
		got = append(got, l.Message)
		return nil
	})
	if diff := cmp.Diff([]string{"line 3", "line 4"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestAFollowerSeesEachLineOnceThroughLostConnections(t *testing.T) {
	for name, deaf := range map[string]bool{"a server that knows start": false, "a server that does not": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLogServer()
				s.deaf = deaf
				// One batch has one stamp, and the history begins in its middle.
				for i := range 4 {
					s.add(1000, fmt.Sprint("old ", i))
				}
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				var got []string
				lost := 0
				done := make(chan error)
				go func() {
					done <- s.client().Logs(ctx, "abc", client.LogOptions{Count: 2, Follow: true, Lost: func(error) { lost++ }}, func(l client.Line) error {
						mu.Lock()
						defer mu.Unlock()
						got = append(got, l.Message)
						return nil
					})
				}()
				synctest.Wait()
				s.add(1000, "same stamp")
				s.add(1001, "live")
				s.add(1001, "live") // said twice, and shown twice
				synctest.Wait()
				s.breakStreams()
				s.add(1001, "live") // while nobody listens
				s.add(1002, "missed")
				synctest.Wait()
				time.Sleep(time.Minute)
				synctest.Wait()
				s.add(900, "after the server's clock was set back")
				synctest.Wait()
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("ended with %v", err)
				}
				want := []string{"old 2", "old 3", "same stamp", "live", "live", "live", "missed", "after the server's clock was set back"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if s.streams != 2 || lost != 1 {
					t.Errorf("%d streams, told of %d losses", s.streams, lost)
				}
			})
		})
	}
}

func TestFollowingFromNowShowsNothingOld(t *testing.T) {
	for name, o := range map[string]client.LogOptions{
		"no history":          {Follow: true},
		"nothing is so young": {Follow: true, Count: client.AllLines, Since: time.UnixMilli(2000)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLogServer()
				s.deaf = true
				s.add(1000, "old")
				s.add(1000, "old too")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				got := make(chan string, 10)
				go func() {
					_ = s.client().Logs(ctx, "abc", o, func(l client.Line) error { got <- l.Message; return nil })
				}()
				synctest.Wait()
				s.add(3000, "new")
				synctest.Wait()
				if m := <-got; m != "new" || len(got) != 0 {
					t.Errorf("showed %q and %d more", m, len(got))
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestAStreamThatFallsSilentIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLogServer()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var said error
		go func() {
			done <- s.client().Logs(ctx, "abc", client.LogOptions{Follow: true, Lost: func(err error) { said = err }}, func(client.Line) error { return nil })
		}()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if s.streams != 2 || said == nil || !strings.Contains(said.Error(), "fell silent") {
			t.Errorf("%d streams, said %v", s.streams, said)
		}
		cancel()
		<-done
	})
}

func TestAServerThatSaysNoIsNotAskedAgain(t *testing.T) {
	asked := 0
	c := &client.Client{URL: "http://server", HTTP: &http.Client{Transport: trips(func(r *http.Request) (*http.Response, error) {
		if asked++; r.URL.Query().Get("stream") == "" {
			return response(200, nil, text("[]")), nil
		}
		return response(404, nil, text("no such device")), nil
	})}}
	err := c.Logs(t.Context(), "abc", client.LogOptions{Follow: true}, func(client.Line) error { return nil })
	if client.StatusOf(err) != 404 || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestTheReadersErrorEndsTheStream(t *testing.T) {
	enough := errors.New("enough")
	t.Run("in the history", func(t *testing.T) {
		s := newLogServer()
		s.add(1000, "line")
		err := s.client().Logs(t.Context(), "abc", client.LogOptions{Count: client.AllLines}, func(client.Line) error { return enough })
		if !errors.Is(err, enough) {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("live", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newLogServer()
			done := make(chan error, 1)
			go func() {
				done <- s.client().Logs(t.Context(), "abc", client.LogOptions{Follow: true}, func(client.Line) error { return enough })
			}()
			synctest.Wait()
			s.add(1000, "line")
			synctest.Wait()
			select {
			case err := <-done:
				if !errors.Is(err, enough) {
					t.Errorf("ended with %v", err)
				}
			default:
				t.Fatal("goes on")
			}
		})
	})
}
