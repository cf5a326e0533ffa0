package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	callTimeout = 30 * time.Second
	// maxAnswer bounds what the agent reads of an answer, in bytes.
	maxAnswer = 8 << 20
)

// server is the one server a device talks to.
type server struct {
	base  string // URL without a slash at its end
	http  *http.Client
	agent string // User-Agent
}

func newServer(base string, client *http.Client, agent string) *server {
	return &server{base: strings.TrimRight(base, "/"), http: client, agent: agent}
}

// newHTTP makes the client all talk with the server goes through. rootCA is PEM in base64, or "".
func newHTTP(rootCA string) (*http.Client, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		// A log stream is sent once the server has said that it will have it.
		ExpectContinueTimeout: 5 * time.Second,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     true,
		// A connection that died without a word would hold a poll or a log stream for as long as TCP keeps trying.
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if rootCA != "" {
		pem, err := base64.StdEncoding.DecodeString(rootCA)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "balenaRootCA in config.json is not base64")
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // a device without certificates still has the server's
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.Invalid, "balenaRootCA in config.json holds no certificate")
		}
		t.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{Transport: t}, nil
}

// answer is what the server said; errors are about not having got one.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request is one call. The zero Timeout is callTimeout.
type request struct {
	method, path, key string
	header            map[string]string
	body              any // encoded as JSON unless nil
	timeout           time.Duration
}

func (s *server) call(ctx context.Context, r request) (answer, error) {
	if r.timeout == 0 {
		r.timeout = callTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := s.request(ctx, r.method, r.path, r.key, body)
	if err != nil {
		return answer{}, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	if len(b) > maxAnswer {
		return answer{}, fmt.Errorf("the answer is over %d bytes", maxAnswer)
	}
	return answer{resp.StatusCode, resp.Header, b}, nil
}

func (s *server) request(ctx context.Context, method, path, key string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("User-Agent", s.agent)
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// refusal is an answer that is not the wanted one.
type refusal struct{ answer }

func (r *refusal) Error() string {
	text := strings.Join(strings.Fields(string(r.body[:min(len(r.body), 300)])), " ")
	return strings.TrimRight(fmt.Sprintf("the server answered %d %s", r.status, text), " ")
}

// refused is nil if the answer has one of the wanted statuses.
func (a answer) refused(wanted ...int) error {
	for _, w := range wanted {
		if a.status == w {
			return nil
		}
	}
	return &refusal{a}
}

// definite reports whether asking again would not change the answer.
func (r *refusal) definite() bool {
	return r.status >= 400 && r.status < 500 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests
}

// retryAfter is how long the server asks to be left alone, or 0. An hour at most: nobody may switch a device off by a
// typo.
func (a answer) retryAfter() time.Duration {
	v := a.header.Get("Retry-After")
	var d time.Duration
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		d = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), time.Hour)
}
