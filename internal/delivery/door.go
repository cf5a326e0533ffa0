package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/delta"
)

// Server is where deltas come from: the API at URL, and the registry of an image's reference, which is beside it.
type Server struct {
	URL            string // of the API, such as https://dunlin.test
	User, Password string // the device's
	HTTP           *http.Client
	UserAgent      string
}

const (
	// mostAnswer bounds what is read of an answer that is no delta, in bytes.
	mostAnswer = 64 << 10
	// mostDelta bounds a delta, in bytes.
	mostDelta = 16 << 30
	// mostPatience is the longest time a server may ask to be left alone.
	mostPatience = 10 * time.Minute
)

// offer is a delta that the server has.
type offer struct {
	Blob string `json:"blob"`
	Size int64  `json:"size"`
	From string `json:"from"`
	To   string `json:"to"`
}

// session is the talk with the server about one delivery.
type session struct {
	Server
	order Order
	token string // for the registry
	alive func()
}

// refusal is an answer that is not the wanted one.
type refusal struct {
	doing  string
	status int
	after  time.Duration // to wait
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: the server answered %d", r.doing, r.status) }

// passing reports whether another try may go better.
func passing(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return true
	}
	return r.status >= 500 || r.status == http.StatusRequestTimeout || r.status == http.StatusTooManyRequests
}

func patience(err error) time.Duration {
	var r *refusal
	if errors.As(err, &r) {
		return r.after
	}
	return 0
}

// ask asks for the delta, and again while it is being made, for as long as the policy's retries would take: a server keeps
// each of them waiting, and a device that could have the whole image is not to wait for ever.
func (s *session) ask(ctx context.Context) (offer, error) {
	tries := s.order.Policy.tries()
	renewed, began := false, time.Now()
	for {
		s.alive()
		o, err := s.askOnce(ctx)
		var r *refusal
		switch {
		case err == nil:
			return o, nil
		case ctx.Err() != nil:
			return o, ctx.Err()
		case errors.Is(err, errNone):
			return o, err
		case errors.As(err, &r) && r.status == http.StatusUnauthorized && !renewed:
			s.token, renewed = "", true
			continue
		case !passing(err), time.Since(began) >= s.order.Policy.patience():
			return o, err
		}
		if err := tries.again(ctx, patience(err), err); err != nil {
			return o, err
		}
	}
}

func (s *session) askOnce(ctx context.Context) (offer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.order.Policy.requestTimeout())
	defer cancel()
	if err := s.authorize(ctx); err != nil {
		return offer{}, err
	}
	query := url.Values{"src": {s.order.Base}, "dest": {s.order.Image}}
	body, err := s.get(ctx, "ask for a delta", strings.TrimRight(s.URL, "/")+"/api/v3/delta?"+query.Encode(), delta.MediaType+"+json", "Bearer "+s.token)
	var r *refusal
	if errors.As(err, &r) && r.status >= 300 && r.status < 500 && r.status != http.StatusUnauthorized && !passing(err) {
		return offer{}, fmt.Errorf("%w: %w", errNone, err)
	}
	if err != nil {
		return offer{}, err
	}
	var o offer
	if err := json.Unmarshal(body, &o); err != nil {
		return offer{}, fmt.Errorf("%w: read the offer of one: %w", errNone, err)
	}
	if !isDigest(o.Blob) || !isDigest(o.From) || !isDigest(o.To) || o.Size <= 0 || o.Size > mostDelta {
		return offer{}, fmt.Errorf("%w: what is offered is of another kind", errNone) // balena's, perhaps
	}
	return o, nil
}

// authorize gets a token to pull from both repositories.
func (s *session) authorize(ctx context.Context) error {
	if s.token != "" {
		return nil
	}
	host, _, _ := reference(s.order.Image)
	query := url.Values{"service": {host}}
	for _, ref := range []string{s.order.Image, s.order.Base} {
		_, repository, _ := reference(ref)
		query.Add("scope", "repository:"+repository+":pull")
	}
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	r.SetBasicAuth(s.User, s.Password)
	body, err := s.get(ctx, "ask for a registry token", strings.TrimRight(s.URL, "/")+"/auth/v1/token?"+query.Encode(), "application/json", r.Header.Get("Authorization"))
	if err != nil {
		return err
	}
	var answer struct{ Token string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("ask for a registry token: read the answer: %w", err)
	}
	if answer.Token == "" {
		return errors.New("ask for a registry token: there is none in the answer")
	}
	s.token = answer.Token
	return nil
}

// get is a request whose answer is small.
func (s *session) get(ctx context.Context, doing, address, accept, authorization string) ([]byte, error) {
	resp, err := s.send(ctx, address, http.Header{"Accept": {accept}, "Authorization": {authorization}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refused(doing, resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer+1))
	if err == nil && len(body) > mostAnswer {
		err = fmt.Errorf("the answer is over %d bytes", mostAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return body, nil
}

func (s *session) send(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set("User-Agent", s.UserAgent)
	return s.HTTP.Do(r)
}

// refused is the error of an answer that is not the wanted one.
func refused(doing string, resp *http.Response) error {
	return &refusal{doing, resp.StatusCode, retryAfter(resp.Header, time.Now())}
}

// retryAfter is how long a server asks to be left alone, or 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	var d time.Duration
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		d = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), mostPatience)
}

// blobURL is where the registry of the image has a blob. It is beside the API, so what protects the one protects the
// other.
func (s *session) blobURL(digest string) string {
	scheme, _, _ := strings.Cut(s.URL, "://")
	host, repository, _ := reference(s.order.Image)
	return scheme + "://" + host + "/v2/" + repository + "/blobs/" + digest
}

// reference takes HOST/REPOSITORY@DIGEST apart.
func reference(ref string) (host, repository, digest string) {
	name, digest, _ := strings.Cut(ref, "@")
	host, repository, _ = strings.Cut(name, "/")
	return host, repository, digest
}

func isDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}

// patience is how long a delta may be asked for.
func (p Policy) patience() time.Duration {
	return time.Duration(p.Retries) * max(p.Interval, time.Second)
}

func (p Policy) requestTimeout() time.Duration {
	if p.RequestTimeout <= 0 {
		return time.Minute
	}
	return p.RequestTimeout
}
