package source

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// Submodules bounds what the server fetches for an archive. A zero field means its default.
type Submodules struct {
	// Private are hosts, "name" or "name:port" in lower case, that may be fetched from although their addresses are
	// not public, and without TLS. Any other host must be public and speak https.
	Private []string
	// CAFile is a PEM file of the certificates to trust instead of the system's.
	CAFile string
	// Timeout is for one submodule; 5 min.
	Timeout time.Duration
	// Size bounds one fetch, in bytes; 512 MiB.
	Size int64
	// Depth is how deep submodules may be nested; 5.
	Depth int
	// Number is how many submodules an archive may have; 100.
	Number int
}

func (m Submodules) orDefaults() Submodules {
	m.Timeout = or(m.Timeout, 5*time.Minute)
	m.Size = or(m.Size, 512<<20)
	m.Depth = or(m.Depth, 5)
	m.Number = or(m.Number, 100)
	return m
}

// submodule is one that an archive needs.
type submodule struct {
	path   string // in the archive
	url    string // as .gitmodules has it
	commit string
}

// refuse says why the submodule cannot be had.
func (m submodule) refuse(kind fault.Kind, why string) *fault.Error {
	what := clean(m.path, 200)
	if m.url != "" {
		what += " (" + clean(redact(m.url), 200) + ")"
	}
	return fault.Newf(kind, "cannot fetch submodule %s: %s", what, why)
}

// unavailable says that fetching went wrong on the way.
func (m submodule) unavailable(err error) error {
	e := m.refuse(fault.Unavailable, lastWords(err)).WithHint("check the url, then push again")
	e.Err = err
	return e
}

// redact hides what may be a password in a URL: over http, tokens stand where names do.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	if strings.HasPrefix(strings.ToLower(u.Scheme), "http") {
		u.User = url.User("xxxxx")
	}
	return u.Redacted()
}

// maxModules bounds a .gitmodules file, in bytes.
const maxModules = 1 << 20

// modules reads the .gitmodules of t: urls by path. A tree without one has none.
func (s *Server) modules(ctx context.Context, t tree) (map[string]string, error) {
	line, err := s.output(ctx, t.repo, "ls-tree", "-l", "-z", "--full-tree", t.commit, "--", ".gitmodules")
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(line)) // mode, type, object, size, path
	if len(f) < 5 || f[1] != "blob" || f[0] == modeSymlink {
		return nil, nil
	}
	if size, err := strconv.ParseInt(f[3], 10, 64); err != nil || size > maxModules {
		return nil, fault.Newf(fault.TooLarge, "%s.gitmodules is larger than %d bytes", t.prefix, maxModules)
	}
	list, err := s.output(ctx, t.repo, "config", "--no-includes", "-z", "--blob", f[2], "--list")
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, t.prefix+".gitmodules is not in git's format").WithHint("git submodule status says more")
	}
	return parseModules(list), nil
}

// parseModules reads what git config --list -z says of a .gitmodules file.
func parseModules(list []byte) map[string]string {
	type module struct{ path, url string }
	byName := map[string]*module{}
	for entry := range strings.SplitSeq(string(list), "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot < 0 {
			continue
		}
		m := byName[rest[:dot]]
		if m == nil {
			m = &module{}
			byName[rest[:dot]] = m
		}
		switch rest[dot+1:] {
		case "path":
			m.path = value
		case "url":
			m.url = value
		}
	}
	urls := map[string]string{}
	for _, m := range byName {
		if m.path != "" && m.url != "" {
			urls[strings.TrimSuffix(m.path, "/")] = m.url
		}
	}
	return urls
}

// obtain finds the commit of a submodule of t: in another fleet's repository, when the pusher may read it, or in a
// cache of a URL, fetched when it is not there.
func (s *Server) obtain(ctx context.Context, t tree, m submodule, say io.Writer) (tree, error) {
	below := tree{commit: m.commit, actor: t.actor, prefix: m.path + "/", depth: t.depth + 1}
	at, err := t.origin.resolve(m.url)
	if err != nil {
		return below, m.refuse(fault.KindOf(err), fault.Message(err)).WithHint(fault.Hint(err))
	}
	below.origin = at
	if at.url == nil {
		r, err := s.Lookup(ctx, t.actor, at.slug, false)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) {
			return below, m.refuse(fault.NotFound, fmt.Sprintf("there is no fleet %q here, or it is not yours to see", at.slug)).
				WithHint("push the submodule to a fleet of that name, or use a https url")
		}
		if err != nil {
			return below, fmt.Errorf("look up %s: %w", at.slug, err)
		}
		below.repo = repo{dir: s.path(r.Fleet)}
		if !s.has(ctx, below.repo, m.commit) {
			return below, m.refuse(fault.Invalid, "commit "+m.commit+" is not there").WithHint("push the submodule first; any branch of it will do")
		}
		return below, nil
	}
	below.repo, err = s.cached(ctx, at.url, m, say)
	return below, err
}

