package auth

import (
	"crypto/dsa" //lint:ignore SA1019 to see it refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

func public(t testing.TB, key any) ssh.PublicKey {
	t.Helper()
	p, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newEd25519(t testing.TB) (ssh.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	p, s, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public(t, p), s
}

// rsaOf is a public key of so many bits; nobody has its private half.
func rsaOf(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: 65537}
}

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func TestASoundSSHKeyIsNormalised(t *testing.T) {
	ed, _ := newEd25519(t)
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want, fingerprint string }{
		{line(ed), line(ed), ssh.FingerprintSHA256(ed)},
		{"  " + line(ed) + "   ada@laptop  of  mine\r\n\n", line(ed) + " ada@laptop of mine", ssh.FingerprintSHA256(ed)},
		{line(ed) + " a\x1b[31mred", line(ed) + " a [31mred", ssh.FingerprintSHA256(ed)},
		{line(public(t, &ec.PublicKey)), line(public(t, &ec.PublicKey)), ssh.FingerprintSHA256(public(t, &ec.PublicKey))},
		{line(public(t, rsaOf(2048))), line(public(t, rsaOf(2048))), ssh.FingerprintSHA256(public(t, rsaOf(2048)))},
	} {
		got, fingerprint, err := ParseSSHKey(c.text)
		if got != c.want || fingerprint != c.fingerprint || err != nil {
			t.Errorf("%q: got %q, %s, %v; want %q", c.text, got, fingerprint, err, c.want)
		}
	}
}

func TestAnUnsoundSSHKeyIsRefusedAndAPrivateOneLoudly(t *testing.T) {
	ed, secret := newEd25519(t)
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(block))
	old := dsa.PublicKey{Y: big.NewInt(5)}
	old.P, old.Q, old.G = new(big.Int).Lsh(big.NewInt(1), 1023), new(big.Int).Lsh(big.NewInt(1), 159), big.NewInt(2)
	signer, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: ed, CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ text, says string }{
		"a private key":               {private, "PRIVATE"},
		"a private key's inside":      {strings.Split(private, "\n")[1], "PRIVATE"},
		"a PuTTY key":                 {"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "PRIVATE"},
		"nothing":                     {" \n", "empty"},
		"a password":                  {"hunter2", "not an SSH public key"},
		"base64 of nothing":           {"ssh-ed25519 AAAA", "not an SSH public key"},
		"an option":                   {`command="sh" ` + line(ed), "options"},
		"two keys":                    {line(ed) + "\n" + line(ed), "several lines"},
		"a key with a line before it": {"# laptop\n" + line(ed), "several lines"},
		"a comment":                   {"# " + line(ed), "not an SSH public key"},
		"DSA":                         {line(public(t, &old)), "ssh-dss"},
		"a certificate":               {line(cert), "cert"},
		"short RSA":                   {line(public(t, rsaOf(1024))), "1024 bits"},
		"RSA one bit too short":       {line(public(t, rsaOf(2047))), "2047 bits"},
		"endless RSA":                 {line(public(t, rsaOf(20000))), "not an SSH public key"},
		"a very long comment":         {line(ed) + " " + strings.Repeat("x", maxSSHKey), "too long"},
	} {
		got, _, err := ParseSSHKey(c.text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) || got != "" {
			t.Errorf("%s: got %q, %v; want invalid with %q", what, got, err, c.says)
		}
	}
}

func TestAnSSHKeyIsItsUsers(t *testing.T) {
	w := newWorld(t)
	key, _ := newEd25519(t)
	text, fingerprint, err := ParseSSHKey(line(key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SSHKey(t.Context(), key); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("an unknown key: %v", err)
	}
	id, err := w.Store.AddSSHKey(t.Context(), store.NewSSHKey{User: w.ada.ID, Title: "laptop", PublicKey: text, Fingerprint: fingerprint})
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.Actor{Kind: fleet.UserActor, Actor: w.ada.Actor, ID: w.ada.ID, Name: "ada"}
	if got, err := w.SSHKey(t.Context(), key); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	w.write(`DELETE FROM ssh_keys WHERE id = $1`, id)
	if _, err := w.SSHKey(t.Context(), key); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a removed key: %v", err)
	}
}

func FuzzParseSSHKey(f *testing.F) {
	key, _ := newEd25519(f)
	for _, s := range []string{line(key), line(key) + " me", "ssh-rsa AAAA", `from="x" ` + line(key), "-----BEGIN OPENSSH PRIVATE KEY-----", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normalised, fingerprint, err := ParseSSHKey(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, same, err := ParseSSHKey(normalised)
		if err != nil || again != normalised || same != fingerprint || strings.ContainsAny(normalised, "\r\n") {
			t.Fatalf("%q became %q and then %q, %v", text, normalised, again, err)
		}
	})
}
