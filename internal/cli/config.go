package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// maxPEM bounds a certificate file, in bytes.
const maxPEM = 1 << 20

// refreshAfter is the age at which a session token is traded for a younger one, so that who works every week
// never has to log in again.
const refreshAfter = 24 * time.Hour

// config is what a log-in leaves behind: one server and how to speak to it.
type config struct {
	URL      string `json:"url,omitempty"`
	Token    string `json:"token,omitempty"`
	Username string `json:"username,omitempty"`
	CA       string `json:"ca,omitempty"` // PEM of the server's own certificate authority
}

func configPath() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", fmt.Errorf("find the folder for configuration: %w", err)
		}
	}
	return filepath.Join(dir, "dunlin", "config.json"), nil
}

// loadConfig reads the saved configuration. None is no error.
func loadConfig() (c config, err error) {
	path, err := configPath()
	if err != nil {
		return c, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fault.Wrap(fault.Internal, err, "cannot read "+path).WithHint("remove that file and log in again")
	}
	return c, nil
}

// saveConfig writes the configuration so that nobody else can read it, and so that it is there whole or not at all.
func saveConfig(c config) error {
	path, err := configPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "config-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save configuration: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// effective is the saved configuration with what the environment says in its place. A saved token and a saved
// authority are for the server they were saved with and no other.
func effective() (c config, saved bool, err error) {
	if c, err = loadConfig(); err != nil {
		return c, false, err
	}
	saved = true
	if env := os.Getenv("DUNLIN_URL"); env != "" {
		u, err := serverURL(env)
		if err != nil {
			return c, false, fmt.Errorf("read DUNLIN_URL: %w", err)
		}
		if u != c.URL {
			c = config{URL: u}
		}
	}
	if env := os.Getenv("DUNLIN_TOKEN"); env != "" {
		c.Token, c.Username, saved = env, "", false
	}
	if env := os.Getenv("DUNLIN_CA"); env != "" {
		if c.CA, err = readCA(env); err != nil {
			return c, false, fmt.Errorf("read DUNLIN_CA: %w", err)
		}
	}
	return c, saved, nil
}

// connect makes a client for the server that somebody is logged in to, and says how it speaks to it.
func (a *app) connect(ctx context.Context, notes io.Writer) (*client.Client, config, error) {
	cfg, saved, err := effective()
	if err != nil {
		return nil, cfg, err
	}
	switch {
	case cfg.URL == "":
		return nil, cfg, fault.New(fault.Unauthenticated, "not logged in to any server").WithHint("log in with `dunlin login URL`")
	case cfg.Token == "":
		return nil, cfg, notLoggedIn("not logged in to " + cfg.URL)
	}
	c, err := a.client(cfg)
	if err != nil {
		return nil, cfg, err
	}
	if a.calls {
		c.HTTP.Transport = &callPrinter{next: c.HTTP.Transport, out: notes}
	}
	if saved && a.stale(cfg.Token) {
		// The old token serves as long as it lives; nothing is lost if this does not work now.
		if token, err := c.Refresh(ctx); err == nil {
			cfg.Token, c.Token = token, token
			if err := saveConfig(cfg); err != nil {
				_, _ = fmt.Fprintln(notes, "note: "+err.Error())
			}
		}
	}
	return c, cfg, nil
}

// expectContinue is how long a server may think about whether it wants a long body, before it is sent unasked.
const expectContinue = 5 * time.Second

// client makes a client of a configuration. It trusts the system's authorities, and the server's own.
func (a *app) client(cfg config) (*client.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone() // documented type
	transport.ExpectContinueTimeout = expectContinue
	if cfg.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM([]byte(cfg.CA))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &client.Client{
		URL: cfg.URL, Token: cfg.Token, UserAgent: "dunlin/" + a.version, HTTP: &http.Client{Transport: transport},
	}, nil
}

// stale reports whether token is a session token, a JWT, made more than refreshAfter ago. API keys never are.
func (a *app) stale(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		IssuedAt int64 `json:"iat"`
	}
	return err == nil && json.Unmarshal(payload, &claims) == nil && claims.IssuedAt > 0 &&
		a.now().Sub(time.Unix(claims.IssuedAt, 0)) > refreshAfter
}

// serverURL completes what people type for a server: without a scheme it is https, and http on this machine.
func serverURL(s string) (string, error) {
	typed := s
	if !strings.Contains(s, "://") {
		scheme := "https://"
		if u, err := url.Parse("//" + s); err == nil && loopback(u.Hostname()) {
			scheme = "http://"
		}
		s = scheme + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return "", fault.Newf(fault.Invalid, "%q is not the address of a server", typed).WithHint("write it as https://dunlin.example.com")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readCA reads certificates in PEM.
func readCA(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "cannot read the certificate")
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "cannot read the certificate")
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return "", fault.Newf(fault.Invalid, "%s has no certificate in PEM form", path)
	}
	return string(b), nil
}
