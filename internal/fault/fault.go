// Package fault owns the kinds of error the house tells apart and the one sentence of each that a caller may
// read. It does not own logging, nor what a kind becomes on a wire (an HTTP status, an exit code): front doors do.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind tells a front door how to answer; it says nothing about where the error came from.
type Kind uint8

const (
	// Internal is everything nobody classified. Its text is for the log alone.
	Internal Kind = iota
	// Invalid is input that can never be accepted as it is.
	Invalid
	// Unauthenticated means that nobody, or nobody known, is asking.
	Unauthenticated
	// Denied means that a known actor may not do this.
	Denied
	// NotFound means that the thing is not there, or that the caller may not know whether it is.
	NotFound
	// Conflict means that the request contradicts what is there: a name taken, a state that moved on.
	Conflict
	// TooLarge means that a bound on size was passed.
	TooLarge
	// Limited means that the caller asks too often; it may try again later.
	Limited
	// Unavailable means that something needed is away; the same request may succeed later.
	Unavailable
)

var names = [...]string{
	Internal: "internal", Invalid: "invalid", Unauthenticated: "unauthenticated", Denied: "denied",
	NotFound: "not found", Conflict: "conflict", TooLarge: "too large", Limited: "limited", Unavailable: "unavailable",
}

func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a sentence that a caller may read.
type Error struct {
	Kind    Kind
	Message string // what cannot be done and why, lower case, no full stop
	Hint    string // what to do about it, if anything; printed on a line of its own
	Err     error  // the cause, for the log only; may be nil
	// Wait is how long it makes no sense to try again; 0 is not known. Front doors pass it on.
	Wait time.Duration
}

// Error is the text for the log: the sentence and its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New says at its origin, once, what a caller may read.
func New(k Kind, message string) *Error { return &Error{Kind: k, Message: message} }

// Newf is New with a format.
func Newf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Wrap gives a caller a sentence for err, whose own text stays in the log.
func Wrap(k Kind, err error, message string) *Error {
	return &Error{Kind: k, Message: message, Err: err}
}

// WithHint adds what to do.
func (e *Error) WithHint(hint string) *Error {
	e.Hint = hint
	return e
}

// WithWait adds how long it makes no sense to try again.
func (e *Error) WithWait(wait time.Duration) *Error {
	e.Wait = wait
	return e
}

// KindOf is the kind of the outermost Error in err's chain, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Message is what a caller may read of err. An unclassified error says "internal error" and nothing more.
func Message(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Message
	}
	return "internal error"
}

// Hint is what a caller may do about err, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// RetryAfter is how many whole seconds a caller should wait before it tries again, or 0 if err does not say.
func RetryAfter(err error) int {
	var e *Error
	if !errors.As(err, &e) || e.Wait <= 0 {
		return 0
	}
	return int((e.Wait + time.Second - 1) / time.Second)
}
