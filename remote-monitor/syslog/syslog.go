// Package syslog owns sending log lines and events to a syslog receiver: RFC 5424 messages over UDP (RFC 5426), TCP with
// octet counting (RFC 6587) and TLS (RFC 5425). It does not own what is worth a line.
package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// How patient a Writer is.
const (
	queued       = 1000
	connectIn    = 10 * time.Second
	writeIn      = 10 * time.Second
	firstPause   = time.Second
	longestPause = 30 * time.Second
	flushIn      = time.Second      // what is left when the program stops
	askAgain     = 10 * time.Minute // a name may get another address, and UDP never notices
	refusedIn    = time.Second      // what the network has to say of a datagram is known by then
)

// Settings say where messages go and from whom they come.
type Settings struct {
	Network string // udp, tcp or tls
	Address string // host, or host:port; the port is 514, of tls 6514
	CA      string // file of the authorities that vouch for a tls receiver; empty: the system's
	Host    string // name of this computer; empty: what it calls itself
	App     string // name of this program
	// Log is told when the receiver is away and when it is back; it must not lead here. Nil: nobody is.
	Log *slog.Logger
}

// Writer sends messages in the order they came. What there is no room for while the receiver is away is dropped and
// counted; nothing that is called on a Writer ever waits for the network. Syslog has no answers: what the kernel had
// taken when a connection broke may be lost.
type Writer struct {
	network, address string
	tls              *tls.Config
	base             record
	log              *slog.Logger
	queue            chan []byte
	dropped          atomic.Uint64
	told             uint64 // of dropped; Run's
}

// New checks the settings. Nothing is sent until Run runs; messages are kept until then.
func New(s Settings) (*Writer, error) {
	port := "514"
	w := &Writer{network: s.Network, log: s.Log, queue: make(chan []byte, queued)}
	switch s.Network {
	case "udp", "tcp":
		if s.CA != "" {
			return nil, fmt.Errorf("cannot check a syslog receiver over %s: authorities are for tls; take them out, or use tls", s.Network)
		}
	case "tls":
		w.network, port = "tcp", "6514"
		w.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return nil, fmt.Errorf("cannot send syslog over %q: want udp, tcp or tls", s.Network)
	}
	host, given, err := net.SplitHostPort(s.Address)
	if err != nil {
		host, given = s.Address, port
		if inner, ok := strings.CutPrefix(host, "["); ok {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 || host == "" {
		return nil, fmt.Errorf("cannot send syslog to %q: want a host, or host:port", s.Address)
	}
	w.address = net.JoinHostPort(host, given)
	if w.tls != nil {
		w.tls.ServerName = host
	}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("read the authorities for syslog: %w", err)
		}
		w.tls.RootCAs = x509.NewCertPool()
		if !w.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot use %s as authorities for syslog: there is no certificate in it", s.CA)
		}
	}
	if s.Host == "" {
		s.Host, _ = os.Hostname()
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	// Facility 1 is user-level messages.
	w.base = record{facility: 1, host: s.Host, app: s.App, process: strconv.Itoa(os.Getpid())}
	return w, nil
}

// Event sends one event: kind is its MSGID, text is for people, data for machines. It never waits.
func (w *Writer) Event(at time.Time, s Severity, kind, text string, data ...Param) {
	w.put(at, s, kind, text, data)
}

// Dropped counts the messages there was no room for.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

func (w *Writer) put(at time.Time, s Severity, kind, text string, data []Param) {
	m := w.base
	m.time, m.severity, m.kind, m.text, m.data = at, max(Emergency, min(s, Debug)), kind, text, data
	select {
	case w.queue <- m.append(nil):
	default:
		w.dropped.Add(1)
	}
}

