package build

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/dunlin/dunlin/internal/fault"
)

const maxRedirects = 10

// noTarball are the words of balena's builder, which its clients may look for.
const noTarball = "Failed to fetch tarball from passed URL"

// Fetch begins to download what a pusher names by an http or https address. It reaches what services may take images
// from: the internet at large, and Private. An address that answers with an error is fault.NotFound. The caller closes what
// it reads, and bounds it.
func (b *Builder) Fetch(ctx context.Context, address string) (io.ReadCloser, error) {
	r := &reach{hosts: b.Private}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the url of the source cannot be read")
	}
	if err := r.mayFetch(u); err != nil {
		return nil, err
	}
	t := r.transport()
	c := http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fault.Newf(fault.Invalid, "the url of the source redirects more than %d times", maxRedirects)
		}
		return r.mayFetch(req.URL)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the url of the source cannot be used")
	}
	req.Header.Set("User-Agent", "dunlin")
	// Otherwise the transport would undo a compression that is the archive's own, or not, as the server pleases.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.Do(req)
	if err != nil {
		t.CloseIdleConnections()
		return nil, fetchFault(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.CloseIdleConnections()
		return nil, errors.Join(fault.New(fault.NotFound, noTarball+": it answers "+resp.Status), resp.Body.Close())
	}
	return fetched{resp.Body, t}, nil
}

// mayFetch refuses addresses that are none of the internet's before anything is asked of a proxy, which would ask.
func (r *reach) mayFetch(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return fault.New(fault.Invalid, "the url of the source is not an http or https address without a password")
	}
	if a := proxyAddress(u); !r.allows(a) && !r.public(a) {
		return private(u.Hostname())
	}
	return nil
}

func private(host string) error {
	return fault.Newf(fault.Invalid, "%s is on the server itself or in a private network", shorten(host, 200)).
		WithHint("whoever runs the server can allow it with --private-host")
}

func fetchFault(err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, errPrivate) {
		return fault.Wrap(fault.Invalid, err, "the url of the source leads to the server itself or into a private network").
			WithHint("whoever runs the server can allow it with --private-host")
	}
	return fault.Wrap(fault.NotFound, err, noTarball+": it does not answer")
}

// fetched is a download whose connection goes with it.
type fetched struct {
	io.ReadCloser
	t *http.Transport
}

func (f fetched) Close() error {
	defer f.t.CloseIdleConnections()
	return f.ReadCloser.Close()
}
