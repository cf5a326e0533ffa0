// Package balenatest holds the server to balena's own clients, unchanged: the balena CLI and the SDK from npm, and a
// stock supervisor's calls, replayed as they were seen on the wire. It consists of tests only; what the server does
// with each call is tested in the rooms that answer it.
package balenatest
