package build

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

var composeFiles = []string{"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"}

// Detect finds out what kind of project dir holds and what its services are. It reads files and runs nothing. It takes
// the passwords of registries out of dir, so that no build can put them into an image; otherwise dir has to stay as it
// is until the last Build of the project is over. Errors are fault.Invalid and name file and line.
func Detect(ctx context.Context, dir string, target Target) (*Project, error) {
	arch, ok := fleet.ArchitectureOf(target.Arch)
	if !ok {
		return nil, fault.Newf(fault.Invalid, "there is no architecture %q", target.Arch)
	}
	t, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	defer t.close()
	d := detector{tree: t, target: target}
	p := &Project{dir: t.dir, arch: arch}
	if d.settings, err = t.settings(); err != nil {
		return nil, err
	}
	p.logins = d.settings.logins
	if err := t.forgetLogins(); err != nil {
		return nil, err
	}
	if p.Contract, p.Version, err = t.contract("balena.yml", "balena.yaml"); err != nil {
		return nil, err
	}
	file, compose, err := t.document(composeFiles...)
	if err != nil {
		return nil, err
	}
	if compose != nil {
		if target.Dockerfile != "" {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s says which Dockerfiles are used; %s was asked for and is not looked at", file, shorten(target.Dockerfile, 200)))
		}
		err = d.compose(ctx, p, file, compose)
	} else {
		err = d.single(p)
	}
	if err != nil {
		return nil, err
	}
	sort.Slice(p.Services, func(i, j int) bool { return p.Services[i].Name < p.Services[j].Name })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// goModFile is what a Go module has at its top.
const goModFile = "go.mod"

// builderField below build: in a compose file says what builds a service that has both a Dockerfile for others and a
// go.mod. Other programs ignore it and use the Dockerfile.
const builderField = "x-dunlin-builder"

type detector struct {
	tree     *tree
	target   Target
	settings settings
}

// single describes a project of one container as balena does: it owns the device.
func (d *detector) single(p *Project) error {
	s := Service{Name: "main", Labels: map[string]string{}, Environment: map[string]string{}}
	looked, err := d.service(&s, ".", d.target.Dockerfile)
	if err != nil {
		return err
	}
	if s.Kind == "" {
		return fault.Newf(fault.Invalid, "there is nothing to build at the top of the repository: looked for %s",
			strings.Join(slices.Concat(composeFiles, looked), ", ")).
			WithHint("add a Dockerfile, a docker-compose.yml, or the go.mod of a Go program")
	}
	for _, feature := range []string{"kernel-modules", "firmware", "dbus", "supervisor-api", "resin-api"} {
		s.Labels["io.resin.features."+feature] = "1"
	}
	body := map[string]any{
		"privileged": true, "tty": true, "restart": "always", "network_mode": "host", "volumes": []string{"resin-data:/data"},
	}
	if s.Composition, err = json.Marshal(body); err != nil {
		return fmt.Errorf("write the composition: %w", err)
	}
	body["labels"] = s.Labels
	p.Composition, err = json.Marshal(map[string]any{
		"services": map[string]any{s.Name: body}, "volumes": map[string]any{"resin-data": map[string]any{}}, "networks": map[string]any{},
	})
	if err != nil {
		return fmt.Errorf("write the composition: %w", err)
	}
	p.Services = []Service{s}
	return nil
}

// service fills in how the service is built from a context, in DESIGN's order; file overrides the search. Kind stays ""
// if nothing was found; looked is what was looked for.
func (d *detector) service(s *Service, folder, file string) (looked []string, err error) {
	s.context = folder
	for _, f := range settingsFolders {
		if folder == f || strings.HasPrefix(folder, f+"/") {
			return nil, fault.Newf(fault.Invalid, "service %s: %s holds build settings and secrets and cannot be a build context", s.Name, f)
		}
	}
	if s.args == nil {
		s.args = map[string]string{}
	}
	for _, given := range []map[string]string{both(d.settings.variables, s.Name), d.target.Variables} {
		for k, v := range given {
			if _, own := s.args[k]; !own {
				s.args[k] = v
			}
		}
	}
	for name := range s.args {
		if strings.HasPrefix(name, "BUILDKIT_") {
			return nil, fault.Newf(fault.Invalid, "service %s: the build argument %s is the server's own", s.Name, name).WithHint("give it another name")
		}
	}
	s.secrets = both(d.settings.secrets, s.Name)
	if s.Contract, _, err = d.tree.contract(path.Join(folder, "contract.yml"), path.Join(folder, "contract.yaml")); err != nil {
		return nil, err
	}

	switch file {
	case goModFile:
		return []string{goModFile}, d.goModule(s, folder)
	case "":
	default:
		name, ok := join(folder, file)
		if !ok {
			return nil, fault.Newf(fault.Invalid, "service %s: the Dockerfile %q is outside the project", s.Name, file)
		}
		found, err := d.dockerfile(s, name)
		if err == nil && !found {
			err = fault.Newf(fault.Invalid, "service %s: there is no %s", s.Name, name)
		}
		return nil, err
	}
	for _, name := range []string{"Dockerfile." + d.target.DeviceType, "Dockerfile." + d.target.Arch, "Dockerfile.template", "Dockerfile"} {
		looked = append(looked, name)
		if found, err := d.dockerfile(s, path.Join(folder, name)); found || err != nil {
			return looked, err
		}
	}
	return append(looked, goModFile), d.goModule(s, folder)
}

// dockerfile takes a Dockerfile, if it is there.
func (d *detector) dockerfile(s *Service, name string) (found bool, err error) {
	text, found, err := d.tree.read(name)
	if !found || err != nil {
		return false, err
	}
	s.Kind, s.dockerfile = KindDockerfile, dockerfile{path: name, text: string(text)}
	switch strings.TrimPrefix(path.Ext(name), ".") {
	case "template":
		s.Kind = KindTemplate
	case d.target.DeviceType, d.target.Arch:
		s.Kind = KindArchitecture
	default:
		return true, checkSyntax(name, s.dockerfile.text)
	}
	s.dockerfile.template = true
	if s.dockerfile.text, err = expand(name, s.dockerfile.text, s.Name, d.target); err != nil {
		return true, err
	}
	return true, checkSyntax(name, s.dockerfile.text)
}
