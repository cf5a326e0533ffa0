// Dunlin turns git push into running containers on every device of a fleet.
//
// This command is the server and the tool for people; package main is the only place where the rooms meet. The
// tour of the house, in the order a push travels:
//
//   - internal/source takes the push: git over SSH or HTTP, into quarantine, submodules fetched.
//   - internal/release records a release before anything is done for it, and walks it from leg to leg.
//   - internal/build reads the source, finds out what it is, and makes an image of every service.
//   - internal/registry keeps the images; internal/auth made the token that let the builder push them.
//   - internal/release marks the release a success and moves the fleet's target; internal/hub tells waiting devices to
//     look again (a number, never content).
//   - internal/deltajob has the differences made between what devices run and what they are to run, each by internal/delta
//     in a process of its own, and finds them for devices that ask.
//   - internal/deviceapi answers a device's question "what should I be?" with what internal/fleet composed.
//   - On the device, internal/agent looks (internal/engine), decides (internal/plan), acts and reports; its binary is
//     cmd/dunlin-agent.
//   - internal/deviceapi takes the report and the log lines; internal/store and internal/logs keep them.
//   - internal/release, still talking to the pusher, says which device runs the release, and how long it took.
//   - People ask through internal/api, whose resources are internal/resource's and whose query language is
//     internal/odata's; internal/cli and client are how this command asks.
//
// internal/fault, internal/wire and internal/fleet are the words all of them share. arch_test.go is the map: who
// may enter where.
package main
