// Package client is the Go client of a Dunlin server: its v7 resources, log-in, keys, pushes, files, events and logs, over
// HTTP. It owns requests and the shapes of their answers; it imports nothing of the server, keeps nothing between calls,
// and does not own what is shown to a person.
//
// The resources have balena's names (application, device, release …). Any of them can be read and changed with
// [Client.Get], [Client.Create], [Client.Patch] and [Client.Delete]; the methods with nouns for names ask for what
// people ask for most. There is one file for each noun, which is why it is longer than a package should be.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultTimeout = 30 * time.Second
	attempts       = 3                // of a GET that finds nobody there
	maxRetryAfter  = 20 * time.Second // a server that asks for more is not waited for
	maxErrorBody   = 64 << 10
	maxBody        = 256 << 20
)

// Client talks to one server. The zero value of every field but URL is of use. Its methods may be called
// concurrently as long as nobody changes the fields.
type Client struct {
	URL       string        // of the server: scheme and host, for example https://dunlin.example.com
	Token     string        // session token or API key; "" asks as nobody
	HTTP      *http.Client  // nil means http.DefaultClient; redirects are never followed
	UserAgent string        // "" means dunlin-client
	Timeout   time.Duration // of one request with its answer; zero means 30 s. Log streams have none.
}

// Error is an answer of the server that says no.
type Error struct {
	Status    int    // of HTTP
	Message   string // what cannot be done and why, in the server's words; never empty
	Hint      string // what to do about it, if the server says so
	RequestID string // what the server's log calls the request, if it says so
	// RetryAfter is when the server wants to be asked again, from now; 0 if it does not say.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Status >= 500 && e.RequestID != "" && !strings.Contains(e.Message, e.RequestID) {
		return e.Message + " (request " + e.RequestID + ")"
	}
	return e.Message
}

// StatusOf is the status of the [Error] in err's chain, or 0.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Get reads the rows that q asks for from the v7 model into out, a pointer to a slice. The path is a resource
// ("device"), one row of it ([Key]), or a count ("device/$count", with out a pointer to an integer). Rows that are
// not there are an empty slice, no error.
func (c *Client) Get(ctx context.Context, path string, q Query, out any) error {
	var answer struct {
		D json.RawMessage `json:"d"`
	}
	if err := c.call(ctx, http.MethodGet, "/v7/"+path, q.encode(), nil, &answer); err != nil {
		return err
	}
	if err := json.Unmarshal(answer.D, out); err != nil {
		return fmt.Errorf("read %s: %s did not answer as a Dunlin server does: %w", path, c.URL, err)
	}
	return nil
}

// Create adds a row to a resource and reads it back into out, a pointer to a struct or nil.
func (c *Client) Create(ctx context.Context, resource string, body, out any) error {
	return c.call(ctx, http.MethodPost, "/v7/"+resource, "", body, out)
}

// Patch changes the row of path, or the rows that q.Filter chooses. That it finds no row is not an error.
func (c *Client) Patch(ctx context.Context, path string, q Query, body any) error {
	return c.call(ctx, http.MethodPatch, "/v7/"+path, q.encode(), body, nil)
}

// Delete removes the row of path, or the rows that q.Filter chooses. That it finds no row is not an error.
func (c *Client) Delete(ctx context.Context, path string, q Query) error {
	return c.call(ctx, http.MethodDelete, "/v7/"+path, q.encode(), nil, nil)
}

