package enginetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Behaviour is what a Fake's container does from one start on. The zero value writes nothing, runs until it is
// stopped, then ends with code 0, and is healthy.
type Behaviour struct {
	Lines     []Written
	Exits     bool // by itself, After the start, with Code
	After     time.Duration
	Code      int
	Deaf      bool // to the stop signal: only a kill ends it
	Unhealthy bool // to its health check
}

// Written is a line that a container writes After its start.
type Written struct {
	After   time.Duration
	Stderr  bool
	Message string
}

// World is what a container of a Fake sees when it starts. It is valid during the call only.
type World struct {
	Container engine.Container
	files     func(path string) (*string, bool) // a file in a volume, made when it is not there; false: not in a volume
	lookup    func(name string) bool
}

// Probe is the program of the suite's images as a Fake runs it; testdata/probe is the same program for real engines.
// Each word of the container's Command is an instruction, done in order:
//
//	out:TEXT  err:TEXT     write a line to stdout or stderr
//	raw:TEXT               write TEXT to stdout without a line end (the last instruction that writes)
//	long:N                 write a line of N bytes, 0123456789 over and over, to stdout
//	env:NAME               write NAME=value
//	write:PATH:TEXT        put TEXT into a file
//	cat:PATH               write what is in a file, or "no PATH"
//	lookup:NAME            write "found NAME" or "no NAME" for a host name
//	wait:DURATION          wait
//	deaf                   ignore the stop signal from here on
//	exit:N                 end with code N
//
// When all is done it runs on until it is stopped, and then ends with code 0. As a health check its exit:N decides.
func Probe(w World) Behaviour {
	var b Behaviour
	say := func(stderr bool, text string) {
		b.Lines = append(b.Lines, Written{After: b.After, Stderr: stderr, Message: text})
	}
	for _, word := range w.Container.Command {
		op, arg, _ := strings.Cut(word, ":")
		switch op {
		case "out", "raw":
			say(false, arg)
		case "err":
			say(true, arg)
		case "long":
			n, err := strconv.Atoi(arg)
			if err != nil {
				panic(fmt.Sprintf("probe: %s: %v", word, err))
			}
			say(false, digits(n))
		case "env":
			i := slices.IndexFunc(w.Container.Env, func(e string) bool { return strings.HasPrefix(e, arg+"=") })
			if i < 0 {
				say(false, arg+"=")
			} else {
				say(false, w.Container.Env[i])
			}
		case "write":
			path, text, _ := strings.Cut(arg, ":")
			if file, ok := w.files(path); ok {
				*file = text
			}
		case "cat":
			if file, ok := w.files(arg); ok && *file != "" {
				say(false, *file)
			} else {
				say(false, "no "+arg)
			}
		case "lookup":
			if w.lookup(arg) {
				say(false, "found "+arg)
			} else {
				say(false, "no "+arg)
			}
		case "wait":
			d, err := time.ParseDuration(arg)
			if err != nil {
				panic(fmt.Sprintf("probe: %s: %v", word, err))
			}
			b.After += d
		case "deaf":
			b.Deaf = true
		case "exit":
			code, err := strconv.Atoi(arg)
			if err != nil {
				panic(fmt.Sprintf("probe: %s: %v", word, err))
			}
			b.Exits, b.Code = true, code
			return b.checked(w)
		default:
			panic("probe: no instruction " + strconv.Quote(word))
		}
	}
	return b.checked(w)
}

// checked adds what the probe answers to its container's health check.
func (b Behaviour) checked(w World) Behaviour {
	if h := w.Container.Healthcheck; h != nil {
		b.Unhealthy = slices.ContainsFunc(h.Test, func(word string) bool {
			return strings.HasPrefix(word, "exit:") && word != "exit:0"
		})
	}
	return b
}

func digits(n int) string { return strings.Repeat("0123456789", n/10+1)[:n] }
