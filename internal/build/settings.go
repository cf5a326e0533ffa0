package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// maxSecret bounds one build secret; BuildKit refuses larger ones.
const maxSecret = 500 << 10

// settingsFolders hold a project's build settings; the second is the old name.
var settingsFolders = [...]string{".balena", ".resin"}

// login is the account at a private registry.
type login struct{ username, password string }

// settings is what .balena says about a project's build.
type settings struct {
	variables map[string]map[string]string // by service; "" for all
	secrets   map[string]map[string][]byte // by service; "" for all, then by path below /run/secrets
	logins    map[string]login
}

// secretFiles are the patterns of files that a build context never shows.
func secretFiles() []string {
	var p []string
	for _, f := range settingsFolders {
		p = append(p, f+"/secrets", f+"/registry-secrets.*")
	}
	return p
}

// document reads the first of several names a YAML or JSON file may have.
func (t *tree) document(names ...string) (name string, n *node, err error) {
	for _, name := range names {
		text, ok, err := t.read(name)
		if err != nil {
			return name, nil, err
		}
		if ok {
			n, err := parseYAML(name, text)
			return name, n, err
		}
	}
	return "", nil, nil
}

// contract reads balena.yml or contract.yml.
func (t *tree) contract(names ...string) (contract json.RawMessage, version string, err error) {
	name, n, err := t.document(names...)
	if n == nil || err != nil {
		return nil, "", err
	}
	if n.kind != mapNode {
		return nil, "", at(name, n.line, "a contract is a map of keys to values")
	}
	if v, ok := n.get("version").text(); ok {
		if _, err := fleet.ParseVersion(v); err != nil {
			return nil, "", at(name, n.lineAt("version"), "%s", fault.Message(err)).WithHint(fault.Hint(err))
		}
		version = v
	}
	m := n.plain().(map[string]any)
	if version != "" {
		m["version"] = version // 1.10 would otherwise be a number, and another one
	}
	contract, err = json.Marshal(m)
	if err != nil {
		return nil, "", fmt.Errorf("write the contract of %s as JSON: %w", name, err)
	}
	return contract, version, nil
}

func (t *tree) settings() (settings, error) {
	s := settings{variables: map[string]map[string]string{}, secrets: map[string]map[string][]byte{}, logins: map[string]login{}}
	for _, folder := range settingsFolders {
		if !t.folder(folder) {
			continue
		}
		name, n, err := t.document(folder+"/balena.yml", folder+"/balena.yaml", folder+"/balena.json")
		if err != nil {
			return s, err
		}
		if n != nil {
			if err := t.buildSettings(&s, folder, name, n); err != nil {
				return s, err
			}
		}
		name, n, err = t.document(loginFiles(folder)...)
		if err != nil {
			// What a parser says of a file quotes it, and this one holds passwords.
			return s, fault.Newf(fault.Invalid, "%s cannot be read as JSON or YAML", name)
		}
		if n != nil {
			if err := s.registrySecrets(name, n); err != nil {
				return s, err
			}
		}
		break
	}
	return s, nil
}

// loginFiles are the names under which a settings folder may have the accounts at registries.
func loginFiles(folder string) []string {
	return []string{folder + "/registry-secrets.json", folder + "/registry-secrets.yml", folder + "/registry-secrets.yaml"}
}

// forgetLogins removes the files with the accounts at registries. A link is removed, not what it leads to.
func (t *tree) forgetLogins() error {
	for _, folder := range settingsFolders {
		for _, name := range loginFiles(folder) {
			if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && t.has(name) {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}

func (t *tree) buildSettings(s *settings, folder, name string, n *node) error {
	err := forServices(name, n.get("build-variables"), func(service string, n *node) error {
		into := map[string]string{}
		s.variables[service] = into
		for _, p := range n.pairs {
			v, ok := p.value.text()
			if !ok {
				return at(name, p.line, "build variable %q has no value", p.key)
			}
			into[p.key] = v
		}
		for _, i := range n.items {
			text, _ := i.text()
			k, v, ok := strings.Cut(text, "=")
			if !ok || k == "" {
				return at(name, i.line, "a build variable is written NAME=value")
			}
			into[k] = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	return forServices(name, n.get("build-secrets"), func(service string, n *node) error {
		into := map[string][]byte{}
		s.secrets[service] = into
		for _, i := range n.items {
			source, _ := i.get("source").text()
			dest, _ := i.get("dest").text()
			if source == "" || dest == "" {
				return at(name, i.line, "a build secret needs source and dest")
			}
			file, ok := join(folder+"/secrets", source)
			if !ok || !strings.HasPrefix(file, folder+"/secrets/") {
				return at(name, i.line, "build secret %q is outside %s/secrets", source, folder)
			}
			dest = path.Clean(strings.TrimPrefix(dest, "/run/secrets/"))
			if !filepath.IsLocal(dest) || dest == "." || strings.ContainsAny(dest, ", \t\"'\n\\") {
				return at(name, i.line, "build secret %q cannot be put at %q", source, dest).WithHint("name a file below /run/secrets")
			}
			text, ok, err := t.readUpTo(file, maxSecret)
			if err != nil {
				return err
			}
			if !ok {
				return at(name, i.line, "build secret %s is not there", file)
			}
			into[dest] = text
		}
		return nil
	})
}

// forServices walks {global: …, services: {name: …}}.
func forServices(file string, n *node, each func(service string, n *node) error) error {
	if n == nil {
		return nil
	}
	for _, p := range n.pairs {
		switch {
		case p.key == "global":
			if err := each("", p.value); err != nil {
				return err
			}
		case p.key == "services" && p.value.kind == mapNode:
			for _, s := range p.value.pairs {
				if err := each(s.key, s.value); err != nil {
					return err
				}
			}
		default:
			return at(file, p.line, "%q is not expected here", p.key).WithHint("there are global and services")
		}
	}
	return nil
}

func (s *settings) registrySecrets(name string, n *node) error {
	for _, p := range n.pairs {
		user, okUser := p.value.get("username").text()
		password, okPassword := p.value.get("password").text()
		if !okUser || !okPassword {
			return at(name, p.line, "registry %q needs username and password", p.key)
		}
		s.logins[registryHost(p.key)] = login{user, password}
	}
	return nil
}

// registryHost is the one spelling of a registry's host: Docker Hub has many.
func registryHost(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ := strings.Cut(s, "/")
	switch host {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com":
		return "index.docker.io"
	}
	return host
}

// both adds what is for one service to what is for all.
func both[V any](m map[string]map[string]V, service string) map[string]V {
	out := map[string]V{}
	for _, k := range []string{"", service} {
		for name, v := range m[k] {
			out[name] = v
		}
	}
	return out
}
