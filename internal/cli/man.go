package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/dunlin/dunlin/internal/fault"
)

// manual is `dunlin man`.
func (a *app) manual() *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write the manual pages of all commands into a folder",
		Long: "Write the manual pages of all commands into a folder, one page for each: dunlin.1, dunlin-fleet.1,\n" +
			"dunlin-fleet-create.1 and so on. They are what --help says.",
		Example: "  dunlin man /usr/local/share/man/man1\n  dunlin man . && man ./dunlin-fleet-create.1",
		Args:    words,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fault.Wrap(fault.Invalid, err, "cannot make the folder: "+err.Error())
			}
			root := cmd.Root()
			root.InitDefaultHelpCmd()
			root.DisableAutoGenTag = true // the same program writes the same pages
			header := &doc.GenManHeader{Section: "1", Source: "Dunlin " + a.version, Manual: "Dunlin"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("cannot write the manual: %w", err)
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "dunlin*.1"))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s to %s.\n", counted(len(pages), "page"), args[0])
			return err
		},
	}
}
