package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/recording"
)

// hurry ends a program that does not end by itself.
const hurry = 60 * time.Second

// program builds the real thing.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "remote-monitor")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=1.2.3", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// running is the program and what it says.
type running struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Scanner
	last  map[string]any
}

func start(t *testing.T, bin string, env []string, args ...string) *running {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append([]string{"BALENA_DEVICE_NAME_AT_INIT=calm-otter"}, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(hurry, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	return &running{Cmd: cmd, t: t, lines: bufio.NewScanner(out)}
}

// until reads lines until one has this event, and returns it.
func (r *running) until(event string) map[string]any {
	r.t.Helper()
	for r.lines.Scan() {
		r.last = nil
		if err := json.Unmarshal(r.lines.Bytes(), &r.last); err != nil {
			r.t.Fatalf("%q: %v", r.lines.Text(), err)
		}
		if r.last["event"] == event {
			return r.last
		}
	}
	r.t.Fatalf("it ended without %s; the last line was %v", event, r.last)
	return nil
}

// stop tells it to, reads what is left and returns the exit code.
func (r *running) stop(s syscall.Signal) int {
	r.t.Helper()
	if err := r.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	r.until(monitor.Stop)
	for r.lines.Scan() {
		r.t.Errorf("after the stop it said %q", r.lines.Text())
	}
	return code(r.t, r.Wait())
}

// code is the exit code of a program that was waited for.
func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestTheRealProgram(t *testing.T) {
	bin := program(t)

	t.Run("speaks from start to stop and ends with 0 when told to", func(t *testing.T) {
		r := start(t, bin, []string{"REMOTE_MONITOR_BOARD=simulated"})
		first := r.until(monitor.Start)
		if first["version"] != "1.2.3" || first["device"] != "calm-otter" || first["zones"] != 3.0 || !strings.HasPrefix(first["reason"].(string), hello) {
			t.Errorf("it started with %v", first)
		}
		r.until("alarm")
		if c := r.stop(syscall.SIGTERM); c != fine {
			t.Errorf("it ended with %d", c)
		}
	})

	t.Run("answers its health check while it runs", func(t *testing.T) {
		r := start(t, bin, []string{"REMOTE_MONITOR_BOARD=simulated"})
		r.until("motion")
		out, err := exec.Command(bin, "health").CombinedOutput()
		if string(out) != "ok\n" || code(t, err) != fine {
			t.Errorf("it said %q", out)
		}
		r.stop(syscall.SIGINT)
		out, err = exec.Command(bin, "health").CombinedOutput()
		if code(t, err) != failed || !strings.Contains(string(out), "nobody answers") {
			t.Errorf("after the stop: %q", out)
		}
	})

	t.Run("stays up without a board, unwell, and says what to set", func(t *testing.T) {
		r := start(t, bin, nil)
		if said := r.until("fault")["reason"].(string); !strings.Contains(said, "set REMOTE_MONITOR_BOARD=simulated") {
			t.Errorf("it said %q", said)
		}
		out, err := exec.Command(bin, "health").CombinedOutput()
		if code(t, err) != failed || len(out) == 0 {
			t.Errorf("its health: %q", out)
		}
		if c := r.stop(syscall.SIGTERM); c != fine {
			t.Errorf("it ended with %d", c)
		}
	})

	t.Run("stops although nobody reads", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), bin)
		cmd.Env = []string{"REMOTE_MONITOR_BOARD=simulated", "SAMPLE_INTERVAL=0.01"}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		// A pipe that is full before it starts.
		if err := fill(write); err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = write
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		time.AfterFunc(hurry, func() { _ = cmd.Process.Kill() })
		deadline := time.Now().Add(hurry)
		for exec.Command(bin, "health").Run() != nil && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if c := code(t, cmd.Wait()); c == -1 {
			t.Error("it had to be killed")
		}
	})

	t.Run("is told from a wrong configuration when the service manager's watchdog ends it", func(t *testing.T) {
		unit, err := os.ReadFile("remote-monitor.service")
		if err != nil {
			t.Fatal(err)
		}
		var env []string
		for line := range strings.Lines(string(unit)) {
			if v, ok := strings.CutPrefix(line, "Environment="); ok {
				env = append(env, strings.TrimSpace(v))
			}
		}
		if !strings.Contains(string(unit), "\nRestartPreventExitStatus=2\n") || !strings.Contains(string(unit), "\nLimitCORE=0\n") {
			t.Error("the unit starts a wrong configuration again, or leaves core files")
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c 0; exec "$0"`, bin)
		cmd.Env = append(env, "REMOTE_MONITOR_BOARD=simulated")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(hurry, func() { _ = cmd.Process.Kill() })
		if !bufio.NewScanner(out).Scan() {
			t.Fatal("it did not start")
		}
		if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGABRT {
			t.Errorf("it ended with %v", err)
		}
	})

	t.Run("shows a page and metrics, and takes a command with the token", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		l.Close()
		r := start(t, bin, []string{"REMOTE_MONITOR_BOARD=simulated", "REMOTE_MONITOR_PAGE_LISTEN=" + at, "REMOTE_MONITOR_PAGE_TOKEN=open-sesame"})
		r.until("motion")
		for path, want := range map[string]string{"/": "Remote Monitor", "/api/status": `"Landing"`, "/metrics": `rm_input_state{input="Hall",state="normal"}`, "/healthz": "ok"} {
			if got := get(t, "http://"+at+path); !strings.Contains(got, want) {
				t.Errorf("%s does not say %s: %.300s", path, want, got)
			}
		}
		req, err := http.NewRequest("POST", "http://"+at+"/api/outputs/porch_lamp", strings.NewReader(`{"action":"pulse","seconds":2}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer open-sesame")
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode/100 != 2 || !strings.Contains(string(body), "accepted") {
			t.Errorf("the command: %s %s", res.Status, body)
		}
		r.stop(syscall.SIGTERM)
	})

	t.Run("reports what its log has as an error", func(t *testing.T) {
		got := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			got <- string(b)
		}))
		defer server.Close()
		r := start(t, bin, []string{
			"REMOTE_MONITOR_BOARD=simulated", "REMOTE_MONITOR_DATA=/dev/null/nowhere", "REMOTE_MONITOR_MQTT_URL=mqtt://127.0.0.1:1",
			"SENTRY_DSN=" + strings.Replace(server.URL, "http://", "http://key@", 1) + "/1",
		})
		r.until(monitor.Start)
		select {
		case said := <-got:
			if !strings.Contains(said, "kept in memory alone") || !strings.Contains(said, "calm-otter") {
				t.Errorf("reported %s", said)
			}
		case <-time.After(hurry):
			t.Error("nothing was reported")
		}
		r.stop(syscall.SIGTERM)
	})

	t.Run("records what can be replayed", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "r.csv")
		r := start(t, bin, []string{"REMOTE_MONITOR_BOARD=simulated"}, "run", "--record", file)
		r.until("motion")
		r.until("still")
		r.stop(syscall.SIGTERM)
		survey, err := recording.Look(recording.File(file))
		if err != nil || len(survey.Zones) != 3 || survey.Rows < 60 {
			t.Errorf("recorded %+v, %v", survey, err)
		}
		alone := filepath.Join(t.TempDir(), "alone.csv")
		cmd := exec.Command(bin, "record", "--for", "1s", alone)
		cmd.Env = []string{"REMOTE_MONITOR_BOARD=simulated"}
		if out, err := cmd.CombinedOutput(); code(t, err) != fine {
			t.Errorf("record: %s", out)
		}
		if survey, err = recording.Look(recording.File(alone)); err != nil || len(survey.Zones) != 3 {
			t.Errorf("recorded %+v, %v", survey, err)
		}
	})
}

