package source

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// origin is where a tree with submodules came from: a fleet of this server, or a URL.
type origin struct {
	slug string
	url  *url.URL
}

// resolve finds what the url of a submodule in .gitmodules means there. Only two kinds of place are fetched from:
// fleets of this server, by relative url, and https.
func (o origin) resolve(raw string) (origin, error) {
	bad := func(why, hint string) (origin, error) {
		return origin{}, fault.New(fault.Invalid, why).WithHint(hint)
	}
	if strings.HasPrefix(raw, "./") || strings.HasPrefix(raw, "../") {
		if o.url != nil {
			u := *o.url
			p, ok := climb(u.Path, raw)
			if u.Path = p; !ok {
				return bad("the relative url leads out of "+u.Host, "write the whole https url")
			}
			return origin{url: &u}, nil
		}
		p, _ := climb(o.slug, raw)
		slug, ok := parseSlug(p)
		if !ok {
			return bad("the relative url names no fleet of this server", "write ../FLEET.git, ../../ORG/FLEET.git or a https url")
		}
		return origin{slug: slug}, nil
	}
	const useHTTPS = "use a https url, or ../FLEET.git for a fleet of this server"
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Host == "" {
		if host, _, ok := strings.Cut(raw, ":"); ok && host != "" && !strings.Contains(host, "/") && !strings.HasPrefix(raw, host+"::") && !strings.Contains(raw, "://") {
			return bad("the server has no ssh key to fetch it with", useHTTPS)
		}
		return bad("its url is none that this server can fetch", useHTTPS)
	}
	switch u.Scheme = strings.ToLower(u.Scheme); {
	case u.Scheme == "ssh" || u.Scheme == "git+ssh" || u.Scheme == "ssh+git":
		return bad("the server has no ssh key to fetch it with", useHTTPS)
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("its url is none that this server can fetch", useHTTPS)
	case u.User != nil:
		return bad("its url carries a password, which everybody who reads the source can use", "take the password back, and make the repository public or vendor it")
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return bad("its url is none that this server can fetch", useHTTPS)
	case !hostName(u.Hostname()) || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return bad("its url has no proper host", useHTTPS)
	}
	u.Host = strings.ToLower(u.Host)
	return origin{url: u}, nil
}

// climb applies a relative url to a base path as git does: each ../ takes one part off the base.
func climb(base, relative string) (string, bool) {
	base = strings.Trim(base, "/")
	for {
		if rest, ok := strings.CutPrefix(relative, "../"); ok {
			if base == "" {
				return "", false
			}
			if base = path.Dir(base); base == "." {
				base = ""
			}
			relative = rest
		} else if relative, ok = strings.CutPrefix(relative, "./"); !ok {
			break
		}
	}
	// What follows may only go down.
	if slices.Contains(strings.Split(relative, "/"), "..") {
		return "", false
	}
	return "/" + strings.Trim(base+"/"+relative, "/"), true
}

// hostName reports whether h is a name or an address that means the same to Go, git and curl.
func hostName(h string) bool {
	if _, err := netip.ParseAddr(h); err == nil {
		return !strings.Contains(h, "%")
	}
	return h != "" && len(h) < 254 && !strings.HasPrefix(h, "-") &&
		strings.Trim(strings.ToLower(h), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

// notPublic are the addresses beyond those Go knows as private that no public server has (RFC 6890 and later).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // NAT64: an IPv4 address of any kind
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4: likewise
	netip.MustParsePrefix("fec0::/10"),
}

// public reports whether ip is an address of the internet at large, so that fetching from it on a pusher's behalf
// reaches nothing that the pusher could not reach.
func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && !ip.IsPrivate() &&
		!slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// port is the port of a URL, said or not.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// private reports whether u's host is one that may be fetched from wherever it is.
func (m Submodules) private(u *url.URL) bool {
	return slices.Contains(m.Private, u.Hostname()) || slices.Contains(m.Private, net.JoinHostPort(u.Hostname(), port(u)))
}