// Rows is Get for a type: the rows are decoded into values that also remember how the server wrote them ([Row]).
func Rows[T any](ctx context.Context, c *Client, path string, q Query) ([]T, error) {
	var raw []json.RawMessage
	if err := c.Get(ctx, path, q, &raw); err != nil {
		return nil, err
	}
	out := make([]T, len(raw))
	for i, r := range raw {
		if err := decodeRow(r, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return out, nil
}

// createRow is Create for a type.
func createRow[T any](ctx context.Context, c *Client, resource string, body any) (out T, err error) {
	var raw json.RawMessage
	if err := c.Create(ctx, resource, body, &raw); err != nil {
		return out, err
	}
	if err := decodeRow(raw, &out); err != nil {
		return out, fmt.Errorf("read the new %s: %w", resource, err)
	}
	return out, nil
}

func decodeRow(raw json.RawMessage, out any) error {
	if err := json.Unmarshal(raw, out); err != nil {
		return err
	}
	if k, ok := out.(interface{ keep(json.RawMessage) }); ok {
		k.keep(raw)
	}
	return nil
}

// text is an answer that is taken as it is; all others are JSON.
type text string

// call sends one request and decodes the answer into out, a pointer or nil.
// A GET is sent again when nobody was there to hear it, or when the server says when to come back.
func (c *Client) call(ctx context.Context, method, path, query string, body, out any) error {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	for attempt := 1; ; attempt++ {
		err := c.once(ctx, method, path, query, encoded, out)
		wait, again := retry(err, attempt)
		if method != http.MethodGet || !again {
			return err
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, method, path, query string, body []byte, out any) (err error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	resp, err := c.open(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return c.unreachable(ctx, fmt.Errorf("read answer: %w", err))
	case len(content) > maxBody:
		return fmt.Errorf("the answer of %s is over %d MB", c.URL, maxBody>>20)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *text:
		*out = text(strings.TrimSpace(string(content)))
		return nil
	default:
		if err := json.Unmarshal(content, out); err != nil {
			return fmt.Errorf("%s did not answer as a Dunlin server does: %w", c.URL, err)
		}
		return nil
	}
}

// open is send for those who want an answer that says yes; one that says no is an *Error.
func (c *Client) open(ctx context.Context, method, path, query string, body []byte) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	resp, err := c.send(ctx, method, path, query, content, "application/json")
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close() // only read
		return nil, refusal(resp)
	}
	return resp, nil
}

// Do makes any call: path begins with a slash and has the query in it, percent-encoded. Whatever the server answers is
// no error; the caller closes the body. The call has no time limit but ctx's.
func (c *Client) Do(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	path, query, _ := strings.Cut(path, "?")
	return c.send(ctx, method, path, query, body, contentType)
}

// send sends a request and returns the answer with its body still to be read.
func (c *Client) send(ctx context.Context, method, path, query string, body io.Reader, contentType string) (*http.Response, error) {
	u := strings.TrimRight(c.URL, "/") + path
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil && req.ContentLength == 0 {
		// Of unknown length, and so perhaps long: what the server will not take is not sent.
		req.Header.Set("Expect", "100-continue")
	}
	agent := c.UserAgent
	if agent == "" {
		agent = "dunlin-client"
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "application/json, text/plain;q=0.9, */*;q=0.5")
	if body != nil && contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	httpClient := http.Client{}
	if c.HTTP != nil {
		httpClient = *c.HTTP
	}
	// A redirect would turn a POST into a GET, or carry the token elsewhere.
	httpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return resp, nil
}

// unreachableError says that no answer came. It is worth another try when there was no connection.
type unreachableError struct {
	server string
	err    error
}

func (e *unreachableError) Error() string { return "cannot reach " + e.server + ": " + e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) {
			return cause
		}
		err = cause
	}
	// net/http repeats method and URL, which is long and says nothing new.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &unreachableError{c.URL, err}
}

// retry decides whether a GET that ended so is sent again, and after how long.
func retry(err error, attempt int) (time.Duration, bool) {
	if err == nil || attempt >= attempts {
		return 0, false
	}
	var no *Error
	if errors.As(err, &no) {
		return no.RetryAfter, no.Status == http.StatusServiceUnavailable && no.RetryAfter > 0 && no.RetryAfter <= maxRetryAfter
	}
	var away *unreachableError
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	if !errors.As(err, &away) || errors.As(err, &cert) || errors.As(err, &dns) && dns.IsNotFound {
		return 0, false
	}
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 200 * time.Millisecond << (attempt - 1), true
	}
	return 0, false
}

// refusal reads the error that an answer carries: plain text, a JSON string, or an object with an error in it.
func refusal(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // half a message is better than none
	said := string(body)
	var s string
	var object struct{ Error, Message string }
	switch {
	case resp.StatusCode < 400:
		said = "the server redirects to " + resp.Header.Get("Location")
		e.Hint = "use that address"
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		said = "" // a proxy's page, not the server's word
	case json.Unmarshal(body, &s) == nil:
		said = s
	case json.Unmarshal(body, &object) == nil:
		said = object.Message
		if object.Error != "" {
			said = object.Error
		}
	}
	message, hint, found := strings.Cut(said, "\nhint: ")
	if found {
		e.Hint = strings.TrimSpace(hint)
	}
	if e.Message = strings.TrimSpace(message); e.Message == "" {
		e.Message = fmt.Sprintf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if after, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(after) * time.Second
	}
	return e
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
