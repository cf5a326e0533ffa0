package registry

import (
	"io"
	"log/slog"
	"net/http"

	"github.com/sirupsen/logrus"
)

// takeOverLog sends what logrus' standard logger is told to log; distribution offers no other way. With several
// registries in one process the last one opened gets all of it.
func takeOverLog(log *slog.Logger) {
	std := logrus.StandardLogger()
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.InfoLevel)
	std.ReplaceHooks(logrus.LevelHooks{})
	std.AddHook(toSlog{log})
}

type toSlog struct{ log *slog.Logger }

func (toSlog) Levels() []logrus.Level { return logrus.AllLevels }

func (h toSlog) Fire(e *logrus.Entry) error {
	level := severity(e)
	if !h.log.Enabled(e.Context, level) {
		return nil
	}
	attrs := []slog.Attr{slog.String("event", e.Message)}
	for _, f := range [...]struct{ from, to string }{
		{"http.request.method", "method"}, {"vars.name", "repository"}, {"auth.user.name", "user"},
		{"http.response.status", "status"}, {"err.code", "code"}, {"err.message", "err"}, {"err.detail", "detail"},
		{logrus.ErrorKey, "err"},
	} {
		if v, ok := e.Data[f.from]; ok && v != nil && v != "" {
			attrs = append(attrs, slog.Any(f.to, v))
		}
	}
	h.log.LogAttrs(e.Context, level, "registry", attrs...)
	return nil
}

// severity is what an entry means to this house: distribution calls each question for a layer that is not there yet
// an error, and each first request without a token a warning.
func severity(e *logrus.Entry) slog.Level {
	status, answered := e.Data["http.response.status"].(int)
	switch {
	case e.Level >= logrus.WarnLevel:
		return slog.LevelDebug
	case answered && status < http.StatusInternalServerError:
		return slog.LevelDebug
	case answered || e.Level <= logrus.FatalLevel:
		return slog.LevelError
	}
	return slog.LevelWarn // a client that went away, a digest that does not match
}
