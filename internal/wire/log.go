package wire

import (
	"encoding/json"
	"fmt"
)

// ContentTypeLogs is the one content type a log stream may have.
const ContentTypeLogs = "application/x-ndjson"

// Bounds of the log stream, in bytes.
const (
	MaxLogMessage = 10_000
	MaxLogLine    = 64 << 10
)

// LogLine is one line of a device's log as it travels up, and, with CreatedAt, as it is read back.
type LogLine struct {
	Message   string `json:"message"`
	Timestamp int64  `json:"timestamp"`           // when it was written, ms since 1970
	CreatedAt int64  `json:"createdAt,omitempty"` // when the server took it, ms since 1970
	IsSystem  bool   `json:"isSystem"`
	IsStdErr  bool   `json:"isStdErr"`
	ServiceID *int64 `json:"serviceId,omitempty"`
}

// ParseLogLine decodes one line of a log stream. ok is false for a line that is dropped without a word: one that
// is not of the shape, or that carries a uuid (reserved by the protocol). err is for bytes that are no JSON.
func ParseLogLine(line []byte) (l LogLine, ok bool, err error) {
	if !json.Valid(line) {
		return l, false, fmt.Errorf("decode log line: not JSON")
	}
	var raw struct {
		Message   *string         `json:"message"`
		Timestamp *float64        `json:"timestamp"`
		IsSystem  bool            `json:"isSystem"`
		IsStdErr  bool            `json:"isStdErr"`
		ServiceID *int64          `json:"serviceId"`
		UUID      json.RawMessage `json:"uuid"`
	}
	if json.Unmarshal(line, &raw) != nil || raw.Message == nil || raw.Timestamp == nil || raw.UUID != nil {
		return l, false, nil
	}
	if *raw.Timestamp < 0 || *raw.Timestamp > 1<<53 {
		return l, false, nil
	}
	return LogLine{
		Message: cut(*raw.Message, MaxLogMessage), Timestamp: int64(*raw.Timestamp),
		IsSystem: raw.IsSystem, IsStdErr: raw.IsStdErr, ServiceID: raw.ServiceID,
	}, true, nil
}
