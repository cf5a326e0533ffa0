package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// userCommand works straight on the database, for who sits at the server: the way back in for who has lost the
// password. It needs no server, and none that runs minds it: nothing of an account is kept anywhere else.
func userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Accounts, straight in the server's database",
		Long: `Accounts, straight in the server's database.

For whoever runs the server, on its machine; it may run meanwhile. The database is found as the server finds it: by
--data, --database, --config or the environment.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(userListCommand(), userAddCommand(), userPasswordCommand(), userAdministratorCommand(), userDeleteCommand())
	return cmd
}

// console is what a command has in hand: the accounts, and where to write.
type console struct {
	auth *auth.Auth
	db   *store.DB
	out  io.Writer
	in   io.Reader
}

// atConsole makes a command of the server's settings, of which --help shows those that say where the database is.
func atConsole(cmd *cobra.Command, do func(ctx context.Context, c console, args []string) error) *cobra.Command {
	o := &options{}
	own := cmd.Flags()
	settings := settingsOf(o)
	settings.VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "data", "database", fileFlag:
		default:
			f.Hidden = true
		}
	})
	own.AddFlagSet(settings)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := o.complete(cmd, os.LookupEnv); err != nil {
			return err
		}
		db, err := store.Attach(cmd.Context(), o.database)
		if err != nil {
			return err
		}
		defer func() {
			if closed := db.Close(); err == nil {
				err = closed
			}
		}()
		return do(cmd.Context(), console{auth: &auth.Auth{Store: db}, db: db, out: cmd.OutOrStdout(), in: cmd.InOrStdin()}, args)
	}
	return cmd
}

// user finds an account by its name or email.
func (c console) user(ctx context.Context, name string) (store.Login, error) {
	u, err := c.db.Login(ctx, strings.ToLower(name))
	if fault.Is(err, fault.NotFound) {
		err = fault.Newf(fault.NotFound, "there is no user %q", name).WithHint("dunlin server user list shows them")
	}
	return u, err
}

// password is the first line of the input, if it is to be read, or a new one that is said once.
func (c console) password(read bool) (password string, made bool, err error) {
	if !read {
		return auth.NewPassword(), true, nil
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", false, fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), false, nil
}

// told adds a password that was made to what was done.
func told(password string, made bool) string {
	if !made {
		return ""
	}
	return fmt.Sprintf(", with the password %s (it is shown only now)", password)
}

func userListCommand() *cobra.Command {
	return atConsole(&cobra.Command{
		Use: "list", Short: "List the accounts", Args: cobra.NoArgs,
		Example: "  dunlin server user list --data /var/lib/dunlin",
	}, func(ctx context.Context, c console, _ []string) error {
		all, err := c.db.Accounts(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
		fmt.Fprintln(table, "NAME\tEMAIL\tADMINISTRATOR\tCREATED\tLAST LOGIN")
		for _, a := range all {
			administrator, last := "no", "-"
			if a.Administrator {
				administrator = "yes"
			}
			if !a.LastLogin.IsZero() {
				last = a.LastLogin.Format("2006-01-02")
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", a.Username, a.Email, administrator, a.Created.Format("2006-01-02"), last)
		}
		return table.Flush()
	})
}

func userAddCommand() *cobra.Command {
	var email string
	var administrator, fromInput bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make an account", Args: cobra.ExactArgs(1),
		Long: "Make an account, with an organization of the same name. Without --password-stdin a password is made and printed once.",
		Example: `  dunlin server user add ada --email ada@example.org
  dunlin server user add root --administrator --password-stdin < password`,
	}
	cmd.Flags().StringVar(&email, "email", "", "email address, to log in with as well")
	cmd.Flags().BoolVar(&administrator, "administrator", false, "may make accounts on this server")
	cmd.Flags().BoolVar(&fromInput, "password-stdin", false, "read the password from standard input")
	return atConsole(cmd, func(ctx context.Context, c console, args []string) error {
		password, made, err := c.password(fromInput)
		if err != nil {
			return err
		}
		u, err := c.auth.Add(ctx, auth.NewAccount{Username: args[0], Email: email, Password: password, Administrator: administrator})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "Made the user %s%s\n", u.Username, told(password, made))
		return nil
	})
}

func userPasswordCommand() *cobra.Command {
	var fromInput bool
	cmd := &cobra.Command{
		Use: "password NAME", Short: "Give a user another password", Args: cobra.ExactArgs(1),
		Long: "Give a user another password. It ends the user's sessions; API keys stay good. Without --password-stdin a password is made and printed once.",
		Example: `  dunlin server user password admin
  dunlin server user password ada@example.org --password-stdin < password`,
	}
	cmd.Flags().BoolVar(&fromInput, "password-stdin", false, "read the password from standard input")
	return atConsole(cmd, func(ctx context.Context, c console, args []string) error {
		u, err := c.user(ctx, args[0])
		if err != nil {
			return err
		}
		password, made, err := c.password(fromInput)
		if err != nil {
			return err
		}
		if err := c.auth.SetPassword(ctx, fleet.Actor{}, u.ID, password); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "Changed the password of %s%s; the sessions of before have ended\n", u.Username, told(password, made))
		return nil
	})
}

func userAdministratorCommand() *cobra.Command {
	var revoke bool
	cmd := &cobra.Command{
		Use: "administrator NAME", Short: "Let a user make accounts, or no longer", Args: cobra.ExactArgs(1),
		Example: `  dunlin server user administrator ada
  dunlin server user administrator ada --revoke`,
	}
	cmd.Flags().BoolVar(&revoke, "revoke", false, "take it away")
	return atConsole(cmd, func(ctx context.Context, c console, args []string) error {
		u, err := c.user(ctx, args[0])
		if err != nil {
			return err
		}
		if err := c.db.SetAdministrator(ctx, fleet.Actor{}, u.ID, !revoke); err != nil {
			return err
		}
		is := "is an administrator"
		if revoke {
			is = "is no administrator any more"
		}
		fmt.Fprintf(c.out, "%s %s\n", u.Username, is)
		return nil
	})
}

func userDeleteCommand() *cobra.Command {
	return atConsole(&cobra.Command{
		Use: "delete NAME", Short: "Delete an account", Args: cobra.ExactArgs(1),
		Long: `Delete an account with its keys and sessions.

Not one that alone owns an organization with fleets or members in it, nor the last administrator.`,
		Example: "  dunlin server user delete ada",
	}, func(ctx context.Context, c console, args []string) error {
		u, err := c.user(ctx, args[0])
		if err != nil {
			return err
		}
		if err := c.db.DeleteUser(ctx, fleet.Actor{}, u.ID); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "Deleted the user %s\n", u.Username)
		return nil
	})
}
