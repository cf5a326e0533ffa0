package agent

import (
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/dunlin/dunlin/internal/wire"
)

func TestADeviceRunsItsReleaseAndThenTheNextOne(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2, 3)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), ""), "db": service(22, image(3), "")}))
		defer b.on()()
		wait(20 * time.Second)
		b.mustRun(map[string]int{"main": 1, "db": 3})
		dbBefore := b.containers("db")

		b.engine.ForgetTrace()
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), ""), "db": service(22, image(3), "")}))
		wait(20 * time.Second)
		b.mustRun(map[string]int{"main": 2, "db": 3})
		if d := cmp.Diff(dbBefore, b.containers("db")); d != "" {
			t.Errorf("a service that did not change was touched:\n%s", d)
		}
		old, now := "main_", ""
		for _, line := range b.engine.Trace() {
			if name, ok := strings.CutPrefix(line, "create "); ok {
				now = name
			}
			if name, ok := strings.CutPrefix(line, "stop "); ok {
				old = name
			}
		}
		want := []string{"pull " + image(2), "create " + now, "stop " + old, "start " + now, "remove " + old, "remove image " + image(1)}
		if got := sorted(b.engine.Trace()); !slices.Equal(got, sorted(want)) {
			t.Errorf("steps were %q, want %q", b.engine.Trace(), want)
		}
		if got := b.cloud.statuses(commitB); !slices.Equal(got, []string{"downloading", "applying changes", "done"}) &&
			!slices.Equal(got, []string{"downloading", "downloaded", "applying changes", "done"}) {
			t.Errorf("the update was reported as %q", got)
		}
		last := b.cloud.lastApps()[fleetUUID]
		if last.ReleaseUUID != commitB || len(last.Releases) != 1 || last.Releases[commitB].Services["db"].Status != wire.StatusRunning {
			t.Errorf("the last report is %+v", last)
		}
	})
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func (b *bench) containers(service string) []engine.Container {
	return slices.DeleteFunc(b.engine.All().Containers, func(c engine.Container) bool { return c.Labels[engine.LabelServiceName] != service })
}

func (c *cloud) lastApps() map[string]wire.AppReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range slices.Backward(c.reports) {
		if r.body.Apps != nil {
			return r.body.Apps
		}
	}
	return nil
}

func TestAChangeArrivesAtOnceFromAServerThatHolds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		defer b.on()()
		wait(10 * time.Minute)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		wait(3 * time.Second)
		b.mustRun(map[string]int{"main": 1})
		b.cloud.set(func(c *cloud) {
			if n := len(c.polls); n > 16 {
				t.Errorf("asked %d times in ten minutes", n)
			}
		})
	})
}

func TestAServerThatDoesNotHoldIsAskedAtThePollInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.cloud.holds = false
		d := release(commitA, nil)
		d.Config["RESIN_SUPERVISOR_POLL_INTERVAL"] = "60000"
		b.cloud.want(d)
		defer b.on()()
		wait(time.Hour)
		b.cloud.set(func(c *cloud) {
			if n := len(c.polls); n < 25 || n > 62 {
				t.Errorf("asked %d times in an hour, want once in one to two minutes", n)
			}
			if c.etags[0] != "" || c.etags[len(c.etags)-1] != c.etag {
				t.Errorf("sent the etags %q, want the server's own %q back", c.etags, c.etag)
			}
		})
	})
}

func TestAServerThatAlwaysAnswersInFullIsNotAskedAllTheTime(t *testing.T) {
	for name, vary := range map[string]bool{"the same text": false, "another text each time": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.cloud.holds = false
				ctx := t.Context()
				go func() {
					for i := 0; sleep(ctx, 100*time.Millisecond) == nil; i++ {
						d := release(commitA, nil)
						if vary {
							d.Config["N"] = time.Now().String()
						}
						b.cloud.want(d)
						b.cloud.set(func(c *cloud) { c.etag = time.Now().String() })
					}
				}()
				defer b.on()()
				wait(time.Hour)
				b.cloud.set(func(c *cloud) {
					if n := len(c.polls); n > 2*mostChanges {
						t.Errorf("asked %d times in an hour", n)
					}
				})
			})
		})
	}
}

func TestWhatRunsGoesOnWhileTheServerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Second)
		b.cloud.set(func(c *cloud) { c.down = true })
		wait(3 * time.Hour)
		b.mustRun(map[string]int{"main": 1})
		b.cloud.set(func(c *cloud) { c.down = false })
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), "")}))
		wait(20 * time.Minute)
		b.mustRun(map[string]int{"main": 2})
	})
}

