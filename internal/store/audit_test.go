package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func TestTheTrailSaysWhoDidWhatWhenAndFromWhere(t *testing.T) {
	db := storetest.Open(t)
	clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db.Now = func() time.Time { return clock }
	user := fleet.Actor{Kind: fleet.UserActor, Actor: 5, ID: 2, Name: "ada", Key: 9, Address: "192.0.2.1"}
	for _, a := range []store.Audit{
		{Actor: user, Verb: "change", Resource: "device", Row: 4, Organization: 3, Fleet: 8, Details: map[string]any{"device_name": "attic"}},
		{Verb: "refuse", Resource: "user", Actor: fleet.Actor{Address: "192.0.2.2"}},
		{Verb: "create", Resource: "user", Row: 2, Server: true, Time: clock.Add(-time.Hour)},
	} {
		if err := db.Audit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	// What comes to nothing leaves nothing.
	stop := errors.New("stop")
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if err := store.AddAudit(t.Context(), tx, store.Audit{Verb: "push", Resource: "release"}); err != nil {
			return err
		}
		return stop
	}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	rows, err := db.Reader().Query(`SELECT created_at, actor_kind, actor_name, COALESCE(actor, 0), COALESCE(api_key, 0), address, verb, resource,
		COALESCE(row_id, 0), COALESCE(organization, 0), COALESCE(fleet, 0), details FROM audit_events ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var at, actor, key, row, organization, fleet int64
		var kind, name, address, verb, resource, details string
		if err := rows.Scan(&at, &kind, &name, &actor, &key, &address, &verb, &resource, &row, &organization, &fleet, &details); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(store.Time(at).Format(time.TimeOnly), " ", kind, " ", name, " ", actor, " ", key, " ", address, " ", verb, " ", resource, " ", row, " ", organization, " ", fleet, " ", details))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`12:00:00 user ada 5 9 192.0.2.1 change device 4 3 8 {"device_name":"attic"}`,
		`12:00:00 nobody  0 0 192.0.2.2 refuse user 0 0 0 {}`,
		`11:00:00 server  0 0  create user 2 0 0 {}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
