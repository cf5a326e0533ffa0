package auth

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds how many proxies are looked through.
const maxHops = 16

// Address is the IP address a request came from, without a port. Behind a proxy it is the last address of
// X-Forwarded-For that no trusted proxy has: what stands before it is the sender's own word. A header that cannot be
// read leaves the proxy's address.
func (a *Auth) Address(r *http.Request) string {
	peer := r.RemoteAddr
	if host, _, err := net.SplitHostPort(peer); err == nil {
		peer = host
	}
	ip, ok := parseAddress(peer)
	if !ok {
		return ""
	}
	if !a.BehindProxy || len(a.Proxies) > 0 && !a.proxy(ip) {
		return ip.String()
	}
	rest := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for range maxHops {
		cut := strings.LastIndexByte(rest, ',')
		hop, ok := parseAddress(strings.TrimSpace(rest[cut+1:]))
		if !ok {
			break
		}
		ip = hop
		if !a.proxy(hop) || cut < 0 {
			break
		}
		rest = rest[:cut]
	}
	return ip.String()
}

func (a *Auth) proxy(ip netip.Addr) bool {
	return slices.ContainsFunc(a.Proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// parseAddress reads an address as proxies write it: plain, in brackets, or with a port.
func parseAddress(text string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		with, err := netip.ParseAddrPort(text)
		if err != nil {
			return ip, false
		}
		ip = with.Addr()
	}
	return ip.Unmap().WithZone(""), true
}

// place is what counts as one place of origin: an IPv4 address, or an IPv6 network of 64 bits, which is what one
// customer has at least. "" is nowhere in particular.
func place(address string) string {
	ip, ok := parseAddress(address)
	if !ok {
		return ""
	}
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return ip.String()
}
