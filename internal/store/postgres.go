package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/dunlin/dunlin/internal/fault"
)

// Advisory locks of the database. Their numbers mean nothing; every version of Dunlin uses the same.
const (
	// takeTurn makes writers wait for each other, those of other servers of the same database too, until the end of
	// the transaction. SQLite has one writer, and rules that read and then write rely on it.
	takeTurn = `SELECT pg_advisory_xact_lock(7310589391)`
	// Two servers that start at once would both migrate. This one is of the session, and released with it.
	takeMigration    = `SELECT pg_advisory_lock(7310589392)`
	releaseMigration = `SELECT pg_advisory_unlock(7310589392)`
)

// connectPatience bounds one attempt to connect, unless the address says connect_timeout.
const connectPatience = 10 * time.Second

// openPostgres opens the database of a URL. The database is there already, and empty or Dunlin's.
func openPostgres(ctx context.Context, address string, prepare prepare) (*DB, error) {
	config, err := parsePostgres(address)
	if err != nil {
		return nil, err
	}
	// Statements of a writing transaction see what was committed before each of them. The first takes the turn, and
	// from then on nobody else commits: that is as good as a snapshot, and unlike with one no transaction fails
	// because its snapshot was taken while it waited for its turn.
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	// A server that stalls amid a transaction, or is cut off, must not keep the turn from others for ever.
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	writer := sql.OpenDB(connector{stdlib.GetConnector(*config)})
	writer.SetMaxOpenConns(1)
	if err := preparePostgres(ctx, writer, prepare); err != nil {
		return nil, errors.Join(cannotOpen(err, config), writer.Close())
	}
	config = config.Copy()
	// A transaction that reads sees one state of the database from beginning to end, as on SQLite.
	config.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	config.RuntimeParams["default_transaction_read_only"] = "on"
	reader := sql.OpenDB(connector{stdlib.GetConnector(*config)})
	reader.SetMaxOpenConns(Readers)
	reader.SetMaxIdleConns(Readers)
	return &DB{dialect: PostgreSQL, writer: writer, reader: reader}, nil
}

func parsePostgres(address string) (*pgx.ConnConfig, error) {
	// Reasons of what parses URLs quote them, and with them the password.
	unreadable := fault.New(fault.Invalid, "the database's address is no URL").
		WithHint("write it as postgres://user:password@host:5432/database, and what is special in the password as %XX")
	u, err := url.Parse(address)
	if err != nil {
		return nil, unreadable
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		reason := err
		if quoted := (*pgconn.ParseConfigError)(nil); errors.As(err, &quoted) && quoted.Unwrap() != nil {
			reason = quoted.Unwrap()
		}
		if password, ok := u.User.Password(); ok && strings.Contains(reason.Error(), password) {
			return nil, unreadable
		}
		return nil, fault.Newf(fault.Invalid, "the database's address cannot be used: %s", reason).WithHint(unreadable.Hint)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectPatience
	}
	// The engine tells the type of a parameter from the text around it. Text that leaves it open has to say CAST.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	config.StatementCacheCapacity = 200
	for name, value := range map[string]string{
		"timezone": "UTC",
		"jit":      "off", // it takes longer to compile our statements than to run them
		// Pages are in memory, or on a disk without arms: the default, 4, reads a whole table for 3 % of its rows.
		"random_page_cost": "1.1",
	} {
		config.RuntimeParams[name] = value
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "dunlin"
	}
	return config, nil
}

// preparePostgres looks whether the database is fit, and migrates it alone.
func preparePostgres(ctx context.Context, db *sql.DB, prepare prepare) (err error) {
	var encoding string
	if err := db.QueryRowContext(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fault.Newf(fault.Conflict, "the database keeps text as %s, and it has to be UTF8", encoding).
			WithHint("make it anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")
	}
	// The lock is the session's, and migrations run on another one.
	db.SetMaxOpenConns(2)
	defer db.SetMaxOpenConns(1)
	session, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	if _, err := session.ExecContext(ctx, takeMigration); err != nil {
		return fmt.Errorf("wait for another server that migrates: %w", err)
	}
	defer func() {
		_, unlocked := session.ExecContext(context.WithoutCancel(ctx), releaseMigration)
		err = errors.Join(err, unlocked)
	}()
	return prepare(ctx, goose.DialectPostgres, db)
}