// Run sends until ctx ends, connecting again and again, and then what is left, for a second at most. It always returns
// nil: a receiver that is away is no reason to end.
func (w *Writer) Run(ctx context.Context) error {
	var next []byte // taken from the queue and not sent yet
	pause := firstPause
	away := false
	for {
		c, err := w.dial(ctx)
		if err == nil {
			next, err = w.send(ctx, c, next, func() {
				if pause = firstPause; away {
					w.log.Info("syslog receiver is back", "address", w.address)
					away = false
				}
			})
		}
		if ctx.Err() != nil {
			w.last(ctx, next)
			return nil
		}
		if err == nil {
			continue // only a new look at the name
		}
		if !away {
			w.log.Warn("syslog receiver is away", "address", w.address, "err", err)
			away = true
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			w.last(ctx, next)
			return nil
		case <-wait.C:
		}
		pause = min(2*pause, longestPause)
	}
}

func (w *Writer) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	if w.tls != nil {
		return (&tls.Dialer{Config: w.tls}).DialContext(ctx, w.network, w.address)
	}
	return new(net.Dialer).DialContext(ctx, w.network, w.address)
}

// errGone tells that the receiver closed the connection.
var errGone = errors.New("the receiver closed the connection")

// send sends over one connection until it breaks, ctx ends or it is time to look the name up again. What may not have
// arrived is returned, to be sent once more: twice is better than never. It calls good when the receiver takes what is
// sent: a connection that stands says so, and of datagrams nobody says more than that they were not refused.
func (w *Writer) send(ctx context.Context, c net.Conn, next []byte, good func()) (left []byte, err error) {
	began := time.Now()
	gone := make(chan struct{})
	stream := w.network == "tcp"
	if stream {
		// A receiver says nothing; what can be read is that it is gone, and a write would notice one message too late.
		go func() {
			defer close(gone)
			buf := make([]byte, 512)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	} else {
		close(gone)
	}
	defer func() {
		c.Close()
		<-gone
	}()
	watch := gone
	if !stream {
		watch = nil
	}
	again := time.NewTimer(askAgain)
	defer again.Stop()
	for {
		if next == nil {
			select {
			case <-watch:
				return nil, errGone
			default:
			}
			select {
			case <-watch:
				return nil, errGone
			case <-again.C:
				return nil, nil
			case next = <-w.queue:
			case <-ctx.Done():
				w.flush(c, nil)
				return nil, nil
			}
		}
		if err := w.write(c, next, writeIn); err != nil {
			return next, err
		}
		next = nil
		if stream || time.Since(began) >= refusedIn {
			good()
		}
		if now := w.dropped.Load(); now != w.told && len(w.queue) < queued/2 {
			m := w.base
			m.time, m.severity, m.kind = time.Now(), Warning, "dropped"
			m.text = fmt.Sprintf("%d messages were dropped: the receiver was away or slow", now-w.told)
			m.data = []Param{{"messages", strconv.FormatUint(now-w.told, 10)}}
			w.told, next = now, m.append(nil)
		}
	}
}

// last tries once more to send what is left, if anything is, when there was no connection at the end.
func (w *Writer) last(ctx context.Context, next []byte) {
	if next == nil && len(w.queue) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushIn)
	defer cancel()
	c, err := w.dial(ctx)
	if err != nil {
		return
	}
	defer c.Close()
	w.flush(c, next)
}

// flush sends what waits, and nothing that comes later.
func (w *Writer) flush(c net.Conn, next []byte) {
	end := time.Now().Add(flushIn)
	for n := len(w.queue); ; n-- {
		if next != nil && w.write(c, next, time.Until(end)) != nil {
			return
		}
		if n == 0 {
			return
		}
		select {
		case next = <-w.queue:
		default:
			return
		}
	}
}

// write sends one message: a datagram, or with its length before it.
func (w *Writer) write(c net.Conn, m []byte, within time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if w.network == "tcp" {
		m = append(strconv.AppendInt(nil, int64(len(m)), 10), append([]byte{' '}, m...)...)
	}
	_, err := c.Write(m)
	return err
}
