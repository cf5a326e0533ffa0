package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	// DefaultEngine is where a container engine listens if nobody has said otherwise.
	DefaultEngine = "unix:///var/run/docker.sock"

	maxRefusal = 64 << 10 // bytes of an answer that is no image
)

// references are the names of images that are asked for: what engines allow, and nothing that would be another address.
var references = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,511}$`)

// FromEngine reads an image of a container engine, by its name or its ID, through a temporary file. engine is unix://PATH or
// tcp://HOST:PORT, as in DOCKER_HOST. Errors are for who named the image.
func FromEngine(ctx context.Context, engine, reference string, o Options) (*Image, error) {
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	if !references.MatchString(reference) || strings.Contains(reference, "..") || strings.Contains(reference, "//") {
		return nil, fault.Newf(fault.Invalid, "%q is no name of an image", reference).WithHint("give the name or ID that `docker images` shows, or the file of an image")
	}
	c, base, err := engineClient(engine)
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	ask := base + "/images/" + reference + "/get"
	if o.Platform != "" {
		// Engines that keep several platforms of an image save them all without this; older ones do not read it.
		b, err := json.Marshal(want)
		if err != nil {
			return nil, err
		}
		ask += "?" + url.Values{"platform": {string(b)}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ask, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the engine for %s: %w", reference, err)
	}
	res, err := c.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Newf(fault.Unavailable, "cannot ask the container engine at %s for the image %s: %v", engine, reference, errors.Unwrap(err)).
			WithHint("is it running? DOCKER_HOST says where it is; if a file was meant, there is none of that name")
	}
	defer res.Body.Close() // only read
	if res.StatusCode != http.StatusOK {
		return nil, refused(res, engine, reference)
	}
	whole, err := spool(o.Dir, func(w io.Writer) error { return copyAtMost(w, res.Body) })
	if err != nil {
		return nil, fmt.Errorf("save the image %s: %w", reference, err)
	}
	t, err := readTar(whole)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the image %s as the engine saved it: %w", reference, err), whole.Close())
	}
	return read(t, reference, o)
}

// engineClient is a client of an engine, and what its addresses begin with.
func engineClient(engine string) (*http.Client, string, error) {
	u, err := url.Parse(engine)
	switch {
	case err == nil && u.Scheme == "unix" && u.Path != "":
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		}
		return &http.Client{Transport: &http.Transport{DialContext: dial}}, "http://engine", nil
	case err == nil && u.Scheme == "tcp" && u.Host != "":
		return &http.Client{Transport: &http.Transport{}}, "http://" + u.Host, nil
	}
	return nil, "", fault.Newf(fault.Invalid, "cannot ask the container engine at %q: only unix:// and tcp:// are known here", engine).
		WithHint("save the image to a file instead: docker save IMAGE -o FILE")
}

// refused is what an engine's answer means that is no image.
func refused(res *http.Response, engine, reference string) error {
	var said struct {
		Message string `json:"message"`
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err != nil || json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = res.Status
	}
	if res.StatusCode == http.StatusNotFound {
		return fault.Newf(fault.NotFound, "there is neither a file nor an image %s: the container engine at %s says %q", reference, engine, said.Message).
			WithHint("`docker images` lists the images there are; `docker pull` gets one")
	}
	return fault.Newf(fault.Unavailable, "the container engine at %s cannot save %s: %s", engine, reference, said.Message)
}
