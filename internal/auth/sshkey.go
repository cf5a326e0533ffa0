package auth

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

const (
	maxSSHKey = 16 << 10 // bytes of text
	minRSA    = 2048     // bits; ssh itself bounds it above
)

// sshTypes are the kinds of key that open an account: no DSA, no certificates.
var sshTypes = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoRSA: true, ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true,
}

// SSHKey is the user whom an SSH key belongs to, or fault.Unauthenticated.
func (a *Auth) SSHKey(ctx context.Context, key ssh.PublicKey) (fleet.Actor, error) {
	actor, err := a.Store.SSHKeyActor(ctx, ssh.FingerprintSHA256(key))
	if fault.Is(err, fault.NotFound) {
		return fleet.Actor{}, fault.New(fault.Unauthenticated, "nobody here has this SSH key").
			WithHint("add it: dunlin key add FILE")
	}
	return actor, err
}

// ParseSSHKey reads one public key as it stands in a .pub file. normalised is the line without options and with
// single spaces, fingerprint what ssh-keygen -l shows. Anything else than one sound public key is fault.Invalid.
func ParseSSHKey(text string) (normalised, fingerprint string, err error) {
	text = strings.TrimSpace(text)
	switch {
	case isPrivate(text):
		return "", "", fault.New(fault.Invalid, "this is a PRIVATE key: it must never leave your computer").
			WithHint("send the .pub file beside it; if this one went over a network you do not trust, make a new pair with ssh-keygen")
	case text == "":
		return "", "", invalidSSHKey("the SSH key is empty")
	case len(text) > maxSSHKey:
		return "", "", invalidSSHKey("the SSH key is too long")
	case strings.ContainsAny(text, "\r\n"):
		return "", "", invalidSSHKey("the SSH key has several lines")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return "", "", invalidSSHKey("this is not an SSH public key")
	}
	if len(options) > 0 {
		return "", "", invalidSSHKey("an SSH key cannot have options here")
	}
	if !sshTypes[key.Type()] {
		return "", "", fault.Newf(fault.Invalid, "SSH keys of type %s are not taken", key.Type()).
			WithHint("make one with: ssh-keygen -t ed25519")
	}
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
			return "", "", fault.Newf(fault.Invalid, "an RSA key of %d bits is too short, %d are the least", r.N.BitLen(), minRSA).
				WithHint("make one with: ssh-keygen -t ed25519")
		}
	}
	normalised = key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal())
	comment = strings.Join(strings.FieldsFunc(comment, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == unicode.ReplacementChar
	}), " ")
	if comment != "" {
		normalised += " " + comment
	}
	return normalised, ssh.FingerprintSHA256(key), nil
}

// isPrivate knows the private keys of OpenSSH, OpenSSL and PuTTY, whole or in pieces.
func isPrivate(text string) bool {
	return strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "PuTTY-User-Key-File") ||
		strings.HasPrefix(text, "b3BlbnNzaC1rZXktdjE") // "openssh-key-v1", without its frame
}

func invalidSSHKey(message string) error {
	return fault.New(fault.Invalid, message).WithHint("give the one line of a .pub file, for example ~/.ssh/id_ed25519.pub")
}
