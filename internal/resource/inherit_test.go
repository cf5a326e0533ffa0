package resource

import (
	"context"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
)

// Whoever finds a device by its name reads that device. What belongs to it goes by the rule of devices, which here
// names none.
func TestARowThatIsReadByItsNameAloneHandsNothingOn(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	tags := w.schema["device_tag"]
	tags.access = append(tags.access, grant{who: provisioning, may: read, via: "device"})
	if n := len(w.get(me.provisioning, me.in("device(uuid='{uuid}')"))); n != 1 {
		t.Fatalf("the key finds %d devices", n)
	}
	for _, request := range []string{"device(uuid='{uuid}')?$expand=device_tag", "device?$filter=uuid eq '{uuid}' and device_tag/any()", "device_tag"} {
		if body, err := w.Read(context.Background(), me.provisioning, ask(t, me.in(request))); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %s %v", request, body, err)
		}
	}
	// With a rule that lets some of them be read without a name, it is those.
	devices := w.schema["device"]
	devices.access = append(devices.access, grant{who: provisioning, may: read, rows: "{t}.fleet = {fleet} AND {t}.name = 'second'"})
	if _, err := w.post(me.user, "device_tag", me.in(`{"device":{second device},"tag_key":"room","value":"cellar"}`)); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]int{
		"device(uuid='{uuid}')?$expand=device_tag":                  0,
		"device?$filter=device_name eq 'second'&$expand=device_tag": 1,
	} {
		rows := w.get(me.provisioning, me.in(request))
		if len(rows) != 1 || len(rows[0]["device_tag"].([]any)) != want {
			t.Errorf("%s: %v", request, rows)
		}
	}
}
