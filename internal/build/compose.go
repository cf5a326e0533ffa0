package build

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/dunlin/dunlin/internal/fault"
)

// maxServices bounds the services of a project.
const maxServices = 64

// compose reads a project of several services. The file is read as if there were no environment: nothing of the server's
// own gets in, and nothing outside the tree is opened.
func (d *detector) compose(ctx context.Context, p *Project, file string, root *node) error {
	if err := checkCompose(file, root); err != nil {
		return err
	}
	if n := len(root.get("services").pairs); n > maxServices {
		return at(file, root.lineAt("services"), "there are %d services, and at most %d are possible", n, maxServices)
	}
	c := composer{detector: d, project: p, file: file, root: root}
	loaded, err := c.load(ctx)
	if err != nil {
		return err
	}
	bodies := map[string]shortForm{}
	for _, name := range slices.Sorted(maps.Keys(loaded.Services)) {
		s, err := c.service(loaded.Services[name])
		if err != nil {
			return err
		}
		body, err := c.body(loaded.Services[name], &s)
		if err != nil {
			return err
		}
		bodies[name] = body
		p.Services = append(p.Services, s)
	}
	return c.composition(loaded, bodies)
}

type composer struct {
	*detector
	project *Project
	file    string
	root    *node
}

// at complains about the deepest key of path that the file has.
func (c *composer) at(path []string, format string, args ...any) *fault.Error {
	return at(c.file, c.root.lineAt(path...), format, args...)
}

func (c *composer) warn(path []string, format string, args ...any) {
	c.project.Warnings = append(c.project.Warnings, c.at(path, format, args...).Message)
}

// load hands what was parsed to compose-go, which checks it against the schema and brings it into one form.
func (c *composer) load(ctx context.Context) (p *types.Project, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fault.Wrap(fault.Invalid, fmt.Errorf("compose: %v", r), c.file+" cannot be read as a compose file")
		}
	}()
	config := c.config()
	p, err = loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []types.ConfigFile{{Filename: c.file, Config: config}},
	}, func(o *loader.Options) {
		o.SetProjectName("project", true)
		o.SkipNormalization, o.SkipInclude, o.SkipResolveEnvironment, o.SkipResolveLabels = true, true, true, true
		o.SkipDefaultValues = true // a Dockerfile that nobody named is looked for
		o.ResolvePaths = false
		o.Interpolate.LookupValue = func(string) (string, bool) { return "", false }
		o.Interpolate.Substitute = substitute
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, c.explain(err)
	}
	return p, nil
}

// bareVariable is a variable without a default.
var bareVariable = regexp.MustCompile(`^\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)

// substitute fills in defaults, ${NAME:-default}; a variable without one has no value here.
func substitute(s string, lookup template.Mapping) (string, error) {
	return template.SubstituteWithOptions(s, lookup, template.WithoutLogging,
		template.WithReplacementFunction(func(part string, lookup template.Mapping, cfg *template.Config) (string, error) {
			if m := bareVariable.FindStringSubmatch(part); m != nil {
				return "", fmt.Errorf("the variable %s has no value here; write the value, a default as ${%[1]s:-default}, or $$ for a dollar sign", m[1]+m[2])
			}
			return template.DefaultReplacementFunc(part, lookup, cfg)
		}))
}

// config is the tree as compose-go takes it. Values of environment, labels and arguments stay as they are written: 1.10
// is no number there.
func (c *composer) config() map[string]any {
	config := withoutExtensions(c.root)
	delete(config, "version")
	delete(config, "name")
	services := map[string]any{}
	config["services"] = services
	for _, p := range c.root.get("services").pairs {
		s := withoutExtensions(p.value)
		for _, key := range []string{"environment", "labels"} {
			literally(s, p.value, key)
		}
		if b := p.value.get("build"); b != nil && b.kind == mapNode {
			build := withoutExtensions(b)
			literally(build, b, "args")
			literally(build, b, "labels")
			if n := b.get(builderField); n != nil {
				build[builderField] = n.plain()
			}
			s["build"] = build
		}
		services[p.key] = s
	}
	// The default network needs no declaration.
	networks, ok := config["networks"].(map[string]any)
	if !ok && config["networks"] == nil {
		networks = map[string]any{}
		config["networks"] = networks
	}
	if _, ok := networks["default"]; !ok && networks != nil {
		networks["default"] = nil
	}
	return config
}

func withoutExtensions(n *node) map[string]any {
	m := map[string]any{}
	for _, p := range n.pairs {
		if !strings.HasPrefix(p.key, "x-") {
			m[p.key] = p.value.plain()
		}
	}
	return m
}

func literally(into map[string]any, n *node, key string) {
	m := n.get(key)
	if m == nil || m.kind != mapNode {
		return
	}
	texts := map[string]any{}
	for _, p := range m.pairs {
		if text, ok := p.value.text(); ok {
			texts[p.key] = text
		} else {
			texts[p.key] = p.value.plain()
		}
	}
	into[key] = texts
}

var (
	composePath   = regexp.MustCompile(`\b(?:services|networks|volumes)\.[A-Za-z0-9_.\[\]-]+`)
	quotedService = regexp.MustCompile(`service "([^"]+)"`)
)

