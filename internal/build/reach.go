package build

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// errPrivate is about an address that a project may not make the server ask.
var errPrivate = errors.New("the registry is on the server itself or in a private network")

// reach is where the server goes for an image that a project names: anywhere in public, and to the hosts it was given.
type reach struct {
	hosts []string // HOST for all its ports, or HOST:PORT

	mu      sync.Mutex
	proxies []string // HOST:PORT of the server's own proxies, which look up names themselves
}

func (b *Builder) reach(d Destination) *reach {
	own, _, _ := strings.Cut(d.Repository, "/")
	if _, _, err := net.SplitHostPort(own); err != nil {
		port := "443"
		if d.Insecure {
			port = "80"
		}
		own = net.JoinHostPort(strings.Trim(own, "[]"), port)
	}
	return &reach{hosts: append(slices.Clone(b.Private), own)}
}

// address is a registry's HOST:PORT.
func address(r name.Registry) string {
	host := r.RegistryStr()
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "443"
	if r.Scheme() == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// allows reports whether the server was given an address, HOST:PORT, to reach wherever it is.
func (r *reach) allows(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	if slices.Contains(r.hosts, address) || slices.Contains(r.hosts, host) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.proxies, address)
}

// special are addresses that are no single host's of the internet, or lead to another address (RFC 6890): "this network",
// carriers' own, protocol assignments, benchmarks, reserved, NAT64, 6to4, Teredo, discard-only and old site-local.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("fec0::/10"),
}

// public reports whether HOST:PORT may be public: a name is looked at again when it has been looked up.
func (*reach) public(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		return host != "localhost" && !strings.HasSuffix(host, ".localhost")
	}
	ip = ip.Unmap().WithZone("")
	return ip.IsGlobalUnicast() && !ip.IsPrivate() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// transport connects to no other address, whatever a name, a redirect or a challenge leads to.
func (r *reach) transport() *http.Transport {
	return &http.Transport{
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := http.ProxyFromEnvironment(req)
			if u == nil {
				return nil, err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if a := proxyAddress(u); !slices.Contains(r.proxies, a) {
				r.proxies = append(r.proxies, a)
			}
			return u, err
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: 30 * time.Second}
			if !r.allows(address) {
				d.Control = func(_, found string, _ syscall.RawConn) error {
					if !r.public(found) {
						return errPrivate
					}
					return nil
				}
			}
			return d.DialContext(ctx, network, address)
		},
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
	}
}

func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
