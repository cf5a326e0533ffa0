package api

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized, fault.Denied: http.StatusForbidden,
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.TooLarge: http.StatusRequestEntityTooLarge,
	fault.Limited: http.StatusTooManyRequests, fault.Unavailable: http.StatusServiceUnavailable, fault.Internal: http.StatusInternalServerError,
}

// refuse answers an error: explained, and of a conflict as a JSON string, of everything else as plain text (protocol
// §6.3).
func (a *API) refuse(w http.ResponseWriter, r *http.Request, id string, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // a plain return would be an empty 200, should somebody listen after all
	}
	kind := fault.KindOf(err)
	text := explained(err)
	switch kind {
	case fault.Internal:
		text += "; request " + id
		a.log().Error("request failed", "method", r.Method, "path", r.URL.Path, "request", id, "err", err)
	case fault.Unavailable:
		w.Header().Set("Retry-After", "5")
		a.log().Warn("request failed", "method", r.Method, "path", r.URL.Path, "request", id, "err", err)
	case fault.Limited:
		retryAfter(w, err)
	case fault.Conflict:
		if strings.HasPrefix(r.URL.Path, "/v3/") {
			break // the builder's clients print what they get
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(text)
		return
	case fault.Denied:
		// Of a resource, no permission and no credentials are one answer.
		if root(r.URL.Path) != "" {
			kind = fault.Unauthenticated
		}
	}
	say(w, statuses[kind], text)
}

// explained is the sentence a caller may read, and its hint on a line of its own.
func explained(err error) string {
	text := fault.Message(err)
	if hint := fault.Hint(err); hint != "" {
		text += "\nhint: " + hint
	}
	return text
}

// retryAfter passes on how long it makes no sense to try again.
func retryAfter(w http.ResponseWriter, err error) {
	if seconds := fault.RetryAfter(err); seconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
}

// say answers with plain text.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// show answers with JSON.
func show(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body)
	return nil
}

// showLarge is show for what may be large.
func showLarge(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, body)
	return nil
}

// worthwhile is the size of a body from which on it is compressed, in bytes.
const worthwhile = 4 << 10

// send answers with JSON that is encoded already, compressed if that is worthwhile and the client takes it.
func send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Add("Vary", "Accept-Encoding")
	if len(body) < worthwhile || r.Method == http.MethodHead || !takesGzip(r) {
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // it knows the level
	_, _ = z.Write(body)
	_ = z.Close()
}

// takesGzip reports whether a client says that it takes compressed answers (RFC 9110 §12.5.3).
func takesGzip(r *http.Request) bool {
	for _, given := range r.Header.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(given, ",") {
			coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				q, err := strconv.ParseFloat(strings.TrimPrefix(strings.ReplaceAll(weight, " ", ""), "q="), 64)
				return err != nil || q > 0
			}
		}
	}
	return false
}
