package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// NewPatient is New for machines that are busy with other tests.
func NewPatient(version string) *cobra.Command {
	return (&app{version: version, now: time.Now, patience: time.Minute}).root()
}
