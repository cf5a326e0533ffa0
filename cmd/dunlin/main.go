package main

import (
	"context"
	"os"

	"github.com/dunlin/dunlin/internal/cli"
	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/source"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "0.1.0-dev"

// hookCommand is what git runs in the middle of a push; it is not for people.
const hookCommand = "git-hook"

func main() {
	if len(os.Args) > 1 && os.Args[1] == hookCommand {
		os.Exit(source.Hook(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == deltajob.Command {
		os.Exit(deltajob.Work(os.Stdin, os.Stdout, os.Stderr, deltajob.Makers()))
	}
	root := cli.New(version)
	root.AddCommand(serverCommand())
	os.Exit(cli.Execute(context.Background(), root))
}