// fill writes to a pipe until it takes no more.
func fill(w *os.File) error {
	if err := w.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	for {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return nil
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// do runs a command within this process.
func do(t *testing.T, stdin string, environ []string, args ...string) (out, said string, exit int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	exit = dispatch(t.Context(), args, environ, strings.NewReader(stdin), &stdout, &stderr)
	return stdout.String(), stderr.String(), exit
}

func TestACommandLineThatMakesNoSenseIsToldWhatWould(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"evaluat"}, `there is no command "evaluat"`},
		{[]string{"evaluate"}, "it needs --recording FILE and --labels FILE"},
		{[]string{"replay"}, "an argument is missing"},
		{[]string{"replay", "a", "b"}, `"b" is one argument too many`},
		{[]string{"replay", "--arm", "labels", "a"}, "--arm labels needs --labels FILE"},
		{[]string{"simulate", "--home", "castle", "--recording", "-"}, `there is no simulated home "castle"`},
		{[]string{"version", "--loud"}, "flag provided but not defined: -loud"},
		{[]string{"calibrate", "nowhere"}, "no zones are configured"},
		{[]string{"evaluate", "--recording", "r", "--labels", os.DevNull, "--config", "nonsense"}, "built in are default, legacy"},
		{[]string{"record", "x.csv"}, "no board is configured"},
	} {
		out, said, exit := do(t, "", nil, c.args...)
		if exit != misled || out != "" || !strings.Contains(said, c.want) || !strings.Contains(said, "hint: ") {
			t.Errorf("%q: exit %d, said %q", c.args, exit, said)
		}
	}
}

