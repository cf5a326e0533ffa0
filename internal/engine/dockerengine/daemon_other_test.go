//go:build !linux

package dockerengine_test

import (
	"errors"
	"testing"
)

type daemon struct{ place }

func newDaemon(*testing.T, string, ...string) (*daemon, error) {
	return nil, errors.New("it needs Linux")
}
