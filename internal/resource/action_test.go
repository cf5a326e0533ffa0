package resource

import (
	"context"
	"fmt"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestCanAccessGoesByRank(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	const tunnel, either, look = `{"action":"tunnel-22222"}`, `{"action":{"or":["tunnel-any","tunnel-22222"]}}`, `{"action":"read"}`
	for who, may := range map[string]bool{
		"owner": true, "developer": true, "operator": true, "friend": true, "device": true,
		"observer": false, "member": false, "provisioning": false, "nobody": false,
	} {
		for _, request := range []string{"device(uuid='{uuid}')/canAccess", "device({device})/canAccess", "device/canAccess?$filter=uuid eq '{uuid}'"} {
			for _, body := range []string{tunnel, either} {
				got, err := w.CanAccess(context.Background(), me.actors()[who], ask(t, me.in(request)), []byte(body))
				if may && string(got) != fmt.Sprintf(`{"d":[{"id":%d}]}`, me.ids["device"]) || !may && !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
					t.Errorf("%s %s %s: %s %v", who, request, body, got, err)
				}
			}
			if got, err := w.CanAccess(context.Background(), other.actors()[who], ask(t, me.in(request)), []byte(either)); err == nil {
				t.Errorf("the other tenant's %s %s: %s", who, request, got)
			}
		}
	}
	if _, err := w.CanAccess(context.Background(), me.observer, ask(t, me.in("device({device})/canAccess")), []byte(look)); err != nil {
		t.Errorf("an observer may not look: %v", err)
	}
	if _, err := w.CanAccess(context.Background(), me.device, ask(t, me.in("device({second device})/canAccess")), []byte(tunnel)); !fault.Is(err, fault.Denied) {
		t.Errorf("a device reaches another one: %v", err)
	}
	if _, err := w.CanAccess(context.Background(), me.operator, ask(t, me.in("application({application})/canAccess")), []byte(`{"action":"supervisor-proxy-write"}`)); err != nil {
		t.Errorf("an operator may not restart the fleet: %v", err)
	}
	for body, request := range map[string]string{
		`{}`: "device({device})/canAccess", `{"action":{"or":[]}}`: "device({device})/canAccess", `{"action":5}`: "device({device})/canAccess",
		`no JSON`: "device({device})/canAccess", tunnel: "device/canAccess",
	} {
		if _, err := w.CanAccess(context.Background(), me.user, ask(t, me.in(request)), []byte(body)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s %s: %v", request, body, err)
		}
	}
	if _, err := w.CanAccess(context.Background(), me.user, ask(t, "release/canAccess?$filter=id gt 0"), []byte(tunnel)); !fault.Is(err, fault.Denied) {
		t.Errorf("a tunnel to a release: %v", err)
	}
}

// A path that ends in an action names a row, but what is asked is not to be done to the row itself.
func TestAnActionThatIsNotKnownDoesNothing(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	q := ask(t, me.in("device_tag({device_tag})/explode"))
	if body, err := w.Read(context.Background(), me.user, q); !fault.Is(err, fault.NotFound) {
		t.Errorf("GET: %s %v", body, err)
	}
	if err := w.Update(context.Background(), me.user, q, []byte(`{"value":"x"}`)); !fault.Is(err, fault.NotFound) {
		t.Errorf("PATCH: %v", err)
	}
	if err := w.Delete(context.Background(), me.user, q); !fault.Is(err, fault.NotFound) {
		t.Errorf("DELETE: %v", err)
	}
	if _, _, err := w.Create(context.Background(), me.user, ask(t, "device_tag/explode"), []byte(me.in(`{"device":{device},"tag_key":"a","value":"b"}`))); !fault.Is(err, fault.NotFound) {
		t.Errorf("POST: %v", err)
	}
	if n := len(w.get(me.user, "device_tag")); n != 1 {
		t.Errorf("there are %d tags", n)
	}
}