func TestADeviceThatMayNotAskKeepsWhatItRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Second)
		b.cloud.set(func(c *cloud) { c.keys = map[string]string{} })
		wait(24 * time.Hour)
		b.mustRun(map[string]int{"main": 1})
	})
}

func TestAfterARebootWithoutANetworkTheDeviceStillConverges(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		off := b.on()
		wait(10 * time.Second)
		off()
		b.cloud.set(func(c *cloud) { c.down = true })
		for _, c := range b.engine.All().Containers {
			if err := b.engine.Remove(t.Context(), c.Name); err != nil {
				t.Fatal(err)
			}
		}
		defer b.on()()
		wait(10 * time.Second)
		b.mustRun(map[string]int{"main": 1})
	})
}

func TestATargetThatMakesNoSenseLeavesTheOldOne(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Second)
		b.cloud.wantBytes([]byte(`{"` + deviceUUID + `":{"apps":[]}}`))
		wait(time.Hour)
		b.mustRun(map[string]int{"main": 1})

		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), `{"ports":["http"]}`)}))
		wait(time.Hour)
		b.mustRun(map[string]int{"main": 1})
		if got := b.cloud.lastApps()[fleetUUID].Releases[commitB].UpdateStatus; got != wire.Rejected {
			t.Errorf("a release that cannot be understood is reported as %q, want rejected", got)
		}
		if !slices.ContainsFunc(b.cloud.messages(), func(m string) bool {
			return strings.Contains(m, `service main: ports: "http" is not a port`)
		}) {
			t.Errorf("the log does not say why: %q", b.cloud.messages())
		}
	})
}

func TestAnImageThatDoesNotComeKeepsTheOldReleaseUp(t *testing.T) {
	for name, err := range map[string]error{"the disk is full": engine.ErrDiskFull, "the key is refused": engine.ErrDenied} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.push(1, 2, 3, 4)
				b.engine.Push(image(4), enginetest.Image{Size: 1000, Errors: slices.Repeat([]error{err}, 12)})
				b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), ""), "db": service(22, image(2), "")}))
				defer b.on()()
				wait(10 * time.Second)
				b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(3), ""), "db": service(22, image(4), "")}))
				wait(2 * time.Minute)
				b.mustRun(map[string]int{"main": 1, "db": 2})
				if got := b.cloud.lastApps()[fleetUUID]; got.ReleaseUUID != commitA || got.Releases[commitB].UpdateStatus != wire.Aborted {
					t.Errorf("reported %+v", got)
				}
				if !slices.ContainsFunc(b.cloud.messages(), func(m string) bool {
					return strings.Contains(m, "Failed to download image '"+image(4)+"' due to") && strings.Contains(m, "it is tried again")
				}) {
					t.Errorf("the log does not say why: %q", b.cloud.messages())
				}
				tries := strings.Count(strings.Join(b.engine.Trace(), "\n"), "pull "+image(4))
				if tries < 3 || tries > 9 {
					t.Errorf("tried %d times in two minutes, want a few and fewer as time passes", tries)
				}
				wait(time.Hour)
				b.mustRun(map[string]int{"main": 3, "db": 4})
			})
		})
	}
}

func TestAContainerThatCannotBeMadeLeavesTheOldReleaseUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Second)
		b.engine.Before("create", func() error { return http.ErrNotSupported })
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), "")}))
		wait(time.Hour)
		b.mustRun(map[string]int{"main": 1})
	})
}

func TestTheEngineMayGoAwayAndComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		b.engine.Away(true)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Minute)
		b.engine.Away(false)
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 1})
		b.engine.Away(true)
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), "")}))
		wait(10 * time.Minute)
		b.engine.Away(false)
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 2})
	})
}

func TestAContainerThatNeverComesOutRightDoesNotKeepTheDeviceBusy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		// Whatever is made is at once made over by somebody else.
		b.engine.After("create", func() error {
			for _, c := range b.engine.All().Containers {
				c.Labels[engine.LabelSpec] = "other"
				b.engine.Put(engine.State{Containers: []engine.Container{c}})
			}
			return nil
		})
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(time.Hour)
		if n := len(b.engine.Trace()); n > 120 {
			t.Errorf("took %d steps in an hour without getting anywhere", n)
		}
	})
}

func TestARestartingAgentTouchesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		off := b.on()
		wait(10 * time.Second)
		off()
		b.engine.ForgetTrace()
		b.mustRun(map[string]int{"main": 1})
		// A renamed device does not restart its services.
		d := release(commitA, map[string]wire.Service{"main": service(21, image(1), "")})
		d.Name = "another-name"
		b.cloud.want(d)
		defer b.on()()
		wait(time.Minute)
		if got := b.engine.Trace(); len(got) > 0 {
			t.Errorf("steps were %q, want none", got)
		}
	})
}

