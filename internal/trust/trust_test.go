package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func load(t *testing.T, dir string, now time.Time, hosts ...string) *Identity {
	t.Helper()
	id, err := Load(dir, hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (id *Identity) leaf() *x509.Certificate { return id.current.Load().Leaf }

// shake does a real handshake as a client that trusts root, at a time.
func shake(t *testing.T, id *Identity, root []byte, host string, now time.Time) error {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		t.Fatalf("no certificate in %q", root)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", id.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var served sync.WaitGroup
	served.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.(*tls.Conn).Handshake() // the client says how it went
	})
	defer served.Wait()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: host, Time: func() time.Time { return now }})
	if err != nil {
		return err
	}
	return c.Close()
}

func TestAClientThatTrustsTheRootReachesEachHost(t *testing.T) {
	id := load(t, t.TempDir(), start, "Dunlin.Local", "*.fleet.example.org", "192.168.1.5", "[fd00::5]", "localhost")
	for host, want := range map[string]bool{
		"dunlin.local": true, "api.fleet.example.org": true, "192.168.1.5": true, "fd00::5": true, "localhost": true,
		"fleet.example.org": false, "192.168.1.6": false, "evil.example.org": false,
	} {
		if err := shake(t, id, id.RootPEM(), host, start); (err == nil) != want {
			t.Errorf("%s: %v, want success %v", host, err, want)
		}
	}
	// A device whose clock is some hours behind, and one at the end of the certificate.
	if err := shake(t, id, id.RootPEM(), "localhost", start.Add(-20*time.Hour)); err != nil {
		t.Error(err)
	}
	if err := shake(t, id, id.RootPEM(), "localhost", start.Add(serverLife)); err == nil {
		t.Error("the certificate does not end")
	}
	stranger := load(t, t.TempDir(), start, "localhost")
	if err := shake(t, id, stranger.RootPEM(), "localhost", start); err == nil {
		t.Error("a client that trusts another server's root gets through")
	}
	if root, leaf := string(id.RootPEM()), id.leaf(); strings.Contains(root, "PRIVATE") || leaf.NotAfter.Sub(leaf.NotBefore) > 397*day {
		t.Errorf("the root is %s; the certificate lasts %v", root, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	if got := id.NotAfter(); !got.Equal(id.leaf().NotAfter) {
		t.Errorf("ends at %v", got)
	}
}

func TestTheAuthorityIsMadeOnceAndCertificatesWhenTheyAreDue(t *testing.T) {
	dir := t.TempDir()
	first := load(t, dir, start, "b.test", "a.test", "10.0.0.1")
	for _, c := range []struct {
		what  string
		now   time.Time
		hosts []string
		again bool
	}{
		{"another start", start.Add(time.Minute), []string{"b.test", "a.test", "10.0.0.1"}, false},
		{"the same hosts in another order, twice", start, []string{"10.0.0.1", "A.test", "b.test.", "a.test"}, false},
		{"31 days before the end", first.NotAfter().Add(-31 * day), []string{"a.test", "b.test", "10.0.0.1"}, false},
		{"29 days before the end", first.NotAfter().Add(-29 * day), []string{"a.test", "b.test", "10.0.0.1"}, true},
		{"after the end", first.NotAfter().Add(day), []string{"a.test", "b.test", "10.0.0.1"}, true},
		{"a host more", start, []string{"a.test", "b.test", "c.test", "10.0.0.1"}, true},
		{"a host less", start, []string{"a.test", "10.0.0.1"}, true},
		{"another address", start, []string{"a.test", "b.test", "10.0.0.2"}, true},
		{"a clock that went back", start.Add(-48 * time.Hour), []string{"a.test", "b.test", "10.0.0.1"}, true},
	} {
		// Each row begins with the first certificate.
		kept, err := os.ReadFile(filepath.Join(dir, "server.pem"))
		if err != nil {
			t.Fatal(err)
		}
		id := load(t, dir, c.now, c.hosts...)
		if again := !id.leaf().Equal(first.leaf()); again != c.again {
			t.Errorf("%s: issued again %v, want %v", c.what, again, c.again)
		}
		if !bytes.Equal(id.RootPEM(), first.RootPEM()) {
			t.Errorf("%s: another authority", c.what)
		}
		if again := load(t, dir, c.now, c.hosts...); !again.leaf().Equal(id.leaf()) {
			t.Errorf("%s: the certificate was not kept", c.what)
		}
		if err := os.WriteFile(filepath.Join(dir, "server.pem"), kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestNoCertificateOutlivesItsAuthority(t *testing.T) {
	dir := t.TempDir()
	end := load(t, dir, start, "a.test").authorityEnd(t)
	late := load(t, dir, end.Add(-10*day), "a.test")
	if !late.NotAfter().Equal(end) {
		t.Errorf("ends at %v, the authority at %v", late.NotAfter(), end)
	}
	before := late.leaf()
	if err := late.Reload(end.Add(-9 * day)); err != nil || !late.leaf().Equal(before) {
		t.Errorf("issued again though it could not last longer, %v", err)
	}
	if _, err := Load(dir, []string{"a.test"}, end.Add(day)); !fault.Is(err, fault.Invalid) || fault.Hint(err) == "" {
		t.Errorf("after the authority's end: %v", err)
	}
}

func (id *Identity) authorityEnd(t *testing.T) time.Time {
	t.Helper()
	block, _ := pem.Decode(id.RootPEM())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.IsCA || cert.PermittedDNSDomains != nil || !cert.MaxPathLenZero {
		t.Errorf("the authority is %+v", cert)
	}
	return cert.NotAfter
}

func TestADamagedAuthorityIsNeverReplacedAndADamagedCertificateIs(t *testing.T) {
	dir := t.TempDir()
	whole := load(t, dir, start, "a.test")
	server, authority := filepath.Join(dir, "server.pem"), filepath.Join(dir, "authority.pem")
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server, text[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shake(t, load(t, dir, start, "a.test"), whole.RootPEM(), "a.test", start); err != nil {
		t.Error(err)
	}
	// A certificate of another authority is no better than a damaged one.
	other := t.TempDir()
	load(t, other, start, "a.test")
	foreign, err := os.ReadFile(filepath.Join(other, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shake(t, load(t, dir, start, "a.test"), whole.RootPEM(), "a.test", start); err != nil {
		t.Error(err)
	}
	strangers, err := os.ReadFile(filepath.Join(other, "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.Index(text, []byte("-----BEGIN PRIVATE"))
	mixed := append(bytes.Clone(text[:cut]), strangers[bytes.Index(strangers, []byte("-----BEGIN PRIVATE")):]...)
	for what, damaged := range map[string][]byte{"empty": {}, "cut": text[:cut], "doubled": append(bytes.Clone(text), text...), "of two halves": mixed} {
		if err := os.WriteFile(authority, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, []string{"a.test"}, start); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), authority) {
			t.Errorf("%s: %v", what, err)
		}
		if kept, err := os.ReadFile(authority); err != nil || !bytes.Equal(kept, damaged) {
			t.Errorf("%s: replaced, %v", what, err)
		}
	}
}

func TestAHostThatIsNoneAndAClockThatIsWrongAreRefused(t *testing.T) {
	for _, host := range []string{"", "https://a.test", "a.test:443", "a b", "-a.test", "a..b", "*", "a.*.test", "münchen.test", "a.test/", strings.Repeat("a.", 130) + "a"} {
		if _, err := Load(t.TempDir(), []string{host}, start); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := Load(t.TempDir(), nil, start); !fault.Is(err, fault.Invalid) {
		t.Errorf("no host: %v", err)
	}
	if _, err := Load(t.TempDir(), []string{"a.test"}, time.Unix(60, 0)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a clock in 1970: %v", err)
	}
}

func TestGivenFilesAreUsedAndNoticedWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := Files(cert, key); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), cert) {
		t.Errorf("files that are not there: %v", err)
	}
	put := func(hosts ...string) (root []byte) {
		t.Helper()
		sub := t.TempDir()
		id := load(t, sub, start, hosts...)
		text, err := os.ReadFile(filepath.Join(sub, "server.pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{cert, key} { // either file may have both
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return id.RootPEM()
	}
	root := put("a.test")
	id, err := Files(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := shake(t, id, root, "a.test", start); err != nil || id.RootPEM() != nil {
		t.Errorf("%v; root %q", err, id.RootPEM())
	}
	before := id.current.Load()
	if err := id.Reload(start); err != nil || id.current.Load() != before {
		t.Errorf("exchanged without need, %v", err)
	}
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := id.Reload(start); !fault.Is(err, fault.Invalid) || id.current.Load() != before {
		t.Errorf("a key that is half written: %v", err)
	}
	root = put("b.test")
	if err := id.Reload(start); err != nil {
		t.Fatal(err)
	}
	// A certificate renewed for the same key: one file alone changes.
	before = id.current.Load()
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, append(text, root...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := id.Reload(start); err != nil || id.current.Load() == before || len(id.current.Load().Certificate) != 2 {
		t.Errorf("another certificate for the same key is not noticed, %v", err)
	}
	if err := shake(t, id, root, "b.test", start); err != nil {
		t.Error(err)
	}
}

func TestRunRenewsWhileHandshakesGoOn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock starts in 2000, before any authority is made: go on to a day that is.
		time.Sleep(time.Until(start))
		var log bytes.Buffer
		id := load(t, dir, time.Now(), "a.test")
		id.Log = slog.New(slog.NewTextHandler(&log, nil))
		first := id.leaf()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- id.Run(ctx) }()
		config := id.TLSConfig()
		time.Sleep(time.Until(first.NotAfter) - renewBefore - time.Hour)
		if got, err := config.GetCertificate(nil); err != nil || !got.Leaf.Equal(first) {
			t.Errorf("renewed before its time, %v", err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		got, err := config.GetCertificate(nil)
		if err != nil || got.Leaf.Equal(first) || !got.Leaf.NotAfter.After(first.NotAfter) {
			t.Errorf("not renewed, %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run ended with %v", err)
		}
		if n := strings.Count(log.String(), "certificate exchanged"); n != 1 {
			t.Errorf("%d exchanges in the log:\n%s", n, log.String())
		}
	})
}

func TestAnExchangeThatKeepsFailingIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	load(t, dir, start, "a.test")
	path := filepath.Join(dir, "server.pem")
	synctest.Test(t, func(t *testing.T) {
		id, err := Files(path, path)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		id.Log = slog.New(slog.NewTextHandler(&log, nil))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*changedEvery+time.Second)
		defer cancel()
		if err := id.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors in the log:\n%s", n, log.String())
		}
	})
}

func TestReloadAndHandshakesAtOnce(t *testing.T) {
	dir := t.TempDir()
	id := load(t, dir, start, "a.test")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				if err := shake(t, id, id.RootPEM(), "a.test", start.Add(370*day)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		// To and fro: each time another certificate is due, and the handshakes are at a time when both are good.
		before := id.leaf()
		if err := id.Reload(start.Add(time.Duration(370*(1-i%2)) * day)); err != nil || id.leaf().Equal(before) {
			t.Fatalf("not exchanged, %v", err)
		}
	}
	all.Wait()
}

func FuzzParseHosts(f *testing.F) {
	for _, s := range []string{"a.test", "*.a.test", "[::1]", "1.2.3.4", "a.test.", "xn--mnchen-3ya.test", "a\x00b", "127.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHosts([]string{s})
		if err != nil {
			return
		}
		for _, ip := range h.ips {
			if net.ParseIP(ip) == nil {
				t.Fatalf("%q became the address %q", s, ip)
			}
		}
		again, err := parseHosts(append(h.names, h.ips...))
		if err != nil || len(again.names) != len(h.names) || len(again.ips) != len(h.ips) {
			t.Fatalf("%q became %+v and then %+v, %v", s, h, again, err)
		}
	})
}
