package syslog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"pgregory.net/rapid"
)

// patience is a net under the tests: none waits for it unless something is broken.
const patience = 20 * time.Second

// parse reads a message with somebody else's parser.
func parse(t testing.TB, b []byte) *rfc5424.SyslogMessage {
	t.Helper()
	m, err := rfc5424.NewParser().Parse(b)
	if err != nil {
		t.Fatalf("%q is no message: %v", b, err)
	}
	return m.(*rfc5424.SyslogMessage)
}

// writer makes one that sends nowhere, to look at its queue.
func writer(t testing.TB) *Writer {
	t.Helper()
	w, err := New(Settings{Network: "udp", Address: "127.0.0.1:1", Host: "gate", App: "remote-monitor"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAnEventIsAMessage(t *testing.T) {
	w := writer(t)
	w.Event(time.Date(2026, 11, 22, 15, 4, 5, 678_900_000, time.FixedZone("", 3600)), Alert, "alarm", "Hall motion: 2 pulses in 30 s", Param{"zone", "hall"}, Param{"reason", `said "x]\`}, Param{"bad name=", "é"}, Param{"", "lost"})
	got := string(<-w.queue)
	want := `<9>1 2026-11-22T14:04:05.678900Z gate remote-monitor ` + strconv.Itoa(os.Getpid()) + ` alarm [rm@32473 zone="hall" reason="said \"x\]\\" badname="é"] Hall motion: 2 pulses in 30 s`
	if got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
	m := parse(t, []byte(got))
	if *m.Severity != 1 || *m.Facility != 1 || *m.MsgID != "alarm" || (*m.StructuredData)[dataID]["zone"] != "hall" {
		t.Errorf("somebody else reads %+v", m)
	}
}

func TestWhateverIsSaidIsOneMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.Rune(), 0, 5000, -1), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		m := record{
			facility: 1, severity: Severity(rapid.IntRange(0, 7).Draw(t, "severity")), time: time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "time"), 0),
			host: text.Draw(t, "host"), app: text.Draw(t, "app"), process: "1", kind: text.Draw(t, "kind"), text: text.Draw(t, "text"),
		}
		for range rapid.IntRange(0, 40).Draw(t, "params") {
			m.data = append(m.data, Param{text.Draw(t, "name"), text.Draw(t, "value")})
		}
		b := m.append(nil)
		if len(b) > longest {
			t.Fatalf("%d bytes", len(b))
		}
		if bytes.ContainsAny(b, "\n\r\x00\x1b") || !utf8.Valid(b) {
			t.Fatalf("not one line of text: %q", b)
		}
		parsed, err := rfc5424.NewParser().Parse(b)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if got := parsed.(*rfc5424.SyslogMessage); got.Message != nil {
			said, marked := strings.CutPrefix(*got.Message, "\xef\xbb\xbf")
			if !strings.HasPrefix(clean(m.text), said) {
				t.Fatalf("the text %q became %q", m.text, said)
			}
			if ascii := len(clean(m.text)) == utf8.RuneCountInString(clean(m.text)); marked == ascii && !strings.HasPrefix(m.text, "\ufeff") {
				t.Fatalf("the text %q is marked as UTF-8: %v", m.text, marked)
			}
		}
	})
}

func TestWhatIsTooLongIsCutBetweenCharacters(t *testing.T) {
	for shift := range 3 {
		m := record{facility: 1, time: time.Unix(0, 0), text: strings.Repeat("x", shift) + strings.Repeat("€", 3000)}
		for i := range 40 {
			m.data = append(m.data, Param{fmt.Sprint("p", i), strings.Repeat("x", shift) + strings.Repeat("€", 300)})
		}
		b := m.append(nil)
		if len(b) > longest || len(b) < longest-3 || !utf8.Valid(b) {
			t.Errorf("it became %d bytes, text %v", len(b), utf8.Valid(b))
		}
		if data := (*parse(t, b).StructuredData)[dataID]; len(data) != 3 || !strings.HasSuffix(data["p0"], "€") {
			t.Errorf("%d of 40 parameters are left: %v", len(data), data)
		}
	}
}

func TestTheLogHandlerKeepsTheRulesOfSlog(t *testing.T) {
	w := writer(t)
	err := slogtest.TestHandler(w.Handler(slog.LevelDebug), func() []map[string]any {
		var all []map[string]any
		for len(w.queue) > 0 {
			m := parse(t, <-w.queue)
			one := map[string]any{slog.LevelKey: *m.Severity, slog.MessageKey: *m.Message}
			if m.Timestamp != nil {
				one[slog.TimeKey] = *m.Timestamp
			}
			if m.StructuredData != nil {
				for k, v := range (*m.StructuredData)[dataID] {
					in := one
					parts := strings.Split(k, ".")
					for _, g := range parts[:len(parts)-1] {
						if in[g] == nil {
							in[g] = map[string]any{}
						}
						in = in[g].(map[string]any)
					}
					in[parts[len(parts)-1]] = v
				}
			}
			all = append(all, one)
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLevelsAreSeverities(t *testing.T) {
	w := writer(t)
	log := slog.New(w.Handler(nil))
	log.Debug("not this")
	log.Info("a", "at", time.Unix(0, 0))
	log.Warn("b")
	log.Error("c", "err", errors.New("gone"))
	log.Log(t.Context(), slog.LevelError+4, "d")
	var got []string
	for len(w.queue) > 0 {
		m := parse(t, <-w.queue)
		got = append(got, fmt.Sprintf("%d %s %s %v", *m.Severity, *m.MsgID, *m.Message, m.StructuredData))
	}
	want := []string{"6 log a", "4 log b", "3 log c", "3 log d"}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestAnEmptyAttributeIsNone(t *testing.T) {
	w := writer(t)
	slog.New(w.Handler(nil)).WithGroup("g").Info("x", slog.Attr{})
	if m := parse(t, <-w.queue); m.StructuredData != nil {
		t.Errorf("it became %v", *m.StructuredData)
	}
}

func TestAFullQueueDropsAndCountsAndNeverWaits(t *testing.T) {
	w := writer(t)
	for range queued + 7 {
		w.Event(time.Now(), Info, "x", "y")
	}
	if w.Dropped() != 7 {
		t.Errorf("%d were dropped", w.Dropped())
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Settings{
		{Network: "carrier pigeon", Address: "a"}, {Network: "udp"}, {Network: "udp", Address: ":514"}, {Network: "udp", Address: "a:b"}, {Network: "tcp", Address: "a:0"},
		{Network: "tcp", Address: "a:99999"}, {Network: "udp", Address: "a", CA: empty}, {Network: "tls", Address: "a", CA: empty}, {Network: "tls", Address: "a", CA: empty + "x"},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	for in, want := range map[string]string{"a": "a:514", "a:1514": "a:1514", "::1": "[::1]:514", "[::1]": "[::1]:514", "[::1]:99": "[::1]:99"} {
		if w, err := New(Settings{Network: "udp", Address: in}); err != nil || w.address != want {
			t.Errorf("%s leads to %v, %v", in, w, err)
		}
	}
	if w, err := New(Settings{Network: "tls", Address: "a"}); err != nil || w.address != "a:6514" || w.tls.ServerName != "a" {
		t.Errorf("tls leads to %+v, %v", w, err)
	}
}

// run runs a Writer for the length of a test.
func run(t *testing.T, s Settings) (w *Writer, stop func()) {
	t.Helper()
	s.Host, s.App = "gate", "remote-monitor"
	w, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("it did not end")
		}
	}
	t.Cleanup(stop)
	return w, stop
}

func TestOverUDP(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, stop := run(t, Settings{Network: "udp", Address: l.LocalAddr().String()})
	buf := make([]byte, 65536)
	read := func() string {
		t.Helper()
		l.SetReadDeadline(time.Now().Add(patience))
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		return *parse(t, buf[:n]).Message
	}
	for i := range 20 {
		w.Event(time.Now(), Info, "x", strconv.Itoa(i))
		if got := read(); got != strconv.Itoa(i) {
			t.Fatalf("message %d is %q", i, got)
		}
	}
	w.Event(time.Now(), Info, "x", "the last")
	stop()
	if got := read(); got != "the last" {
		t.Errorf("when it stops it says %q", got)
	}
}

func TestOverUDPWhatTheNetworkRefusedIsSentAgain(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(lines, 10)
	w, _ := run(t, Settings{Network: "udp", Address: l.LocalAddr().String(), Log: slog.New(slog.NewTextHandler(said, nil))})
	l.Close()
	w.Event(time.Now(), Info, "x", "into the void") // that nobody listens is told with the next one only
	w.Event(time.Now(), Info, "x", "1")
	w.Event(time.Now(), Info, "x", "2")
	if s := <-said; !strings.Contains(s, "syslog receiver is away") {
		t.Errorf("the log says %s", s)
	}
	if l, err = net.ListenPacket("udp", l.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	buf := make([]byte, 65536)
	for _, want := range []string{"1", "2"} {
		l.SetReadDeadline(time.Now().Add(patience))
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := *parse(t, buf[:n]).Message; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

func TestOverUDPAReceiverThatRefusesIsNotBackWithEachMessage(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(lines, 100)
	w, _ := run(t, Settings{Network: "udp", Address: l.LocalAddr().String(), Log: slog.New(slog.NewTextHandler(said, nil))})
	l.Close()
	// Long enough for two more tries: the first of each looks as if it arrived.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(4 * time.Second); ; {
		select {
		case <-tick.C:
			w.Event(time.Now(), Info, "x", "into the void")
			continue
		case <-end:
		}
		break
	}
	if n := len(said); n != 1 {
		for range n {
			t.Log(<-said)
		}
		t.Errorf("the log has %d lines, want one", n)
	}
	if l, err = net.ListenPacket("udp", l.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	<-said
	for end := time.After(patience); ; {
		select {
		case <-tick.C:
			w.Event(time.Now(), Info, "x", "heard")
			continue
		case s := <-said:
			if !strings.Contains(s, "syslog receiver is back") {
				t.Errorf("the log says %s", s)
			}
		case <-end:
			t.Error("the log does not say that it is back")
		}
		break
	}
}

func TestWhatWaitsAtTheEndIsStillSent(t *testing.T) {
	for _, connected := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w, err := New(Settings{Network: "tcp", Address: l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if !connected {
			cancel()
		}
		for i := range 300 {
			w.Event(time.Now(), Info, "x", strconv.Itoa(i))
		}
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		c, r := accept(t, l)
		for i := range 300 {
			if got := *counted(t, c, r).Message; got != strconv.Itoa(i) {
				t.Fatalf("connected %v: message %d is %q", connected, i, got)
			}
			cancel() // with all but the first still to come
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// counted reads messages with their length before them.
func counted(t *testing.T, c net.Conn, r *bufio.Reader) *rfc5424.SyslogMessage {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	length, err := r.ReadString(' ')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
	if err != nil || n > longest {
		t.Fatalf("a length of %q", length)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}

func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func TestOverTCPAReceiverThatWasAwayMissesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(lines, 10)
	w, stop := run(t, Settings{Network: "tcp", Address: l.Addr().String(), Log: slog.New(slog.NewTextHandler(said, nil))})
	c, r := accept(t, l)
	w.Event(time.Now(), Info, "x", "line one\nand two")
	if got := *counted(t, c, r).Message; got != "line one and two" {
		t.Errorf("the first is %q", got)
	}
	// It goes away. The writer notices by itself, and what is said then waits.
	l.Close()
	c.Close()
	if s := <-said; !strings.Contains(s, "syslog receiver is away") {
		t.Errorf("the log says %s", s)
	}
	for i := range 5 {
		w.Event(time.Now(), Info, "x", strconv.Itoa(i))
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, r = accept(t, l)
	var got []string
	for range 5 {
		got = append(got, *counted(t, c, r).Message)
	}
	if d := cmp.Diff([]string{"0", "1", "2", "3", "4"}, got); d != "" {
		t.Errorf("after it was away (-want +got):\n%s", d)
	}
	w.Event(time.Now(), Info, "x", "the last")
	stop()
	if got := *counted(t, c, r).Message; got != "the last" {
		t.Errorf("when it stops it says %q", got)
	}
	if s := <-said; !strings.Contains(s, "syslog receiver is back") {
		t.Errorf("the log says %s", s)
	}
}

// lines is a log that can be waited for.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func TestWhatWasDroppedIsToldWhenThereIsRoomAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, err := New(Settings{Network: "tcp", Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	for range queued + 3 {
		w.Event(time.Now(), Info, "x", "y")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	c, r := accept(t, l)
	for range queued + 1 {
		if m := counted(t, c, r); *m.MsgID == "dropped" {
			if *m.Message != "3 messages were dropped: the receiver was away or slow" || (*m.StructuredData)[dataID]["messages"] != "3" {
				t.Errorf("it says %q", *m.Message)
			}
			cancel()
			<-done
			return
		}
	}
	t.Error("it is not told")
	cancel()
	<-done
}

func TestOverTLSTheReceiverIsChecked(t *testing.T) {
	cert, authority := certificate(t)
	_, another := certificate(t)
	for _, x := range []struct {
		name, authority string
		trusted         bool
	}{{"vouched for", authority, true}, {"vouched for by nobody", "", false}, {"not vouched for by this one", another, false}} {
		t.Run(x.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
			if err != nil {
				t.Fatal(err)
			}
			w, _ := run(t, Settings{Network: "tls", Address: l.Addr().String(), CA: x.authority})
			w.Event(time.Now(), Err, "x", "over tls")
			c, r := accept(t, l)
			l.Close()
			if x.trusted {
				if got := *counted(t, c, r).Message; got != "over tls" {
					t.Errorf("it says %q", got)
				}
				return
			}
			c.SetReadDeadline(time.Now().Add(patience))
			if _, err := r.ReadByte(); err == nil {
				t.Error("something was said to a receiver that nobody vouches for")
			}
		})
	}
}

// certificate makes one for 127.0.0.1 and a file of the authority that vouches for it: itself.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

func BenchmarkEvent(b *testing.B) {
	w := writer(b)
	b.ReportAllocs()
	for b.Loop() {
		w.Event(time.Time{}, Alert, "alarm", "Hall motion: 2 pulses in 30 s", Param{"zone", "hall"}, Param{"state", "alarm"})
		select {
		case <-w.queue:
		default:
		}
	}
}
