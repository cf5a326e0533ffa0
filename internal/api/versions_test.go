package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestEveryVersionOfTheModelIsAnswered(t *testing.T) {
	s := newServer(t)
	porch := s.fleet("porch")
	device, key := s.device(porch, "first")
	for _, root := range []string{"/v6/", "/v7/", "/resin/"} {
		if got := s.one(root + "device(uuid='" + device.UUID + "')?$select=device_name"); got["device_name"] != "first" {
			t.Errorf("%s: %v", root, got)
		}
		resp, body := s.send(s.token, "POST", root+"device_tag", fmt.Sprintf(`{"device":%d,"tag_key":"k%s","value":"v"}`, device.ID, strings.Trim(root, "/")))
		if location := resp.Header.Get("Location"); resp.StatusCode != http.StatusCreated || !strings.HasPrefix(location, root+"device_tag(@id)?@id=") {
			t.Errorf("%s: %d %s, Location %q", root, resp.StatusCode, body, location)
		}
		s.want(401, "", "GET", root+"device", "")
	}
	release := s.release(porch, "aaaa", false)
	s.want(200, s.token, "PATCH", fmt.Sprintf("/v6/device(%d)", device.ID), fmt.Sprintf(`{"should_be_running__release":%d}`, release.ID))
	pin, _ := s.one(fmt.Sprintf("/v7/device(%d)?$select=is_pinned_on__release", device.ID))["is_pinned_on__release"].(map[string]any)
	if pin["__id"] != float64(release.ID) {
		t.Errorf("it is pinned on %v", pin)
	}
	if got := string(s.want(200, key, "GET", "/v6/supervisor_release?$select=supervisor_version,image_name&$filter=should_manage__device/any(d:d/uuid eq '"+device.UUID+"')", "")); got != `{"d":[]}` {
		t.Errorf("a device is told of the supervisor %s", got)
	}
	s.want(404, s.token, "GET", "/v5/device", "")
}

func TestCanAccessSaysWhoReachesADevice(t *testing.T) {
	s := newServer(t)
	device, key := s.device(s.fleet("porch"), "first")
	_, stranger := s.newUser("globex")
	target := "/v7/device(uuid='" + device.UUID + "')/canAccess"
	const action = `{"action":{"or":["tunnel-any","tunnel-22222"]}}`
	for _, token := range []string{s.token, key} {
		var answer struct{ D []struct{ ID int64 } }
		if err := json.Unmarshal(s.want(200, token, "POST", target, action), &answer); err != nil || len(answer.D) != 1 || answer.D[0].ID != device.ID {
			t.Errorf("%+v %v", answer, err)
		}
	}
	s.want(401, stranger, "POST", target, action)
	s.want(401, "", "POST", target, action)
	s.want(400, s.token, "POST", target, `{}`)
	s.want(404, s.token, "POST", strings.Replace(target, "canAccess", "explode", 1), `{}`)
}
