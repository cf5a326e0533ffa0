package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	day           = 24 * time.Hour
	authorityLife = 20 * 365 * day
	// serverLife is the most that clients take from any authority.
	serverLife = 397 * day
	// renewBefore leaves a month to notice that renewing fails.
	renewBefore = 30 * day
	// earlier is how far a device's clock may be behind: a Pi has none that runs without power.
	earlier = day
)

// authority is the private authority: one certificate that signs the server's.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the authority or makes it, whole or not at all. One that is there and cannot be read is never
// replaced: every device trusts it.
func openAuthority(path string, now time.Time) (*authority, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = newAuthority(now); err == nil {
			err = renameio.WriteFile(path, text, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	ca, err := parseAuthority(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, fmt.Sprintf("the certificate authority in %s is damaged", path)).
			WithHint("restore the file from a backup; without it, devices have to be told to trust a new one")
	}
	if now.After(ca.cert.NotAfter) {
		return nil, fault.Newf(fault.Invalid, "the certificate authority in %s ended on %s", path, ca.cert.NotAfter.Format(time.DateOnly)).
			WithHint("check the clock; if it is right, move the file away, and devices have to be told to trust a new one")
	}
	return ca, nil
}

func newAuthority(now time.Time) ([]byte, error) {
	if now.Year() < 2025 {
		return nil, fault.Newf(fault.Invalid, "the clock says %s, and a certificate made by it would have ended already", now.Format(time.DateOnly)).
			WithHint("start again when the clock is right")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 4)
	rand.Read(serial) // it never fails
	template := &x509.Certificate{
		// The name tells two installations apart in a browser's list.
		Subject:               pkix.Name{Organization: []string{"Dunlin"}, CommonName: "Dunlin private authority " + hex.EncodeToString(serial)},
		NotBefore:             now.Add(-earlier),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return encode(der, key)
}

func parseAuthority(text []byte) (*authority, error) {
	der, keyDER, err := blocks(text)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) || !cert.IsCA {
		return nil, errors.New("its key is not its certificate's")
	}
	return &authority{cert: cert, key: key}, nil
}

func (ca *authority) rootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// suits reports whether a certificate is this authority's, for exactly these hosts, and not due.
func (ca *authority) suits(leaf *x509.Certificate, h hosts, now time.Time) bool {
	ips := make([]string, len(leaf.IPAddresses))
	for i, ip := range leaf.IPAddresses {
		ips[i] = ip.String()
	}
	due := leaf.NotAfter
	if leaf.NotAfter.Before(ca.cert.NotAfter) { // else it lives as long as it can
		due = due.Add(-renewBefore)
	}
	return leaf.CheckSignatureFrom(ca.cert) == nil && slices.Equal(leaf.DNSNames, h.names) && slices.Equal(ips, h.ips) &&
		!now.Before(leaf.NotBefore) && now.Before(due)
}

// issue makes a certificate with a key of its own and keeps both, readable by the owner alone.
func (ca *authority) issue(path string, h hosts, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	end := now.Add(serverLife - earlier)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Dunlin"}, CommonName: "Dunlin server"},
		NotBefore:             now.Add(-earlier),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              h.names,
	}
	for _, ip := range h.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	text, err := encode(der, key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if err := renameio.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("keep certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &pair, nil
}

// hosts are what a certificate is for, sorted.
type hosts struct{ names, ips []string }

var (
	label    = `[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?`
	hostName = regexp.MustCompile(`^(?:\*\.` + label + `\.)?` + label + `(?:\.` + label + `)*\.?$`)
)

// parseHosts reads host names and addresses, with brackets around IPv6 or without, and without ports.
func parseHosts(given []string) (h hosts, err error) {
	for _, host := range given {
		host = strings.ToLower(strings.TrimSpace(host))
		if ip := net.ParseIP(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); ip != nil {
			h.ips = append(h.ips, ip.String())
			continue
		}
		if !hostName.MatchString(host) || len(host) > 253 {
			return hosts{}, fault.Newf(fault.Invalid, "%q is neither a host name nor an IP address", host).
				WithHint("write it as in 192.168.1.10:8443, without https://; write names with other letters in punycode (xn--…)")
		}
		h.names = append(h.names, strings.TrimSuffix(host, "."))
	}
	if len(given) == 0 {
		return hosts{}, fault.New(fault.Invalid, "a certificate needs at least one host name or address")
	}
	slices.Sort(h.names)
	slices.Sort(h.ips)
	h.names, h.ips = slices.Compact(h.names), slices.Compact(h.ips)
	return h, nil
}
