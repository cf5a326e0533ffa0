package auth

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestScopesAreReadInAllTheirForms(t *testing.T) {
	for query, want := range map[string][]string{
		"":                             nil,
		"scope=a&scope=b":              {"a", "b"},
		"scope=a+b&scope=":             {"a", "b"},
		"scope[1]=b&scope[0]=a":        {"a", "b"},
		"scope[10]=c&scope[9]=b":       {"b", "c"},
		"scope%5B0%5D=a":               {"a"},
		"scope[]=a&scope[]=b":          {"a", "b"},
		"scope[0]=b&scope=a":           {"a", "b"},
		"scope[x]=a&scope[=b&scopes=c": nil,
		"scope[-1]=a&scope[99999999]=": nil,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, ScopesOf(values)); diff != "" {
			t.Errorf("%s:\n%s", query, diff)
		}
	}
}

func (w *world) claims(token string) tokenClaims {
	w.t.Helper()
	var c tokenClaims
	_, err := jwt.ParseWithClaims(token, &c, func(j *jwt.Token) (any, error) {
		if j.Header["kid"] != w.Keys.id {
			w.t.Errorf("key id %v, want %s", j.Header["kid"], w.Keys.id)
		}
		return w.Keys.PublicKey(), nil
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(w.Now))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestARegistryTokenCarriesNoMoreThanTheActorMay(t *testing.T) {
	w := newWorld(t)
	ada := fleet.Actor{Kind: fleet.UserActor, ID: w.ada.ID, Name: "ada"}
	eve := fleet.Actor{Kind: fleet.UserActor, ID: w.eve.ID, Name: "eve"}
	porch := fleet.Actor{Kind: fleet.DeviceActor, ID: w.porch.ID, Fleet: w.home.ID, Name: w.porch.UUID}
	// A device that says it is of another fleet, and a sibling of the same owner's.
	liar := fleet.Actor{Kind: fleet.DeviceActor, ID: w.trap.ID, Fleet: w.home.ID}
	gate := fleet.Actor{Kind: fleet.DeviceActor, ID: w.gate.ID, Fleet: w.barn.ID}
	provisioning := fleet.Actor{Kind: fleet.FleetActor, ID: w.home.ID, Fleet: w.home.ID}
	none, pull, both := []string{}, []string{"pull"}, []string{"pull", "push"}
	for _, c := range []struct {
		what  string
		actor fleet.Actor
		scope string
		want  []string
	}{
		{"a user, an image being made", ada, w.running + ":pull,push", both},
		{"a user, a stage of it", ada, w.running + "-3:push,pull", []string{"push", "pull"}},
		{"a user, pull only", ada, w.running + ":pull", pull},
		{"a user, a finished image", ada, w.done + ":pull,push", pull},
		{"a user, everything", ada, w.running + ":pull,push,delete,*", both},
		{"a user, another tenant's image", ada, w.bad + ":pull,push", none},
		{"the other tenant", eve, w.bad + ":pull,push", both},
		{"the other tenant, ada's image", eve, w.done + ":pull", none},
		{"a device, its fleet's image", porch, w.done + ":pull,push", pull},
		{"a device, an image being made", porch, w.running + ":pull,push", pull},
		{"a device, another tenant's image", porch, w.bad + ":pull", none},
		{"a device of another fleet", gate, w.done + ":pull", none},
		{"a device with a false fleet", liar, w.done + ":pull", none},
		{"a provisioning key", provisioning, w.done + ":pull,push", none},
		{"nobody", fleet.Actor{}, w.done + ":pull,push", none},
		{"nobody with a user's number", fleet.Actor{ID: w.ada.ID}, w.done + ":pull", none},
		{"no such repository", ada, "v2/" + strings.Repeat("9", 32) + ":pull,push", none},
		{"a repository that is a path", ada, w.running + "/../x:pull,push", none},
		{"a repository of another form", ada, "ada/home:pull,push", none},
		{"a repository with a host", ada, "host:5000/" + w.running + ":pull", none},
		{"nothing asked", ada, w.running + ":", none},
	} {
		token, err := w.RegistryToken(t.Context(), c.actor, []string{"repository:" + c.scope})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		name := c.scope[:strings.LastIndexByte(c.scope, ':')]
		want := []scope{{Type: "repository", Name: name, Actions: c.want}}
		if diff := cmp.Diff(want, w.claims(token).Access); diff != "" {
			t.Errorf("%s:\n%s", c.what, diff)
		}
	}

	token, err := w.RegistryToken(t.Context(), ada, []string{
		"repository:" + w.running + ":pull", "registry:catalog:*", "repository:" + w.bad + ":pull",
		"repository:" + w.running + ":push", "plugin:" + w.running + ":pull", "repository(plugin):" + w.running + ":pull"})
	if err != nil {
		t.Fatal(err)
	}
	want := []scope{{"repository", w.running, both}, {"registry", "catalog", none}, {"repository", w.bad, none},
		{"plugin", w.running, none}, {"repository(plugin)", w.running, none}}
	if diff := cmp.Diff(want, w.claims(token).Access); diff != "" {
		t.Errorf("several scopes:\n%s", diff)
	}
}

func TestADevicesTokenEndsWithItsFleet(t *testing.T) {
	w := newWorld(t)
	porch := fleet.Actor{Kind: fleet.DeviceActor, ID: w.porch.ID, Fleet: w.home.ID}
	ask := func() []string {
		token, err := w.RegistryToken(t.Context(), porch, []string{"repository:" + w.done + ":pull"})
		if err != nil {
			t.Fatal(err)
		}
		return w.claims(token).Access[0].Actions
	}
	if got := ask(); len(got) != 1 {
		t.Fatalf("before: %v", got)
	}
	w.write(`UPDATE devices SET fleet = $1 WHERE id = $2`, w.barn.ID, w.porch.ID)
	if got := ask(); len(got) != 0 {
		t.Errorf("after a move to another fleet: %v", got)
	}
}

func TestARegistryTokensClaimsAreTheProtocols(t *testing.T) {
	w := newWorld(t)
	token, err := w.RegistryToken(t.Context(), fleet.Actor{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := w.claims(token)
	want := jwt.RegisteredClaims{ID: c.ID, Issuer: "dunlin.test:443", Audience: jwt.ClaimStrings{"dunlin.test:443"},
		NotBefore: jwt.NewNumericDate(w.now.Add(-10 * time.Second)), IssuedAt: jwt.NewNumericDate(w.now),
		ExpiresAt: jwt.NewNumericDate(w.now.Add(4 * time.Hour))}
	if diff := cmp.Diff(want, c.RegisteredClaims); diff != "" || c.ID == "" || len(c.Access) != 0 || c.origin != (origin{}) {
		t.Errorf("%+v\n%s", c, diff)
	}
	again, err := w.RegistryToken(t.Context(), fleet.Actor{}, nil)
	if err != nil || w.claims(again).ID == c.ID {
		t.Errorf("two tokens have the same id: %v", err)
	}
}

func TestABuildersTokenIsForOneRepositoryAndAWhile(t *testing.T) {
	w := newWorld(t)
	for life, want := range map[time.Duration]time.Duration{0: 2 * time.Hour, time.Minute: time.Minute} {
		w.BuilderLife = life
		token, err := w.BuilderToken(w.running)
		if err != nil {
			t.Fatal(err)
		}
		c := w.claims(token)
		if diff := cmp.Diff([]scope{{"repository", w.running, []string{"pull", "push"}}}, c.Access); diff != "" {
			t.Error(diff)
		}
		if !c.ExpiresAt.Equal(w.now.Add(want)) {
			t.Errorf("ends at %v", c.ExpiresAt)
		}
	}
	for _, name := range []string{"", "v2", "v2/" + strings.Repeat("A", 32), w.running + "/x", "ada/home", w.running + "\n"} {
		if _, err := w.BuilderToken(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAScopeThatIsNoneIsInvalid(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"repository", "repository:x", ":x:pull", "Repository:x:pull", "repository::pull",
		"repository:x y:pull", "repository:x:pu ll", "repository:x:PULL", "repository:x:pull\n", "repository:" + strings.Repeat("x", 300) + ":pull"} {
		if _, err := w.RegistryToken(t.Context(), fleet.Actor{}, []string{text}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	many := slices.Repeat([]string{"repository:x:pull"}, maxScopes+1)
	if _, err := w.RegistryToken(t.Context(), fleet.Actor{}, many); !fault.Is(err, fault.Invalid) {
		t.Errorf("%d scopes: %v", len(many), err)
	}
}

func FuzzScopes(f *testing.F) {
	for _, s := range []string{"scope=repository:v2/" + strings.Repeat("a", 32) + ":pull,push", "scope[0]=registry:catalog:*",
		"scope[]=a:b:c&scope=d", "scope=::", "scope=a:b:c:d,*,*", "scope[65536]=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values, _ := url.ParseQuery(query) // as http.Request does: what could be read, counts
		scopes, err := parseScopes(ScopesOf(values))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		for _, s := range scopes {
			if base := baseRepository(s); base != "" && (s.Type != "repository" || !strings.HasPrefix(s.Name, base) || len(base) != 35) {
				t.Fatalf("%q: %+v is about %q", query, s, base)
			}
		}
	})
}