// explain gives a complaint of compose-go the line it is about.
func (c *composer) explain(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	text = strings.TrimPrefix(text, "validating "+c.file+": ")
	text = strings.TrimSuffix(text, ": invalid compose project")
	var where []string
	if p := composePath.FindString(text); p != "" {
		where = strings.FieldsFunc(p, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	} else if m := quotedService.FindStringSubmatch(text); m != nil {
		where = []string{"services", m[1]}
	}
	return c.at(where, "%s", shorten(text, 500))
}

// service is how one service is built, and its variables and labels.
func (c *composer) service(in types.ServiceConfig) (Service, error) {
	here := []string{"services", in.Name}
	s := Service{Name: in.Name, Labels: map[string]string{}, Environment: map[string]string{}}
	for k, v := range in.Labels {
		s.Labels[k] = v
	}
	if err := c.environment(in, &s); err != nil {
		return s, err
	}
	if in.Build == nil {
		s.Kind, s.image = KindExternal, in.Image
		return s, nil
	}
	b := in.Build
	here = append(here, "build")
	inFile := append(here[:len(here):len(here)], "context")
	if strings.Contains(b.Context, "://") || strings.HasPrefix(b.Context, "git@") {
		return s, c.at(inFile, "service %s: the build context %q is not in the repository", s.Name, shorten(b.Context, 100)).
			WithHint("add it as a git submodule and name its folder")
	}
	folder, ok := join(".", b.Context)
	if b.Context == "" {
		folder, ok = ".", true
	}
	if !ok {
		return s, c.at(inFile, "service %s: the build context %q is outside the project", s.Name, shorten(b.Context, 100))
	}
	if !c.tree.folder(folder) {
		return s, c.at(inFile, "service %s: there is no folder %s", s.Name, folder)
	}
	s.stage, s.shm, s.labels = b.Target, int64(b.ShmSize), map[string]string{}
	for k, v := range b.Labels {
		s.labels[k] = v
	}
	s.hosts = b.ExtraHosts.AsList("=")
	sort.Strings(s.hosts)
	s.args = map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(b.Args)) {
		v := b.Args[k]
		if v == nil {
			c.warn(append(here[:len(here):len(here)], "args", k), "service %s: the build argument %s has no value here and is left out", s.Name, k)
			continue
		}
		s.args[k] = *v
	}
	if len(b.CacheFrom) > 0 {
		c.warn(append(here[:len(here):len(here)], "cache_from"), "service %s: cache_from is ignored: the server keeps the cache", s.Name)
	}
	dockerfile := b.Dockerfile
	if builder, ok := b.Extensions[builderField]; ok {
		inFile = append(here[:len(here):len(here)], builderField)
		switch {
		case builder != "go":
			return s, c.at(inFile, "service %s: there is no builder %q", s.Name, shorten(fmt.Sprint(builder), 50)).
				WithHint("write go to have a Go module built without its Dockerfile, or remove the line")
		case dockerfile != "":
			return s, c.at(inFile, "service %s: the builder go reads no Dockerfile, and one is named", s.Name).WithHint("remove one of the two lines")
		}
		dockerfile = goModFile
	}
	looked, err := c.detector.service(&s, folder, dockerfile)
	if err != nil {
		return s, c.locate(err, here)
	}
	if s.Kind == "" {
		where := folder
		if folder == "." {
			where = "the top of the repository"
		}
		return s, c.at(here, "service %s: there is nothing to build in %s: looked for %s", s.Name, where, strings.Join(looked, ", ")).
			WithHint("add a Dockerfile there")
	}
	return s, nil
}

var namesALine = regexp.MustCompile(`^\S+:\d+: `)

// locate adds the line of the compose file to a complaint that names no line of another.
func (c *composer) locate(err error, where []string) error {
	if fault.KindOf(err) == fault.Internal || namesALine.MatchString(fault.Message(err)) {
		return err
	}
	return fault.Wrap(fault.KindOf(err), err, c.at(where, "%s", fault.Message(err)).Message).WithHint(fault.Hint(err))
}

// environment reads env_file and environment; the latter wins.
func (c *composer) environment(in types.ServiceConfig, s *Service) error {
	here := []string{"services", in.Name, "env_file"}
	for _, f := range in.EnvFiles {
		name, ok := join(".", f.Path)
		if !ok {
			return c.at(here, "service %s: env_file %q is outside the project", in.Name, shorten(f.Path, 100))
		}
		text, ok, err := c.tree.read(name)
		if err != nil {
			return c.locate(err, here)
		}
		if !ok {
			if bool(f.Required) {
				return c.at(here, "service %s: there is no env_file %s", in.Name, name)
			}
			continue
		}
		values, err := dotenv.ParseWithLookup(bytes.NewReader(text), func(string) (string, bool) { return "", false })
		if err != nil {
			return fault.Newf(fault.Invalid, "%s: %s", name, shorten(strings.ReplaceAll(err.Error(), "\n", " "), 200))
		}
		for k, v := range values {
			s.Environment[k] = v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(in.Environment)) {
		v := in.Environment[k]
		if v == nil {
			c.warn([]string{"services", in.Name, "environment", k},
				"service %s: the variable %s has no value here and is left out; set it for the fleet or the device", in.Name, k)
			continue
		}
		s.Environment[k] = *v
	}
	for k := range s.Environment {
		if k == "" || strings.ContainsAny(k, "=\x00\n ") {
			return c.at([]string{"services", in.Name, "environment"}, "service %s: %q cannot be the name of a variable", in.Name, shorten(k, 80))
		}
	}
	return nil
}
