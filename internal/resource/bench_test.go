package resource

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/store"
)

// heavy are the widest queries of the stock CLI and dashboard-like scripts (docs/performance.md).
var heavy = []struct{ name, request string }{
	{"device list", "device?$select=id,uuid,device_name,status,is_online,supervisor_version,os_version&$expand=belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)&$orderby=device_name asc"},
	{"fleet list", "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$orderby=app_name asc&$select=id,app_name,slug&$expand=is_for__device_type($select=slug),owns__device($select=is_online)"},
	{"devices of one fleet", "application?$filter=slug eq 'acme/crowd1'&$select=slug&$expand=owns__device($select=id,uuid,device_name,is_online,overall_status;$expand=is_running__release($select=commit),device_tag($select=tag_key,value);$orderby=device_name asc)"},
	{"device", "device(uuid='{crowd uuid}')?$expand=device_tag($select=tag_key,value),belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)"},
	{"device by prefix", "device?$filter=startswith(uuid,'{crowd prefix}')&$select=id,uuid"},
	{"device services", "device(uuid='{crowd uuid}')?$expand=image_install($select=id,download_progress,status,install_date;$filter=status ne 'deleted';$expand=installs__image($select=id;$expand=is_a_build_of__service($select=id,service_name)),is_provided_by__release($select=id,commit,raw_version;$expand=belongs_to__application($select=slug))),belongs_to__application($select=slug),is_running__release($select=commit)"},
	{"all fields of all devices", "device"},
	{"count of online devices", "device/$count?$filter=is_online eq true"},
}

// BenchmarkRead asks with 20,000 devices in the database, 10,000 of whoever asks.
func BenchmarkRead(b *testing.B) {
	w := newWorld(b)
	for _, x := range w.tenants {
		w.crowd(x, 4, 2500)
	}
	if w.db.Dialect() == store.PostgreSQL { // as autovacuum does by itself; on SQLite nobody does
		w.analyze()
	}
	me := w.tenants[0]
	for _, h := range heavy {
		b.Run(h.name, func(b *testing.B) {
			q := ask(b, w.inCrowd(me, h.request))
			b.ReportAllocs()
			best := time.Hour // the mean says how busy the machine is
			for b.Loop() {
				began := time.Now()
				body, err := w.Read(context.Background(), me.user, q)
				if err != nil {
					b.Fatal(err)
				}
				best = min(best, time.Since(began))
				b.SetBytes(int64(len(body)))
			}
			b.ReportMetric(float64(best.Microseconds())/1000, "best-ms")
		})
	}
}

// inCrowd puts a device of the crowd into a request, too.
func (w *world) inCrowd(x tenant, request string) string {
	w.t.Helper()
	var uuid string
	if err := w.db.Reader().QueryRow(`SELECT MAX(d.uuid) FROM devices d JOIN fleets f ON f.id = d.fleet WHERE f.slug = $1`, x.user.Name+"/crowd0").Scan(&uuid); err != nil {
		w.t.Fatal(err)
	}
	return strings.NewReplacer("{crowd uuid}", uuid, "{crowd prefix}", uuid[:7]).Replace(x.in(request))
}