// cannotOpen says why a database cannot be opened to who starts the server. The password is not in it.
func cannotOpen(err error, config *pgx.ConnConfig) error {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		return fmt.Errorf("open database %s on %s: %w", config.Database, config.Host, err)
	}
	where := fmt.Sprintf("%s:%d", config.Host, config.Port)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return fault.Wrap(fault.Unavailable, failed, "PostgreSQL cannot be reached at "+where).
			WithHint("start it, or correct --database (DUNLIN_DATABASE)")
	}
	f := fault.Wrap(fault.Unavailable, failed, fmt.Sprintf("PostgreSQL at %s does not let in %s: %s", where, config.User, refused.Message))
	switch refused.Code {
	case "3D000": // invalid_catalog_name
		return f.WithHint(fmt.Sprintf("make the database: CREATE DATABASE %q OWNER %q ENCODING 'UTF8' TEMPLATE template0", config.Database, config.User))
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return f.WithHint("correct user and password in DUNLIN_DATABASE, or what pg_hba.conf allows")
	}
	return f.WithHint("the server's own log says more")
}

// connector makes connections whose errors are those of the house.
type connector struct{ driver.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, away(ctx, err)
	}
	return conn{made.(*stdlib.Conn)}, nil
}

// conn is the driver's connection, and all that it can do, with errors and values checked.
type conn struct{ *stdlib.Conn }

// keptPrepared is how long a statement may be, in bytes, that a connection keeps prepared. Those of this room are
// shorter; parsed and planned once, they take a half to a third of the time. A longer one is compiled for the query of a
// client: it seldom comes again, and the engine would keep as much memory for it as for a hundred of ours.
const keptPrepared = 2000

func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	r, err := c.Conn.ExecContext(ctx, query, once(query, args))
	return r, c.lost(ctx, err)
}

func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r, err := c.Conn.QueryContext(ctx, query, once(query, args))
	return r, c.lost(ctx, err)
}

// once tells the driver, by its argument for that, not to keep a long statement.
func once(query string, args []driver.NamedValue) []driver.NamedValue {
	if len(query) <= keptPrepared {
		return args
	}
	return append([]driver.NamedValue{{Value: pgx.QueryExecModeExec}}, args...)
}

func (c conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	return transaction{tx, c, ctx}, nil
}

type transaction struct {
	driver.Tx
	conn conn
	ctx  context.Context // of BeginTx: database/sql gives none to Commit
}

func (t transaction) Commit() error { return t.conn.lost(t.ctx, t.Tx.Commit()) }

// CheckNamedValue takes the values that every driver takes. PostgreSQL keeps no NUL in text, and nothing but UTF-8:
// who sends such a text is told so, rather than that the server is broken.
func (c conn) CheckNamedValue(v *driver.NamedValue) (err error) {
	if v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value); err != nil {
		return err
	}
	if s, ok := v.Value.(string); ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
		return fault.New(fault.Invalid, "a text is not UTF-8 or has a NUL in it")
	}
	return nil
}

// lost tells a connection that broke from a statement that failed. What database/sql tries again on another
// connection passes unchanged: what was not sent yet, outside a transaction.
func (c conn) lost(ctx context.Context, err error) error {
	server := c.Conn.Conn()
	again := errors.Is(err, driver.ErrBadConn) && server.PgConn().TxStatus() == 'I'
	if err == nil || again || !server.IsClosed() {
		return err
	}
	return away(ctx, err)
}

// away says that the database does not answer, unless it was not asked long enough.
func away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the server's database does not answer").WithHint("try again in a moment")
}

// explainPostgres is Explain for errors of PostgreSQL; nil for others.
func explainPostgres(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code {
	case "23505": // unique_violation
		return uniqueViolation(err, keyColumns(e.Detail))
	case "23503": // foreign_key_violation
		return referenceViolation(err)
	case "23514": // check_violation
		return checkViolation(err)
	case "23502": // not_null_violation
		return missingValue(err, e.ColumnName)
	case "54000": // program_limit_exceeded: a text in an index
		return fault.Wrap(fault.TooLarge, err, "a text is too long")
	case "53100": // disk_full
		return diskFull(err)
	case "25006": // read_only_sql_transaction: a standby, or a server that was told to be
		return fault.Wrap(fault.Unavailable, err, "the server's database takes no changes at the moment")
	}
	return nil
}

// keyColumns reads "Key (organization, name)=(1, porch) already exists.", in any language: the columns stand in the
// first parentheses, and their names have none.
func keyColumns(detail string) []string {
	_, rest, _ := strings.Cut(detail, "(")
	columns, _, found := strings.Cut(rest, ")=(")
	if !found {
		return nil
	}
	return strings.Split(columns, ", ")
}
