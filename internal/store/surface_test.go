package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func TestAnAssetsFileIsRecordedWithWhoPutItThere(t *testing.T) {
	db := storetest.Open(t)
	u := addUser(t, db, "ada")
	f, _ := addFleet(t, db, u, "home")
	write(t, db, `INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp) VALUES (1, 1, $1, '00', 'success', 1, 1)`, f.ID)
	write(t, db, `INSERT INTO release_assets (created_at, modified_at, release, asset_key) SELECT 1, 1, id, 'k' FROM releases WHERE fleet = $1`, f.ID)
	id := number(t, db, `SELECT id FROM release_assets`)
	sum := strings.Repeat("ab", 32)
	by := fleet.Actor{Kind: fleet.UserActor, Actor: u.Actor, ID: u.ID, Name: "ada", Address: "192.0.2.1"}
	fleetID, organization, err := db.SetAsset(t.Context(), by, id, fleet.Asset{Filename: "f", ContentType: "text/plain", Size: 5, SHA256: sum})
	if err != nil || fleetID != f.ID || organization != f.Organization {
		t.Fatal(fleetID, organization, err)
	}
	if n := number(t, db, `SELECT COUNT(*) FROM release_assets WHERE filename = 'f' AND size = 5 AND checksum = $1 AND modified_at > 1`, "sha256:"+sum); n != 1 {
		t.Error("the row does not say so")
	}
	if n := number(t, db, `SELECT COUNT(*) FROM audit_events WHERE resource = 'release_asset' AND row_id = $1 AND fleet = $2 AND organization = $3 AND actor_name = 'ada'`, id, f.ID, f.Organization); n != 1 {
		t.Errorf("%d entries on the trail", n)
	}
	files, err := db.AssetFiles(t.Context())
	if err != nil || len(files) != 1 || !files[sum] {
		t.Errorf("%v %v", files, err)
	}
	if _, _, err := db.SetAsset(t.Context(), by, id+1, fleet.Asset{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an asset that is not there: %v", err)
	}
}

func TestASupervisorIsKnownOnceTheDeviceHasSaidIt(t *testing.T) {
	db := storetest.Open(t)
	_, d := addFleet(t, db, addUser(t, db, "ada"), "home")
	if _, _, err := db.Supervisor(t.Context(), d.ID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("before: %v", err)
	}
	write(t, db, `UPDATE devices SET api_port = 48484, api_secret = 's' WHERE id = $1`, d.ID)
	if port, key, err := db.Supervisor(t.Context(), d.ID); port != 48484 || key != "s" || err != nil {
		t.Errorf("%d %s %v", port, key, err)
	}
	if _, _, err := db.Supervisor(t.Context(), d.ID+1); !fault.Is(err, fault.NotFound) {
		t.Errorf("no device: %v", err)
	}
}

func TestDevicesHeardOfSinceAMoment(t *testing.T) {
	db := storetest.Open(t)
	f, d := addFleet(t, db, addUser(t, db, "ada"), "home")
	now := time.Now()
	if err := db.Seen(t.Context(), map[int64]store.Sighting{d.ID: {Micros: now.UnixMicro(), Poll: 5000}}); err != nil {
		t.Fatal(err)
	}
	all, err := db.SeenSince(t.Context(), now)
	if err != nil || len(all) != 1 || all[0].ID != d.ID || all[0].Fleet != f.ID || all[0].UUID != d.UUID || all[0].Poll != 5000 || all[0].Micros != now.UnixMicro() {
		t.Errorf("%+v %v", all, err)
	}
	if all, err := db.SeenSince(t.Context(), now.Add(time.Second)); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}
