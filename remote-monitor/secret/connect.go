package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of a talk with a Connect server.
const (
	timeout  = 10 * time.Second
	mostBody = 1 << 20
)

// place is a reference taken apart.
type place struct{ vault, item, section, field string }

// String is the reference in full, the key of the cache.
func (p place) String() string {
	parts := []string{p.vault, p.item}
	if p.section != "" {
		parts = append(parts, p.section)
	}
	return reference + strings.Join(append(parts, p.field), "/")
}

// parse takes op://vault/item/field and its variants apart.
func parse(ref, vault string) (place, error) {
	parts := strings.Split(strings.TrimPrefix(ref, reference), "/")
	var p place
	switch len(parts) {
	case 2:
		p = place{vault: vault, item: parts[0], field: parts[1]}
		if vault == "" {
			return p, fmt.Errorf("%s names no vault; write op://vault/item/field, or set OP_CONNECT_VAULT", ref)
		}
	case 3:
		p = place{vault: parts[0], item: parts[1], field: parts[2]}
	case 4:
		p = place{vault: parts[0], item: parts[1], section: parts[2], field: parts[3]}
		if p.section == "" {
			return p, fmt.Errorf("%s has an empty part; want op://vault/item/section/field", ref)
		}
	default:
		return p, fmt.Errorf("%s is no reference; want op://vault/item/field or op://vault/item/section/field", ref)
	}
	if p.vault == "" || p.item == "" || p.field == "" {
		return p, fmt.Errorf("%s has an empty part; want op://vault/item/field", ref)
	}
	if strings.ContainsAny(ref, "\"\\\r\n") {
		return p, fmt.Errorf("%q has quotes in it, which Connect cannot look for; use ids instead of names", ref)
	}
	return p, nil
}

// away is that Connect could not answer, in contrast to an answer that says no.
type away struct{ error }

func (a away) Unwrap() error { return a.error }

// resolve reads a reference from Connect, or from what it said before.
func (r *Resolver) resolve(ctx context.Context, ref string) (string, error) {
	setting := func(names ...string) (string, error) {
		for _, name := range names {
			if v, ok, err := r.plain(name); ok || err != nil {
				return v, err
			}
		}
		return "", nil
	}
	vault, err := setting("OP_CONNECT_VAULT", "OP_VAULT")
	if err != nil {
		return "", err
	}
	p, err := parse(ref, vault)
	if err != nil {
		return "", err
	}
	if v, ok := r.known[p.String()]; ok {
		return v, nil
	}
	host, err := setting("OP_CONNECT_HOST")
	if err != nil {
		return "", err
	}
	token, err := setting("OP_CONNECT_TOKEN")
	if err != nil {
		return "", err
	}
	v, err := "", r.gone
	if r.gone == nil {
		v, err = r.ask(ctx, host, token, p)
	}
	var gone away
	if errors.As(err, &gone) {
		r.gone = err
		if v, ok := r.cached(p); ok {
			r.log().Warn("1Password Connect is away, so a kept secret is used", "reference", p.String(), "err", err)
			r.remember(p, v)
			return v, nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("read %s from 1Password Connect: %w", p, err)
	}
	r.remember(p, v)
	if err := r.keep(p, v); err != nil {
		r.log().Warn("a secret is not kept for when 1Password Connect is away", "reference", p.String(), "err", err)
	}
	return v, nil
}

func (r *Resolver) remember(p place, v string) {
	if r.known == nil {
		r.known = map[string]string{}
	}
	r.known[p.String()] = v
}

// Of Connect's answers, what is used.
type (
	named struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Title string `json:"title"`
	}
	item struct {
		Fields []struct {
			ID      string `json:"id"`
			Label   string `json:"label"`
			Value   string `json:"value"`
			Section *struct {
				ID    string `json:"id"`
				Label string `json:"label"`
			} `json:"section"`
		} `json:"fields"`
		Sections []struct {
			ID    string `json:"id"`
			Label string `json:"label"`
		} `json:"sections"`
	}
)

