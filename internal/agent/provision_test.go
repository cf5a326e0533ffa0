package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/wire"
)

// fresh makes the bench's device one that was never registered.
func (b *bench) fresh() {
	b.save(Config{APIEndpoint: "http://cloud", ApplicationID: "7", DeviceType: "generic-amd64", APIKey: "provision", DeviceName: "porch"})
}

func (b *bench) config() Config {
	b.t.Helper()
	c, err := LoadConfig(b.data)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func TestANewDeviceMakesItsIdentityRegistersAndForgetsTheProvisioningKey(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fresh()
		var got []wire.Registration
		b.cloud.register = func(r wire.Registration) (int, string) {
			got = append(got, r)
			return http.StatusCreated, ""
		}
		defer b.on()()
		wait(time.Minute)
		c := b.config()
		hex := regexp.MustCompile(`^[0-9a-f]{32}$`)
		if !hex.MatchString(c.UUID) || !hex.MatchString(c.DeviceAPIKey) || c.UUID == c.DeviceAPIKey {
			t.Errorf("identity is %q with key %q, want 32 hex digits each", c.UUID, c.DeviceAPIKey)
		}
		if c.APIKey != "" || !c.Registered() || c.DeviceID != 1000 {
			t.Errorf("after registration the config is %+v", c)
		}
		if info, err := os.Stat(filepath.Join(b.data, "config.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("config.json has mode %v (%v), want 0600", info.Mode(), err)
		}
		if len(got) != 1 {
			t.Fatalf("registered %d times", len(got))
		}
		got[0].MACAddress = "" // of the machine the test runs on
		want := wire.Registration{
			Application: "7", UUID: c.UUID, DeviceType: "generic-amd64", APIKey: c.DeviceAPIKey, DeviceName: "porch",
			SupervisorVersion: "0.1.0", OSVersion: "balenaOS 6.0.0", OSVariant: "prod",
		}
		if d := cmp.Diff(want, got[0]); d != "" {
			t.Errorf("registration differs (-want +got):\n%s", d)
		}
		if len(b.cloud.polls) == 0 || len(b.cloud.taken()) == 0 {
			t.Error("a registered device neither asks nor reports")
		}
	})
}

func TestADeviceRegistersEvenIfTheServerIsLongAway(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fresh()
		b.cloud.down = true
		defer b.on()()
		wait(2 * time.Hour)
		identity := b.config().UUID
		b.cloud.set(func(c *cloud) { c.down = false })
		wait(10 * time.Minute)
		if c := b.config(); !c.Registered() || c.UUID != identity {
			t.Errorf("after two hours without a server the config is %+v, want %s registered", c, identity)
		}
	})
}

func TestADeviceWhoseRegistrationWasAnsweredIntoTheVoidFindsItselfRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fresh()
		b.cloud.spent = true
		first := true
		b.cloud.register = func(r wire.Registration) (int, string) {
			if first { // taken, but the answer is lost
				first = false
				b.cloud.devices[r.UUID], b.cloud.keys[r.UUID] = 1000, r.APIKey
				return http.StatusBadGateway, "lost"
			}
			return http.StatusConflict, wire.NotUniqueUUID
		}
		defer b.on()()
		wait(time.Minute)
		c := b.config()
		if !c.Registered() || c.DeviceID != 1000 || b.cloud.devices[c.UUID] != 1000 || c.APIKey != "" {
			t.Errorf("the config is %+v", c)
		}
	})
}

func TestADeviceThatTheServerHasWithAnotherKeyExchangesIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.save(Config{APIEndpoint: "http://cloud", ApplicationID: "7", APIKey: "provision", UUID: deviceUUID, DeviceAPIKey: "mine"})
		b.cloud.devices[deviceUUID], b.cloud.keys[deviceUUID] = 55, "another"
		b.cloud.register = func(wire.Registration) (int, string) { return http.StatusConflict, wire.NotUniqueUUID }
		defer b.on()()
		wait(time.Minute)
		if c := b.config(); c.UUID != deviceUUID || c.DeviceID != 55 || !c.Registered() || b.cloud.keys[deviceUUID] != "mine" {
			t.Errorf("the config is %+v and the server's key %q", c, b.cloud.keys[deviceUUID])
		}
	})
}

func TestADeviceWhoseUUIDIsSomebodyElsesTakesAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.save(Config{APIEndpoint: "http://cloud", ApplicationID: "7", APIKey: "provision", UUID: deviceUUID, DeviceAPIKey: "mine"})
		b.cloud.keys[deviceUUID] = "another" // in a fleet that the provisioning key does not see
		b.cloud.register = func(r wire.Registration) (int, string) {
			if r.UUID == deviceUUID {
				return http.StatusConflict, wire.NotUniqueUUID
			}
			return http.StatusCreated, ""
		}
		defer b.on()()
		wait(time.Minute)
		if c := b.config(); c.UUID == deviceUUID || !c.Registered() || b.cloud.keys[deviceUUID] != "another" {
			t.Errorf("the config is %+v", c)
		}
	})
}

func TestARegisteredDeviceNeverGivesUpItsIdentity(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.save(Config{APIEndpoint: "http://cloud", ApplicationID: "7", APIKey: "revoked", UUID: deviceUUID, DeviceAPIKey: "mine", RegisteredAt: "1"})
		defer b.on()()
		wait(time.Hour)
		if c := b.config(); c.UUID != deviceUUID || c.DeviceAPIKey != "mine" {
			t.Errorf("the config is %+v", c)
		}
	})
}

func TestAFleetGivenByNameIsLookedUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.save(Config{APIEndpoint: "http://cloud", ApplicationSlug: "admin/fleet1", DeviceType: "generic-amd64", APIKey: "provision"})
		defer b.on()()
		wait(time.Minute)
		if c := b.config(); !c.Registered() || c.ApplicationID != "7" {
			t.Errorf("the config is %+v", c)
		}
	})
}

func TestWhatCannotBeMendedByWaitingIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		config  Config
		message string
	}{
		"no server": {Config{}, "this device has no server"},
		"no key":    {Config{APIEndpoint: "http://cloud"}, "has no provisioning key"},
		"bad CA":    {Config{APIEndpoint: "http://cloud", RootCA: "!"}, "balenaRootCA"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.save(tt.config)
				a := b.agent(b.engine)
				a.HTTP = nil
				err := a.Run(t.Context())
				if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), tt.message) {
					t.Errorf("the agent ended with %v, want it to say %q", err, tt.message)
				}
			})
		})
	}
}

func TestAConfigKeepsWhatItDoesNotKnow(t *testing.T) {
	c, err := ParseConfig([]byte(`{"apiEndpoint":"https://api.test","apiKey":"k","applicationId":"12","registered_at":0,"wifiSsid":"w","files":{"a":"b"}}`))
	if err != nil {
		t.Fatal(err)
	}
	c.APIKey, c.UUID = "", "u"
	dir := t.TempDir()
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "apiEndpoint": "https://api.test",
  "applicationId": 12,
  "files": {
    "a": "b"
  },
  "registered_at": 0,
  "uuid": "u",
  "wifiSsid": "w"
}
`
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Error(d)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"applicationId":"12","balenaRootCA":5}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if err := c.Save(t.TempDir()); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
