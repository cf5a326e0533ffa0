package fault_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestACallerReadsTheSentenceAndNeverTheCause(t *testing.T) {
	err := fmt.Errorf("rename fleet 7: %w", fault.Wrap(fault.Conflict, io.ErrUnexpectedEOF, `"porch" is taken`).WithHint("choose another name"))
	if got := fault.KindOf(err); got != fault.Conflict {
		t.Errorf("kind is %v, want conflict", got)
	}
	if got := fault.Message(err); got != `"porch" is taken` {
		t.Errorf("message is %q", got)
	}
	if got := fault.Hint(err); got != "choose another name" {
		t.Errorf("hint is %q", got)
	}
	if !strings.Contains(err.Error(), "unexpected EOF") || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the log lost the cause: %v", err)
	}
}

func TestAnUnclassifiedErrorTellsACallerNothing(t *testing.T) {
	err := errors.New("open /var/lib/secret: permission denied")
	if got := fault.Message(err); got != "internal error" {
		t.Errorf("message is %q", got)
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("no error is of a kind")
	}
}

func TestEveryKindHasAName(t *testing.T) {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		if s := k.String(); s == "" || strings.HasPrefix(s, "kind ") {
			t.Errorf("kind %d has no name", k)
		}
	}
}
