package auth

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestTheAddressIsTheLastOneThatNoTrustedProxyHas(t *testing.T) {
	networks := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	inside := networks("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		what    string
		behind  bool
		proxies []netip.Prefix
		peer    string
		header  []string
		want    string
	}{
		{"no proxy", false, nil, "192.0.2.7:99", nil, "192.0.2.7"},
		{"no proxy, a header all the same", false, nil, "192.0.2.7:99", []string{"203.0.113.9"}, "192.0.2.7"},
		{"no proxy, IPv6", false, nil, "[2001:db8::1%eth0]:99", nil, "2001:db8::1"},
		{"IPv4 in IPv6", false, nil, "[::ffff:192.0.2.7]:99", nil, "192.0.2.7"},
		{"a test's connection without an address", false, nil, "pipe", nil, ""},
		{"a proxy", true, nil, "10.0.0.1:99", []string{"203.0.113.9"}, "203.0.113.9"},
		{"a proxy, the sender lies", true, nil, "10.0.0.1:99", []string{"127.0.0.1, 10.0.0.5, 203.0.113.9"}, "203.0.113.9"},
		{"a proxy, the sender lies in a header of its own", true, nil, "10.0.0.1:99", []string{"127.0.0.1", "203.0.113.9"}, "203.0.113.9"},
		{"a proxy that says nothing", true, nil, "10.0.0.1:99", nil, "10.0.0.1"},
		{"a proxy that says nonsense", true, nil, "10.0.0.1:99", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"a proxy that adds a port", true, nil, "10.0.0.1:99", []string{"203.0.113.9:1234"}, "203.0.113.9"},
		{"a proxy that adds a port to IPv6", true, nil, "10.0.0.1:99", []string{"[2001:db8::9]:1234"}, "2001:db8::9"},
		{"a proxy that adds brackets", true, nil, "10.0.0.1:99", []string{"[2001:db8::9]"}, "2001:db8::9"},
		{"known proxies, one behind the other", true, inside, "10.0.0.1:99", []string{"203.0.113.9, 10.0.0.2, fd00::3"}, "203.0.113.9"},
		{"known proxies, the sender lies", true, inside, "10.0.0.1:99", []string{"198.51.100.1, 203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"known proxies, and somebody who is none connects", true, inside, "203.0.113.9:99", []string{"198.51.100.1"}, "203.0.113.9"},
		{"a proxy itself", true, inside, "10.0.0.1:99", []string{"10.0.0.2"}, "10.0.0.2"},
		{"proxies without end", true, inside, "10.0.0.1:99", []string{"203.0.113.9" + strings.Repeat(", 10.0.0.2", 5000)}, "10.0.0.2"},
	} {
		a := &Auth{BehindProxy: c.behind, Proxies: c.proxies}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.header
		if got := a.Address(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestAPlaceIsAnAddressOrACustomersNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::ffff:1": "2001:db8::", "2001:db8:0:1::1%eth0": "2001:db8:0:1::",
		"": "", "somewhere": "",
	} {
		if got := place(address); got != want {
			t.Errorf("%q is at %q, want %q", address, got, want)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("192.0.2.1:1", "203.0.113.9, 10.0.0.1")
	f.Add("[::1]:1", "[2001:db8::1]:80,,")
	f.Add("", "unknown, _hidden")
	f.Fuzz(func(t *testing.T, peer, header string) {
		a := &Auth{BehindProxy: true, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {header}}}
		if got := a.Address(r); got != "" {
			if ip, err := netip.ParseAddr(got); err != nil || ip.Zone() != "" || ip.Is4In6() {
				t.Fatalf("%q with %q is from %q", peer, header, got)
			}
		}
	})
}
