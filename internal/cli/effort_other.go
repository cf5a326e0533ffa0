//go:build !unix

package cli

import "time"

// processUsage is not known here.
func processUsage() (cpu time.Duration, memory int64) { return 0, 0 }