func (s *Server) has(ctx context.Context, r repo, commit string) bool {
	kind, err := s.output(ctx, r, "cat-file", "-t", commit)
	return err == nil && strings.TrimSpace(string(kind)) == "commit"
}

func (s *Server) submoduleDir() string { return filepath.Join(s.Dir, "submodules") }

// cached is the repository that holds the commits fetched from a URL so far, m's among them.
func (s *Server) cached(ctx context.Context, u *url.URL, m submodule, say io.Writer) (repo, error) {
	bounds := s.Submodules.orDefaults()
	if u.Scheme != "https" && !bounds.private(u) {
		return repo{}, m.refuse(fault.Invalid, "http is open to anybody on the way").WithHint("use a https url")
	}
	sum := sha256.Sum256([]byte(u.String()))
	key := hex.EncodeToString(sum[:])
	r := repo{dir: filepath.Join(s.submoduleDir(), key+".git")}
	unlock, err := s.caches.lock(ctx, key, nil)
	if err != nil {
		return r, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, bounds.Timeout,
		m.refuse(fault.Unavailable, fmt.Sprintf("it took longer than %v", bounds.Timeout)).WithHint("push again, or vendor it"))
	defer cancel()
	if _, err := s.output(ctx, repo{}, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", r.dir); err != nil {
		return r, fmt.Errorf("make a cache for %s: %w", u, err)
	}
	now := time.Now()
	if err := os.Chtimes(r.dir, now, now); err != nil { // what dropOldCaches looks at
		return r, fmt.Errorf("make a cache for %s: %w", u, err)
	}
	if s.has(ctx, r, m.commit) {
		return r, nil
	}
	fmt.Fprintf(say, "fetching submodule %s from %s\n", clean(m.path, 200), clean(u.String(), 200))
	err = s.fetch(ctx, r, u, m)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		// Git does not clean up after itself when it is killed or out of room.
		return r, errors.Join(err, sweep(r.dir))
	}
	return r, nil
}