func TestAWrongConfigurationEndsWithTwoAndNamesAllThatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate.yaml")
	if err := os.WriteFile(file, []byte("zones:\n  - name: Hall\n    imput: adc1:1\npage: {listn: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said, exit := do(t, "", nil, "run", "--config", file)
	for _, want := range []string{"gate.yaml:3:5:", "did you mean input?", "gate.yaml:4:8:"} {
		if exit != misled || !strings.Contains(said, want) {
			t.Errorf("exit %d, and it does not say %s:\n%s", exit, want, said)
		}
	}
}

func TestHelpNamesEveryCommandAndCheckSaysWhatWasUnderstood(t *testing.T) {
	out, _, exit := do(t, "", nil, "--help")
	for _, c := range commands() {
		if exit != fine || !strings.Contains(out, "remote-monitor "+c.name+" ") {
			t.Errorf("the help does not name %s", c.name)
		}
		page, said, exit := do(t, "", nil, c.name, "--help")
		if exit != fine || !strings.Contains(page, "Usage: remote-monitor "+c.name) {
			t.Errorf("%s --help: exit %d: %s%s", c.name, exit, page, said)
		}
	}
	out, _, exit = do(t, "", []string{"INPUT_1_NAME=Hall", "INPUT_1_VALUE_NORMAL=29"}, "check")
	if exit != fine || !strings.Contains(out, "Hall") || !strings.Contains(out, "adc1:1") {
		t.Errorf("exit %d:\n%s", exit, out)
	}
	example, _, _ := do(t, "", nil, "example")
	if !strings.Contains(example, "zones:") {
		t.Errorf("the example:\n%s", example)
	}
}

func TestWhatIsSimulatedCanBeReplayedAndEvaluated(t *testing.T) {
	dir := t.TempDir()
	rec, lab := filepath.Join(dir, "r.csv"), filepath.Join(dir, "l.csv")
	simulate := func() string {
		if _, said, exit := do(t, "", nil, "simulate", "--home", "storms", "--seed", "3", "--days", "4", "--recording", rec, "--labels", lab); exit != fine {
			t.Fatal(said)
		}
		b, err := os.ReadFile(rec)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if first, second := simulate(), simulate(); first != second {
		t.Error("the same seed gives another recording")
	}
	out, said, exit := do(t, "", nil, "replay", rec)
	if exit != fine || !strings.Contains(out, `"event":"alarm"`) || strings.Contains(out, `"event":"suppressed"`) {
		t.Errorf("replay: exit %d, %s", exit, said)
	}
	if out, _, _ := do(t, "", nil, "replay", "--all", rec); !strings.Contains(out, `"event":"suppressed"`) {
		t.Error("replay --all hides what was suppressed")
	}
	out, said, exit = do(t, "", nil, "evaluate", "--recording", rec, "--labels", lab, "--baselines", "--json")
	var report struct {
		Results []struct {
			Config      string `json:"config"`
			FalseAlarms int    `json:"false_alarms"`
		} `json:"results"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || exit != fine {
		t.Fatalf("evaluate: exit %d, %v, %s", exit, err, said)
	}
	falsely := map[string]int{}
	for _, r := range report.Results {
		falsely[r.Config] = r.FalseAlarms
	}
	if len(falsely) < 6 || falsely["default"] >= falsely["legacy"] {
		t.Errorf("false alarms: %v", falsely)
	}
	if out, _, _ := do(t, "", nil, "evaluate", "--recording", rec, "--labels", lab, "--det"); !strings.Contains(out, "N=2") {
		t.Errorf("the sweep:\n%s", out)
	}
	broken := filepath.Join(dir, "broken.csv")
	if err := os.WriteFile(broken, []byte("timestamp,zone,value\n2025-01-01T00:00:00Z,hall,MAYBE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, exit := do(t, "", nil, "replay", broken); exit != failed || !strings.Contains(said, "2") || !strings.Contains(said, "MAYBE") {
		t.Errorf("a broken recording: exit %d, %s", exit, said)
	}
}

func TestCalibrationPrintsTheLevelsItMeasured(t *testing.T) {
	env := []string{"REMOTE_MONITOR_BOARD=simulated", "REMOTE_MONITOR_SEED=1", "SAMPLE_INTERVAL=0.01"}
	out, said, exit := do(t, "\ns\ns\ns\n", env, "calibrate", "--for", "300ms", "Hall")
	if exit != failed || !strings.Contains(said, "the levels of normal and alarm are needed") {
		t.Errorf("without an alarm: exit %d, %s%s", exit, out, said)
	}
	var b bytes.Buffer
	if err := sayLevels(&b, map[string]float64{"normal": 29.3, "alarm": 51.04, "open": 78.1}); err != nil || b.String() != "levels:\n  normal: 29.3\n  alarm: 51.0\n  open: 78.1\n" {
		t.Errorf("%v:\n%s", err, &b)
	}
	if err := sayLevels(&b, map[string]float64{"normal": 29, "alarm": 33}); err == nil {
		t.Error("an alarm that is not told from normal is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if exit := dispatch(ctx, []string{"calibrate", "--for", "1h", "Hall"}, env, strings.NewReader("\n"), io.Discard, io.Discard); exit != failed {
		t.Errorf("interrupted: exit %d", exit)
	}
}
