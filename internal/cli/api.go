package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// maxData bounds the body of a raw call that is read from a file, in bytes.
const maxData = 64 << 20

// api is `dunlin api`.
func (a *app) api() *cobra.Command {
	var method, data, kind string
	var fields []string
	var include, curl bool
	cmd := &cobra.Command{
		Use:   "api PATH",
		Short: "Make any call to the server's API and print its answer",
		Long: "Make any call to the server's API, as who you are logged in, and print its answer as it comes.\n\n" +
			"PATH is a path on the server with its query, such as '/v7/device?$select=uuid&$top=3'; without a slash at the front\n" +
			"it is below /v7/. Characters that an address cannot have, such as spaces, are encoded. Put it in quotes: the shell\n" +
			"has its own ideas about $ and &.\n\n" +
			"--field builds a JSON body: a value that is JSON is taken as such, everything else as a string.",
		Example: "  dunlin api 'device?$select=device_name,is_online&$filter=is_online eq true'\n" +
			"  dunlin api 'device(7)' -X PATCH -F device_name=porch-left -F note=null\n" +
			"  dunlin api /supervisor/v1/reboot -X POST -d '{\"deviceId\":7,\"data\":{\"force\":false}}'\n" +
			"  dunlin api /actor/v1/whoami --curl",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			body, err := rawBody(s.cmd.InOrStdin(), data, fields)
			if err != nil {
				return err
			}
			if method == "" {
				method = http.MethodGet
				if body != nil {
					method = http.MethodPost
				}
			}
			method = strings.ToUpper(method)
			path, err := rawPath(args[0])
			if err != nil {
				return err
			}
			if curl {
				return s.say("%s", curlCommand(method, s.URL+path, kind, body))
			}
			return s.raw(ctx, method, path, kind, body, include)
		}),
	}
	cmd.Flags().StringVarP(&method, "method", "X", "", "`METHOD` of the call (default: GET, with a body POST)")
	cmd.Flags().StringVarP(&data, "data", "d", "", "body of the call; @FILE reads it from a file, - from standard input")
	cmd.Flags().StringArrayVarP(&fields, "field", "F", nil, "`NAME=VALUE` of a JSON body; may be given several times")
	cmd.Flags().StringVar(&kind, "content-type", "application/json", "media type of the body")
	cmd.Flags().BoolVarP(&include, "include", "i", false, "print the answer's status and headers too")
	cmd.Flags().BoolVar(&curl, "curl", false, "make no call; print it as a curl command that reads the token from DUNLIN_TOKEN")
	return cmd
}

// rawPath is what a person typed as the address of a call, as it goes over the wire.
func rawPath(typed string) (string, error) {
	if strings.Contains(typed, "://") || strings.HasPrefix(typed, "//") {
		return "", fault.Newf(fault.Invalid, "%q is an address, not a path on the server", typed).
			WithHint("write the path alone, such as /v7/device; `dunlin login URL` chooses the server")
	}
	if !strings.HasPrefix(typed, "/") {
		typed = "/v7/" + typed
	}
	var b strings.Builder
	for _, c := range []byte(typed) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// rawBody is the body that --data or --field say, nil if neither does.
func rawBody(in io.Reader, data string, fields []string) ([]byte, error) {
	if data != "" && len(fields) > 0 {
		return nil, fault.New(fault.Invalid, "--data and --field do not go together").WithHint("give the whole body with --data, or build it with --field")
	}
	if len(fields) > 0 {
		object := map[string]json.RawMessage{}
		for _, f := range fields {
			name, value, found := strings.Cut(f, "=")
			if !found || name == "" {
				return nil, fault.Newf(fault.Invalid, "%q is no field", f).WithHint("write it as NAME=VALUE")
			}
			if !json.Valid([]byte(value)) {
				quoted, err := json.Marshal(value)
				if err != nil {
					return nil, err
				}
				value = string(quoted)
			}
			object[name] = json.RawMessage(value)
		}
		return json.Marshal(object)
	}
	file, isFile := strings.CutPrefix(data, "@")
	switch {
	case data == "":
		return nil, nil
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "cannot read the body")
		}
		defer f.Close() // only read
		in = f
	case data != "-":
		return []byte(data), nil
	}
	body, err := io.ReadAll(io.LimitReader(in, maxData+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "cannot read the body")
	}
	if len(body) > maxData {
		return nil, fault.Newf(fault.Invalid, "the body is over %d MB", maxData>>20)
	}
	return body, nil
}

// raw makes a call and prints its answer as it arrives. An answer that says no is printed too, and is an error.
func (s *session) raw(ctx context.Context, method, path, kind string, body []byte, include bool) error {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	resp, err := s.Do(ctx, method, path, content, kind)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read
	out := s.out()
	if include {
		if _, err := fmt.Fprintf(out, "%s %s\n%s\n", resp.Proto, resp.Status, headerLines(resp.Header)); err != nil {
			return err
		}
	}
	end := &lastByte{w: out}
	if _, err := io.Copy(end, resp.Body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if end.any && end.last != '\n' {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
	}
	if resp.StatusCode >= 300 {
		return &client.Error{Status: resp.StatusCode, Message: "the server answered " + resp.Status, RequestID: resp.Header.Get("X-Request-Id")}
	}
	return nil
}

// lastByte passes on what is written, and knows how it ended.
type lastByte struct {
	w    io.Writer
	any  bool
	last byte
}

func (l *lastByte) Write(b []byte) (int, error) {
	if len(b) > 0 {
		l.any, l.last = true, b[len(b)-1]
	}
	return l.w.Write(b)
}

func headerLines(h http.Header) string {
	var lines []string
	for name, values := range h {
		for _, v := range values {
			lines = append(lines, name+": "+plain(v, false)+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// curlCommand is a call as a command for a shell. The token is not in it.
func curlCommand(method, url, kind string, body []byte) string {
	parts := []string{"curl", "-X", method, "-H", `"Authorization: Bearer $DUNLIN_TOKEN"`}
	if body != nil {
		parts = append(parts, "-H", quoted("Content-Type: "+kind), "--data-binary", quoted(string(body)))
	}
	return strings.Join(append(parts, quoted(url)), " ")
}

// quoted is one word for a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// callPrinter prints each call that a command makes, and what became of it.
type callPrinter struct {
	next http.RoundTripper
	out  io.Writer
}

// RoundTrip makes the call. Of the request it prints method and address, of the answer the status; never a token.
func (p *callPrinter) RoundTrip(r *http.Request) (*http.Response, error) {
	address := *r.URL
	if q := address.Query(); q.Has("apikey") || q.Has("token") {
		address.RawQuery = "…"
	}
	resp, err := p.next.RoundTrip(r)
	outcome := "no answer"
	if err == nil {
		outcome = resp.Status
	}
	_, _ = fmt.Fprintf(p.out, "> %s %s → %s\n", r.Method, plain(address.RequestURI(), false), outcome) // nothing depends on it
	return resp, err
}