// fetch gets m's commit alone, or, from a server that gives out branches only, all of them.
func (s *Server) fetch(ctx context.Context, r repo, u *url.URL, m submodule) error {
	final, pin, err := s.locate(ctx, u)
	if err != nil {
		var e *fault.Error
		if errors.As(err, &e) {
			return m.refuse(e.Kind, e.Message).WithHint(e.Hint)
		}
		return m.unavailable(err)
	}
	_, err = s.fetchOnce(ctx, r, final, pin, "--depth=1", m.commit)
	if s.has(ctx, r, m.commit) {
		return nil
	}
	if ctx.Err() != nil || tooLarge(err) {
		return s.unfetched(m, err)
	}
	// The first try may have been cut off, and nobody else uses the cache's locks now.
	if err := sweep(r.dir); err != nil {
		return err
	}
	_, err = s.fetchOnce(ctx, r, final, pin, "--no-tags", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	if s.has(ctx, r, m.commit) {
		return nil
	}
	return s.unfetched(m, err)
}

// unfetched says why git could not fetch m, or fetched and did not find it.
func (s *Server) unfetched(m submodule, err error) error {
	switch {
	case err == nil:
		return m.refuse(fault.Invalid, "commit "+m.commit+" is not there").WithHint("push the submodule's commit to it first")
	case tooLarge(err):
		return m.refuse(fault.TooLarge, fmt.Sprintf("it has more than %d MB", s.Submodules.orDefaults().Size>>20)).WithHint("vendor what the build needs of it")
	}
	return m.unavailable(err)
}

// tooLarge reports whether git met the bound that fetchOnce sets (EFBIG; the locale is C).
func tooLarge(err error) bool {
	var bad *gitError
	return errors.As(err, &bad) && strings.Contains(bad.stderr, "File too large")
}

// fetchOnce runs git fetch with a bound on the size of every file it writes, the pack among them: git has no bound
// of its own for fetches.
func (s *Server) fetchOnce(ctx context.Context, r repo, from *url.URL, pin, flag string, refs ...string) ([]byte, error) {
	blocks := strconv.FormatInt(s.Submodules.orDefaults().Size/512+1, 10) // the shell's unit
	// Without the signal the write fails, and git says so.
	args := []string{"-c", `trap '' XFSZ && ulimit -f "$0" && exec "$@"`, blocks, s.binary()}
	if pin != "" {
		args = append(args, "-c", "http.curloptResolve="+pin)
	}
	args = append(args, "fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules", flag, "--end-of-options", from.String())
	cmd := s.isolate(exec.CommandContext(ctx, "/bin/sh", append(args, refs...)...), r)
	cmd.Env = append(cmd.Env, "GIT_ALLOW_PROTOCOL="+from.Scheme)
	if s.Submodules.CAFile != "" {
		cmd.Env = append(cmd.Env, "GIT_SSL_CAINFO="+s.Submodules.CAFile)
	}
	return finish(ctx, "git fetch", cmd)
}

// lastWords is what a user may read of a network or git error.
func lastWords(err error) string {
	var bad *gitError
	if errors.As(err, &bad) {
		lines := strings.Split(strings.TrimSpace(bad.stderr), "\n")
		return clean(strings.TrimPrefix(lines[len(lines)-1], "fatal: "), 300)
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return clean(err.Error(), 300)
}

// locate asks the server at u for its repository, following redirects, and returns where it is in the end and the
// addresses that were found good, as http.curloptResolve wants them: git must not look the name up again and find
// others.
func (s *Server) locate(ctx context.Context, u *url.URL) (final *url.URL, pin string, err error) {
	const tail = "/info/refs"
	found := map[string]string{} // host:port → addresses
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return s.dial(ctx, network, addr, found)
		},
		TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: 60 * time.Second, DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	if file := s.Submodules.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, "", fmt.Errorf("read the certificates for submodules: %w", err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > 5:
			return fault.New(fault.Invalid, "it redirects too often")
		case req.URL.User != nil || req.URL.Scheme != "https" && (req.URL.Scheme != "http" || !s.Submodules.private(req.URL)):
			return fault.New(fault.Invalid, "it redirects to something else than https")
		}
		return nil
	}}
	ask := *u
	ask.Path = strings.TrimSuffix(u.Path, "/") + tail
	ask.RawPath, ask.RawQuery = "", "service="+uploadPack
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ask.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", "git/2.39 (dunlin)")
	req.Header.Set("Git-Protocol", "version=2")
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	_ = resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, "", fault.New(fault.Invalid, "authentication required").WithHint("make it public or vendor it")
	case status == http.StatusNotFound || status == http.StatusGone:
		return nil, "", fault.New(fault.Invalid, "there is no such repository").WithHint("check the url in .gitmodules")
	case status != http.StatusOK:
		return nil, "", fault.Newf(fault.Unavailable, "its server answered %d", status).WithHint("push again later")
	case resp.Header.Get("Content-Type") != "application/x-"+uploadPack+"-advertisement":
		return nil, "", fault.New(fault.Invalid, "what answers there is no git repository").WithHint("check the url in .gitmodules")
	}
	end := *resp.Request.URL
	if !strings.HasSuffix(end.Path, tail) {
		return nil, "", fault.New(fault.Invalid, "it redirects to something that is no git repository")
	}
	end.Path, end.RawPath, end.RawQuery = strings.TrimSuffix(end.Path, tail), "", ""
	at := net.JoinHostPort(end.Hostname(), port(&end))
	if _, err := netip.ParseAddr(end.Hostname()); err == nil {
		return &end, "", nil // nothing to look up
	}
	return &end, at + ":" + found[at], nil
}

// dial connects to an address that may be fetched from, and notes which ones those are.
func (s *Server) dial(ctx context.Context, network, addr string, found map[string]string) (net.Conn, error) {
	host, portName, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	private := s.Submodules.private(&url.URL{Scheme: "https", Host: net.JoinHostPort(host, portName)})
	var texts []string
	for _, ip := range ips {
		if ip = ip.Unmap(); !private && !public(ip) {
			return nil, fault.Newf(fault.Invalid, "%s is not on the public internet", host).
				WithHint("whoever runs this server can allow the host")
		}
		text := ip.String()
		if ip.Is6() {
			text = "[" + text + "]"
		}
		texts = append(texts, text)
	}
	found[net.JoinHostPort(host, portName)] = strings.Join(texts, ",")
	var dialer net.Dialer
	var errs []error
	for _, ip := range ips {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(ip.Unmap().String(), portName))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dropOldCaches removes the caches that nothing has asked for since then.
func (s *Server) dropOldCaches(ctx context.Context, then time.Time) error {
	entries, err := os.ReadDir(s.submoduleDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := func() error {
			unlock, err := s.caches.lock(ctx, strings.TrimSuffix(e.Name(), ".git"), nil)
			if err != nil {
				return err
			}
			defer unlock()
			info, err := os.Stat(filepath.Join(s.submoduleDir(), e.Name()))
			if err != nil || info.ModTime().After(then) {
				return err
			}
			return os.RemoveAll(filepath.Join(s.submoduleDir(), e.Name()))
		}()
		if err != nil {
			return err
		}
	}
	return nil
}