func TestAChangedVariableRestartsOnlyTheServicesItConcerns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		services := map[string]wire.Service{"main": service(21, image(1), ""), "db": service(22, image(2), "")}
		b.cloud.want(release(commitA, services))
		defer b.on()()
		wait(10 * time.Second)
		before := b.containers("db")
		main := services["main"]
		main.Environment = map[string]string{"FOO": "baz"}
		services["main"] = main
		b.cloud.want(release(commitA, services))
		wait(10 * time.Second)
		b.mustRun(map[string]int{"main": 1, "db": 2})
		if got := b.containers("main"); len(got) != 1 || !slices.Contains(got[0].Env, "FOO=baz") {
			t.Errorf("main was not made anew: %+v", got)
		}
		if d := cmp.Diff(before, b.containers("db")); d != "" {
			t.Errorf("db was touched:\n%s", d)
		}
	})
}

func TestWhatIsHereUnderAnotherNameIsNotFetchedToBeUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(10 * time.Second)
		_, digest, _ := strings.Cut(image(1), "@")
		moved := service(21, "reg.test/v2/00000000000000000000000000000099@"+digest, "") // which the registry does not have
		moved.Environment["FOO"] = "baz"
		b.cloud.want(release(commitB, map[string]wire.Service{"main": moved}))
		wait(10 * time.Second)
		b.mustRun(map[string]int{"main": 1})
		if c := b.containers("main"); len(c) != 1 || !slices.Contains(c[0].Env, "FOO=baz") || c[0].Labels[engine.LabelImage] != image(1) {
			t.Errorf("containers are %+v", c)
		}
		if got := b.cloud.lastApps()[fleetUUID].Releases[commitB].Services["main"].Image; got != moved.Image {
			t.Errorf("reported as %s, want the image of the release", got)
		}
	})
}

func TestTheDevicesKeyGoesToItsOwnRegistryAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		foreign := "docker.test/library/nginx@sha256:" + strings.Repeat("a", 64)
		asked := map[string]engine.Credentials{}
		for _, ref := range []string{image(1), foreign} {
			b.engine.Push(ref, enginetest.Image{Access: func(who engine.Credentials) bool { asked[ref] = who; return true }})
		}
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), ""), "web": service(22, foreign, "")}))
		defer b.on()()
		wait(10 * time.Second)
		want := map[string]engine.Credentials{image(1): {Username: "d_" + deviceUUID, Password: deviceKey}, foreign: {}}
		if d := cmp.Diff(want, asked); d != "" {
			t.Errorf("credentials differ (-want +got):\n%s", d)
		}
	})
}

func TestAFleetWithoutAReleaseRunsNothingAndKeepsItsVolumes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), `{"volumes":["data:/data"]}`)}))
		defer b.on()()
		wait(10 * time.Second)
		d := release(commitA, nil)
		app := d.Apps[fleetUUID]
		app.Releases = map[string]wire.Release{}
		d.Apps[fleetUUID] = app
		b.cloud.want(d)
		wait(time.Minute)
		if s := b.engine.All(); len(s.Containers) > 0 || len(s.Networks) > 0 || len(s.Images) > 0 || len(s.Volumes) != 1 {
			t.Errorf("left are %+v", s)
		}
		if got := b.cloud.lastApps()[fleetUUID]; got.ReleaseUUID != "" || len(got.Releases) > 0 {
			t.Errorf("reported %+v", got)
		}
	})
}

func TestTheServersCertificateIsTrustedByTheConfigsAuthorityAlone(t *testing.T) {
	var agents []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { agents = append(agents, r.UserAgent()) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, rootCA := range map[string]string{"trusted": base64.StdEncoding.EncodeToString(authority), "not trusted": ""} {
		client, err := newHTTP(rootCA)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newServer(server.URL+"/", client, "dunlin-agent/1 (linux; test)").call(t.Context(), request{method: "GET", path: "/ping"})
		if (err == nil) != (name == "trusted") {
			t.Errorf("%s: %v", name, err)
		}
		client.CloseIdleConnections()
	}
	if !slices.Equal(agents, []string{"dunlin-agent/1 (linux; test)"}) {
		t.Errorf("the server saw %q", agents)
	}
}

func TestTwoAgentsCannotWorkInOneFolder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		defer b.on()()
		wait(time.Second)
		err := b.agent(b.engine).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "another dunlin-agent runs with") {
			t.Errorf("a second agent ended with %v", err)
		}
	})
}