// ask goes from the vault to the item to the field.
func (r *Resolver) ask(ctx context.Context, host, token string, p place) (string, error) {
	if host == "" || token == "" {
		return "", away{errors.New("OP_CONNECT_HOST and OP_CONNECT_TOKEN are not both set; set them")}
	}
	base, err := url.Parse(host)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return "", errors.New("OP_CONNECT_HOST is no address; want one such as http://connect:8080")
	}
	vault, err := r.find(ctx, base, token, "vault", p.vault, "name", "v1", "vaults")
	if err != nil {
		return "", err
	}
	id, err := r.find(ctx, base, token, "item", p.item, "title", "v1", "vaults", vault, "items")
	if err != nil {
		return "", err
	}
	var it item
	if err := r.get(ctx, base.JoinPath("v1", "vaults", vault, "items", id), token, &it); err != nil {
		return "", err
	}
	return it.value(p)
}

// find is the id of the only vault or item of a name. An id may be given instead of the name.
func (r *Resolver) find(ctx context.Context, base *url.URL, token, what, name, by string, path ...string) (string, error) {
	u := base.JoinPath(path...)
	u.RawQuery = url.Values{"filter": {fmt.Sprintf("%s eq %q", by, name)}}.Encode()
	var all []named
	if err := r.get(ctx, u, token, &all); err != nil {
		return "", err
	}
	switch {
	case len(all) == 1 && all[0].ID != "":
		return all[0].ID, nil
	case len(all) > 1:
		return "", fmt.Errorf("there are %d %ss called %s; use the id of the one that is meant", len(all), what, name)
	case isID(name):
		return name, nil
	default:
		return "", fmt.Errorf("there is no %s called %s that the token may read", what, name)
	}
}

// isID tells 1Password's ids: 26 letters and digits.
func isID(s string) bool {
	return len(s) == 26 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
}

// value is the field of an item by its label or id. Without a section the field that is in none goes first.
func (it item) value(p place) (string, error) {
	labels := map[string]string{}
	for _, s := range it.Sections {
		labels[s.ID] = s.Label
	}
	is := func(want string, names ...string) bool {
		for _, n := range names {
			if n != "" && strings.EqualFold(n, want) {
				return true
			}
		}
		return false
	}
	var loose, sectioned []string
	for _, f := range it.Fields {
		switch {
		case !is(p.field, f.Label, f.ID):
		case f.Section == nil || f.Section.ID == "":
			if p.section == "" {
				loose = append(loose, f.Value)
			}
		case p.section == "" || is(p.section, f.Section.ID, f.Section.Label, labels[f.Section.ID]):
			sectioned = append(sectioned, f.Value)
		}
	}
	found := loose
	if len(found) == 0 {
		found = sectioned
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("the item has no field called %s there", p.field)
	case len(found) > 1:
		return "", fmt.Errorf("the item has %d fields called %s; write op://vault/item/section/field", len(found), p.field)
	case found[0] == "":
		return "", fmt.Errorf("the field %s is empty", p.field)
	}
	return found[0], nil
}

// get asks Connect for JSON.
func (r *Resolver) get(ctx context.Context, u *url.URL, token string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	client := r.Client
	if client == nil {
		// A redirect would carry the token elsewhere.
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	resp, err := client.Do(req)
	if err != nil {
		return away{err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody+1))
	switch {
	case err != nil:
		return away{err}
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return away{fmt.Errorf("it answered %s", resp.Status)}
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("it answered %s; does the token of OP_CONNECT_TOKEN still hold, and may it read this vault?", resp.Status)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("it answered %s", resp.Status)
	case len(body) > mostBody:
		return fmt.Errorf("it answered with more than %d bytes", mostBody)
	}
	if json.Unmarshal(body, to) != nil { // its error may quote what it could not read
		return errors.New("it answered with something that is not its own JSON; is OP_CONNECT_HOST the address of a Connect server?")
	}
	return nil
}
