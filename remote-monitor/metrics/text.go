package metrics

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kind is what Prometheus may do with a number.
type kind string

const (
	gauge   kind = "gauge"
	counter kind = "counter"
)

// family is all samples of one name.
type family struct {
	kind       kind
	name, help string
	labels     []string
}

// text is an answer in Prometheus' text format, version 0.0.4. Families are in the order of their first sample, the
// samples of each in the order of their labels.
type text struct {
	order   []string
	heads   map[string]string
	samples map[string][]string
}

// add writes a sample, with the values of the family's labels.
func (t *text) add(f family, v float64, labels ...string) {
	var b strings.Builder
	b.WriteString(f.name)
	for i, l := range f.labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(l + `="` + escaped.Replace(labels[i]) + `"`)
	}
	if len(f.labels) > 0 {
		b.WriteByte('}')
	}
	t.line(f.name, "# HELP "+f.name+" "+f.help+"\n# TYPE "+f.name+" "+string(f.kind)+"\n", b.String()+" "+number(v))
}

var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (t *text) line(name, head, sample string) {
	if _, ok := t.heads[name]; !ok {
		if t.heads == nil {
			t.heads, t.samples = map[string]string{}, map[string][]string{}
		}
		t.order = append(t.order, name)
		t.heads[name] = head
	}
	t.samples[name] = append(t.samples[name], sample)
}

func (t *text) bytes() []byte {
	var b bytes.Buffer
	for _, name := range t.order {
		b.WriteString(t.heads[name])
		samples := t.samples[name]
		if !strings.Contains(t.heads[name], " histogram\n") {
			slices.Sort(samples)
		}
		for _, s := range samples {
			b.WriteString(s + "\n")
		}
	}
	return b.Bytes()
}

// buckets of the time a scan takes, seconds.
var buckets = [...]float64{.001, .0025, .005, .01, .02, .03, .05, .1, .25, .5, 1}

// histogram counts observations by bucket.
type histogram struct {
	counts [len(buckets) + 1]uint64
	sum    float64
}

func (h *histogram) observe(v float64) {
	i, _ := slices.BinarySearch(buckets[:], v)
	h.counts[i]++
	h.sum += v
}

func (t *text) histogram(name, help string, h histogram) {
	head := "# HELP " + name + " " + help + "\n# TYPE " + name + " histogram\n"
	var n uint64
	for i, c := range h.counts {
		n += c
		le := "+Inf"
		if i < len(buckets) {
			le = number(buckets[i])
		}
		t.line(name, head, name+`_bucket{le="`+le+`"} `+strconv.FormatUint(n, 10))
	}
	t.line(name, head, name+"_sum "+number(h.sum))
	t.line(name, head, name+"_count "+strconv.FormatUint(n, 10))
}

var (
	cpu        = family{counter, "process_cpu_seconds_total", "Processor time of the program.", nil}
	resident   = family{gauge, "process_resident_memory_bytes", "Memory of the program.", nil}
	goroutines = family{gauge, "go_goroutines", "Goroutines that exist.", nil}
	runtimeOf  = family{gauge, "go_info", "Always 1; the version of Go is the label.", []string{"version"}}
)

// process writes what the program itself takes.
func (t *text) process() {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		t.add(cpu, (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds())
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if pages, err := strconv.ParseFloat(f[1], 64); err == nil {
				t.add(resident, pages*float64(os.Getpagesize()))
			}
		}
	}
	t.add(goroutines, float64(runtime.NumGoroutine()))
	t.add(runtimeOf, 1, runtime.Version())
}
