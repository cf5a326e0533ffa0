package agent

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/plan"
)

const (
	// sharedFolders holds, as FLEET-ID/SERVICE, the folders that services share with the agent. Nobody but root can
	// reach into it, so that nobody puts a link in a folder's place; it is gone after a reboot, and so are the locks.
	sharedFolders = "/run/dunlin-agent/services"
	// sharedTarget is where a service has its own.
	sharedTarget = "/tmp/balena"
	// lockedMost is the longest time between two looks at an update lock.
	lockedMost = time.Minute
)

// furnish makes the shared folders of all services: those of containers that the engine started before the agent was
// there have the engine's modes.
func (c *convergence) furnish(t *target) {
	if t == nil {
		return
	}
	for _, app := range t.plan.Apps {
		for _, s := range app.Services {
			c.share(s.Container)
		}
	}
}

// share makes a container's shared folder, for whatever user it runs as. An engine makes one that could not be made.
func (d *device) share(c engine.Container) {
	for _, m := range c.Mounts {
		path, ok := strings.CutPrefix(m.Host, sharedFolders+"/")
		if !ok || m.Target != sharedTarget {
			continue
		}
		folder := filepath.Join(d.host.root, filepath.Dir(sharedFolders))
		err := errors.Join(os.MkdirAll(filepath.Join(d.host.root, m.Host), 0o700), os.Chmod(folder, 0o700))
		for _, part := range append([]string{filepath.Base(sharedFolders)}, strings.Split(path, "/")...) {
			folder = filepath.Join(folder, part)
			err = errors.Join(err, os.Chmod(folder, 0o700))
		}
		if err = errors.Join(err, os.Chmod(folder, 0o777)); err != nil {
			d.Log.Warn("the folder that a service shares is not as it should be", "folder", m.Host, "err", err)
		}
	}
}

// locked reports whether a container has to go on because a running service of its app holds the update lock, and says
// so once. It is asked again soon.
func (c *convergence) locked(s plan.Stop, state engine.State, t *target, now time.Time) bool {
	holder := ""
	if !t.overridesLocks() {
		holder = c.locker(s.App, state)
	}
	if holder == "" {
		delete(c.lockers, s.App)
		return false
	}
	if c.lockers[s.App] != holder {
		c.lockers[s.App] = holder
		c.system("Waiting for the update lock of " + holder)
	}
	e := c.efforts[s.Subject()]
	if e == nil {
		e = newEffort()
		c.efforts[s.Subject()] = e
	}
	e.step, e.due = s, now.Add(min(e.retry.next(), lockedMost))
	return true
}

// locker is the running service of an app that holds its update lock, or "".
func (c *convergence) locker(app string, state engine.State) string {
	for _, o := range state.Containers {
		if o.Labels[engine.LabelAppUUID] != app || o.Status != engine.Running && o.Status != engine.Paused {
			continue // what crashed holds nothing
		}
		for _, m := range o.Mounts {
			if m.Host == "" || m.Target != sharedTarget {
				continue
			}
			for _, name := range []string{"updates.lock", "resin-updates.lock"} {
				if _, err := os.Lstat(filepath.Join(c.host.root, m.Host, name)); err == nil {
					return cmp.Or(o.Labels[engine.LabelServiceName], o.Name)
				}
			}
		}
	}
	return ""
}

// overridesLocks reports whether the device's owner wants updates whatever the services say.
func (t *target) overridesLocks() bool {
	for _, name := range []string{"RESIN_SUPERVISOR_OVERRIDE_LOCK", "RESIN_OVERRIDE_LOCK"} {
		switch strings.ToLower(t.setting(name)) {
		case "1", "true":
			return true
		}
	}
	return false
}
