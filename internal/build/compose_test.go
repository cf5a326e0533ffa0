package build_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

func TestASingleContainerProjectOwnsTheDeviceAsBalenasDoes(t *testing.T) {
	p := detect(t, plant(t, map[string]string{"Dockerfile": "FROM scratch\n"}), "aarch64")
	equalJSON(t, p.Composition, `{"networks":{},"volumes":{"resin-data":{}},"services":{"main":{
		"privileged":true,"tty":true,"restart":"always","network_mode":"host","volumes":["resin-data:/data"],
		"labels":{"io.resin.features.kernel-modules":"1","io.resin.features.firmware":"1","io.resin.features.dbus":"1",
			"io.resin.features.supervisor-api":"1","io.resin.features.resin-api":"1"}}}}`)
	s := service(t, p, "main")
	equalJSON(t, s.Composition, `{"privileged":true,"tty":true,"restart":"always","network_mode":"host","volumes":["resin-data:/data"]}`)
	if len(s.Labels) != 5 || s.Labels["io.resin.features.dbus"] != "1" {
		t.Errorf("labels are %v", s.Labels)
	}
}

func equalJSON(t *testing.T, got json.RawMessage, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheFirstBuildFileOfTheOrderCounts(t *testing.T) {
	all := []struct{ file, kind string }{
		{"docker-compose.yml", build.KindExternal}, {"docker-compose.yaml", build.KindExternal},
		{"compose.yml", build.KindExternal}, {"compose.yaml", build.KindExternal},
		{"Dockerfile.raspberrypi4-64", build.KindArchitecture}, {"Dockerfile.aarch64", build.KindArchitecture},
		{"Dockerfile.template", build.KindTemplate}, {"Dockerfile", build.KindDockerfile}, {"go.mod", build.KindGo},
	}
	dir := plant(t, map[string]string{"main.go": hello})
	for i := len(all) - 1; i >= 0; i-- {
		text := "FROM scratch\n"
		switch {
		case strings.Contains(all[i].file, "compose"):
			text = "services:\n  x:\n    image: " + strings.ReplaceAll(all[i].file, ".", "-") + ".example.com/x\n"
		case all[i].file == "go.mod":
			text = "module m\n"
		}
		if err := os.WriteFile(filepath.Join(dir, all[i].file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := detect(t, dir, "aarch64")
		if got := p.Services[0].Kind; got != all[i].kind {
			t.Errorf("with %s the project is %q, want %q", all[i].file, got, all[i].kind)
		}
	}
}

func TestAServiceWithADockerfileForOthersIsBuiltAsAGoModuleWhenItSaysSo(t *testing.T) {
	files := map[string]string{
		"go.mod": "module example.com/lamp\n", "main.go": hello, "Dockerfile": "FROM docker.io/library/golang\n",
		"docker-compose.yml": "services:\n  lamp:\n    build:\n      context: .\n      x-dunlin-builder: go\n",
	}
	if p := detect(t, plant(t, files), "aarch64"); p.Services[0].Kind != build.KindGo {
		t.Errorf("it is built as a %s", p.Services[0].Kind)
	}
	files["docker-compose.yml"] = "services:\n  lamp:\n    build: .\n"
	if p := detect(t, plant(t, files), "aarch64"); p.Services[0].Kind != build.KindDockerfile {
		t.Errorf("without a word it is built as a %s", p.Services[0].Kind)
	}
}

func TestAProjectWithNothingToBuildListsWhatWasLookedFor(t *testing.T) {
	_, err := build.Detect(context.Background(), plant(t, map[string]string{"README.md": "hi"}), target("armv7hf"))
	if !fault.Is(err, fault.Invalid) || fault.Hint(err) == "" {
		t.Fatalf("detect said %v", err)
	}
	for _, name := range []string{"docker-compose.yml", "Dockerfile.raspberrypi4-64", "Dockerfile.armv7hf", "Dockerfile.template", "Dockerfile", "go.mod"} {
		if !strings.Contains(fault.Message(err), name) {
			t.Errorf("%q does not name %s", fault.Message(err), name)
		}
	}
}

func TestComposeBecomesTheShortFormsADeviceReads(t *testing.T) {
	t.Setenv("LEAK", "a-secret-of-the-server")
	dir := plant(t, map[string]string{
		"web/Dockerfile": "FROM scratch\n",
		"web/common.env": "FROM_FILE=1\nBOTH=file\n",
		"docker-compose.yml": `
version: "2.4"
x-common: &common
  restart: unless-stopped
  environment: {ZIP: 01234, RATIO: 1.10, YES: true, EMPTY: ""}
services:
  web:
    <<: *common
    build:
      context: ./web
      args: [A=1, B]
    hostname: "${LEAK:-lamp}"
    command: serve --name "two words" $$HOME
    ports: ["8080:80", "127.0.0.1:53:53/udp", {target: 9, published: "10"}]
    volumes: ["data:/data:ro", {type: tmpfs, target: /run/x, tmpfs: {size: 1048576}}, "/sys:/sys"]
    depends_on: {db: {condition: service_started}}
    networks: {default: {aliases: [www]}, back: }
    labels: ["io.balena.features.dbus=1"]
    env_file: web/common.env
    environment: [BOTH=compose, LEAK]
    mem_limit: 64m
    cpus: 0.1
    stop_grace_period: 90s
    healthcheck: {test: "true", interval: 1m30s, retries: 3}
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    devices: ["/dev/i2c-1:/dev/i2c-1", "/dev/gpiomem"]
    extra_hosts: ["a:10.0.0.1"]
    cap_add: [NET_ADMIN]
    init: true
  db:
    <<: *common
    image: "registry.example.com/db:${TAG:-3}"
    tmpfs: /tmp
    network_mode: host
volumes:
  data:
networks:
  back: {internal: true, ipam: {config: [{subnet: 10.9.0.0/24}]}}
`})
	p := detect(t, dir, "aarch64")
	equalJSON(t, p.Composition, `{
		"networks":{"back":{"internal":true,"ipam":{"config":[{"subnet":"10.9.0.0/24"}]}}},
		"volumes":{"data":{}},
		"services":{
			"db":{"restart":"unless-stopped","tmpfs":["/tmp"],"network_mode":"host",
				"environment":{"ZIP":"01234","RATIO":"1.10","YES":"true","EMPTY":""}},
			"web":{"restart":"unless-stopped","hostname":"lamp","command":["serve","--name","two words","$HOME"],
				"ports":["8080:80/tcp","127.0.0.1:53:53/udp","10:9"],
				"volumes":["data:/data:ro"],"tmpfs":["/run/x:size=1048576"],
				"depends_on":["db"],"networks":{"default":{"aliases":["www"]},"back":{}},
				"mem_limit":67108864,"cpus":0.1,"stop_grace_period":"1m30s",
				"healthcheck":{"test":["CMD-SHELL","true"],"interval":"1m30s","retries":3},
				"ulimits":{"nofile":{"soft":10,"hard":20},"nproc":5},
				"devices":["/dev/i2c-1:/dev/i2c-1:rwm","/dev/gpiomem:/dev/gpiomem:rwm"],
				"extra_hosts":["a:10.0.0.1"],"cap_add":["NET_ADMIN"],"init":true,
				"labels":{"io.balena.features.dbus":"1","io.balena.features.sysfs":"1"},
				"environment":{"FROM_FILE":"1","BOTH":"compose"}}}}`)
	var kinds []string
	for _, s := range p.Services {
		kinds = append(kinds, s.Name+": "+s.Kind)
		if strings.Contains(string(s.Composition), "labels") || strings.Contains(string(s.Composition), "environment") {
			t.Errorf("the composition of %s holds labels or environment: %s", s.Name, s.Composition)
		}
	}
	if diff := cmp.Diff([]string{"db: external service", "web: Dockerfile"}, kinds); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want := []string{
		"docker-compose.yml:20: service web: the variable LEAK has no value here and is left out; set it for the fleet or the device",
		"docker-compose.yml:11: service web: the build argument B has no value here and is left out",
		"docker-compose.yml:15: service web: the bind mount of /sys becomes the label io.balena.features.sysfs; the container finds it at the same place",
	}
	if diff := cmp.Diff(want, p.Warnings); diff != "" {
		t.Errorf("warnings, -want +got:\n%s", diff)
	}
}

func TestAComposeFileIsRefusedWithServiceFieldAndLine(t *testing.T) {
	service := func(lines string) string {
		return "services:\n  web:\n    image: example.com/x\n" + lines
	}
	for _, c := range []struct{ name, file, says string }{
		{"links", service("    links: [db]\n"), "docker-compose.yml:4: service web: links is not supported"},
		{"deploy", service("    deploy: {replicas: 2}\n"), ":4: service web: deploy is not supported"},
		{"logging", service("    logging: {driver: none}\n"), ":4: service web: logging is not supported"},
		{"secrets", service("    secrets: [x]\n"), ":4: service web: secrets is not supported"},
		{"platform", service("    platform: linux/amd64\n"), ":4: service web: platform is not supported"},
		{"stdin_open", service("    tty: true\n    stdin_open: true\n"), ":5: service web: stdin_open is not supported"},
		{"a spelling mistake", service("    privilegd: true\n"), `:4: service web: "privilegd" is not a known field`},
		{"a builder there is not", "services:\n  web:\n    build:\n      context: .\n      x-dunlin-builder: rust\n", `:5: service web: there is no builder "rust"`},
		{"a builder that reads no Dockerfile", "services:\n  web:\n    build:\n      context: .\n      dockerfile: Dockerfile\n      x-dunlin-builder: go\n", ":6: service web: the builder go reads no Dockerfile"},
		{"a Go module that is none", "services:\n  web:\n    build:\n      context: .\n      x-dunlin-builder: go\n", ":3: service web: there is nothing to build in the top of the repository: looked for go.mod"},
		{"a field behind an anchor", "x-a: &a\n  scale: 2\nservices:\n  web:\n    <<: *a\n    image: example.com/x\n", ":2: service web: scale is not supported"},
		{"a field of build", "services:\n  web:\n    build:\n      context: .\n      network: host\n", ":5: service web: build.network is not supported"},
		{"top-level secrets", service("secrets: {x: {file: /etc/shadow}}\n"), ":4: secrets is not supported"},
		{"include", service("include: [/etc/compose.yml]\n"), ":4: include is not supported"},
		{"extends from a file", service("    extends: {service: x, file: /etc/compose.yml}\n"), ":4: service web: extends.file is not supported"},
		{"a bind mount", service("    volumes:\n      - vol:/v\n      - ./x:/y\nvolumes: {vol: }\n"), ":6: service web: the bind mount of ./x is not supported"},
		{"a bind mount of the host", service("    volumes: ['/etc:/host']\n"), ":4: service web: the bind mount of /etc is not supported"},
		{"a bind mount by variable", service("    volumes: ['${X:-/etc}:/host']\n"), ":4: service web: the bind mount of /etc is not supported"},
		{"a volume without a name", service("    volumes: [/data]\n"), ":4: service web: the volume at /data has no name"},
		{"a volume nobody declared", service("    volumes: ['data:/data']\n"), `:2: service "web" refers to undefined volume data`},
		{"a condition", service("    depends_on:\n      db:\n        condition: service_healthy\n  db: {image: example.com/x}\n"), ":6: service web: depends_on db: the condition service_healthy is not supported"},
		{"a missing dependency", service("    depends_on: [db]\n"), `:2: service "web" depends on undefined service "db"`},
		{"another container's network", service("    network_mode: container:x\n"), ":4: service web: network_mode container:x is not supported"},
		{"a network driver", service("networks:\n  n:\n    driver: overlay\n"), ":6: network n: the driver overlay is not supported"},
		{"a volume driver", service("volumes:\n  v: {driver: nfs}\n"), ":5: volume v: the driver nfs is not supported"},
		{"an external network", service("networks:\n  n: {external: true}\n"), ":5: network n: external is not supported"},
		{"security_opt", service("    security_opt: ['seccomp:/etc/x.json']\n"), ":4: service web: security_opt seccomp:/etc/x.json is not supported"},
		{"a wrong type", service("    ports: 8080\n"), ":4: services.web.ports must be a array"},
		{"a variable without value", service("    hostname: ${LEAK}\n"), ":4: error while interpolating services.web.hostname: the variable LEAK has no value here"},
		{"no image and no build", "services:\n  web:\n    tty: true\n", `:2: service "web" has neither an image nor a build context`},
		{"an empty service", "services:\n  web:\n", ":2: service web: it has neither build nor image"},
		{"no services", "volumes: {}\n", ":1: there are no services"},
		{"a list", "- a\n", ":1: a compose file is a map with services"},
		{"bad YAML", "services:\n  web:\n\timage: x\n", "docker-compose.yml:3: "},
		{"the same key twice", "services:\n  a: {image: x}\n  a: {image: y}\n", "docker-compose.yml:3: "},
		{"an unknown alias", "services:\n  a: *b\n", ":2: *b has no &b before it"},
		{"a context outside", "services:\n  web:\n    build: ../x\n", `:3: service web: the build context "../x" is outside the project`},
		{"a context on the network", "services:\n  web:\n    build: https://example.com/x.git\n", ":3: service web: the build context \"https://example.com/x.git\" is not in the repository"},
		{"a context that is not there", "services:\n  web:\n    build: {context: nowhere}\n", ":3: service web: there is no folder nowhere"},
		{"a context behind a link outside", "services:\n  web:\n    build: away\n", ":3: service web: there is no folder away"},
		{"a context with nothing to build", "services:\n  web:\n    build: empty\n", ":3: service web: there is nothing to build in empty: looked for Dockerfile.raspberrypi4-64"},
		{"a Dockerfile that is not there", "services:\n  web:\n    build: {context: empty, dockerfile: X}\n", ":3: service web: there is no empty/X"},
		{"a Dockerfile outside", "services:\n  web:\n    build: {context: empty, dockerfile: ../../X}\n", ":3: service web: the Dockerfile \"../../X\" is outside the project"},
		{"the secrets as a context", "services:\n  web:\n    build: .balena\n", ":3: service web: .balena holds build settings and secrets"},
		{"a reserved build argument", "services:\n  web:\n    build: {context: ok, args: {BUILDKIT_SYNTAX: x}}\n", ":3: service web: the build argument BUILDKIT_SYNTAX is the server's own"},
		{"an env_file outside", service("    env_file: ../../etc/environment\n"), `:4: service web: env_file "../../etc/environment" is outside the project`},
		{"an env_file behind a link outside", service("    env_file: away/passwd\n"), ":4: away/passwd cannot be read; a symbolic link may lead out of the project"},
		{"an env_file that is not there", service("    env_file: [none.env]\n"), ":4: service web: there is no env_file none.env"},
		{"aliases that explode", "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", ":5: aliases make this larger"},
		{"a deep nest", strings.Repeat("[", 10000), ":1: values are nested too deep"},
		{"a deep nest of lists", "a:\n  " + strings.Repeat("- ", 10000) + "b\n", ":2: values are nested too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("LEAK", "a-secret-of-the-server")
			dir := plant(t, map[string]string{"docker-compose.yml": c.file, "empty/x": "", "ok/Dockerfile": "FROM scratch\n", "away": "-> /etc", ".balena/balena.yml": ""})
			_, err := build.Detect(context.Background(), dir, target("aarch64"))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) {
				t.Errorf("detect said %q, want %q (%v)", fault.Message(err), c.says, err)
			}
		})
	}
}

func TestTemplatesKnowTheFleetAndTheService(t *testing.T) {
	dir := plant(t, map[string]string{
		"docker-compose.yml":     "services:\n  web: {build: web}\n",
		"web/Dockerfile.aarch64": "FROM base:%%BALENA_MACHINE_NAME%%-%%RESIN_ARCH%%\nLABEL a=%%BALENA_SERVICE_NAME%% b=%%BALENA_APP_NAME%% c=%%BALENA_RELEASE_HASH%% d=%%OTHER%% 100%%\n",
	})
	if kind := service(t, detect(t, dir, "aarch64"), "web").Kind; kind != build.KindArchitecture {
		t.Errorf("kind is %q", kind)
	}
	dir = plant(t, map[string]string{"Dockerfile.template": "FROM a\n\nRUN %%BALENA_WRONG%%\n"})
	_, err := build.Detect(context.Background(), dir, target("aarch64"))
	if want := "Dockerfile.template:3: %%BALENA_WRONG%% is no template variable"; fault.Message(err) != want {
		t.Errorf("detect said %q, want %q", fault.Message(err), want)
	}
}

func TestTheContractGivesTheVersion(t *testing.T) {
	dir := plant(t, map[string]string{
		"Dockerfile":   "FROM scratch\n",
		"balena.yml":   "name: lamp\ntype: sw.application\nversion: 1.4.0\ndata:\n  defaultDeviceType: raspberrypi4-64\n",
		"contract.yml": "type: sw.container\nslug: lamp\nrequires:\n  - {type: sw.supervisor, version: '>=10'}\n",
	})
	p := detect(t, dir, "aarch64")
	if p.Version != "1.4.0" {
		t.Errorf("the version is %q", p.Version)
	}
	equalJSON(t, p.Contract, `{"name":"lamp","type":"sw.application","version":"1.4.0","data":{"defaultDeviceType":"raspberrypi4-64"}}`)
	equalJSON(t, p.Services[0].Contract, `{"type":"sw.container","slug":"lamp","requires":[{"type":"sw.supervisor","version":">=10"}]}`)

	dir = plant(t, map[string]string{"Dockerfile": "FROM scratch\n", "balena.yml": "name: lamp\nversion: 1.10\n"})
	if _, err := build.Detect(context.Background(), dir, target("aarch64")); fault.Message(err) != `balena.yml:2: "1.10" is not a semantic version` {
		t.Errorf("detect said %v", err)
	}
}

func TestBuildSettingsAreRefusedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ name, file, text, says string }{
		{"a secret outside", "balena.yml", "build-secrets:\n  global:\n    - {source: ../../x, dest: x}\n", `.balena/balena.yml:3: build secret "../../x" is outside .balena/secrets`},
		{"a secret that is not there", "balena.yml", "build-secrets:\n  services:\n    main:\n      - {source: x, dest: x}\n", ".balena/balena.yml:4: build secret .balena/secrets/x is not there"},
		{"a destination outside", "balena.yml", "build-secrets:\n  global:\n    - {source: here, dest: ../x}\n", `.balena/balena.yml:3: build secret "here" cannot be put at "../x"`},
		{"a variable without value", "balena.json", `{"build-variables":{"global":["A"]}}`, ".balena/balena.json:1: a build variable is written NAME=value"},
		{"a wrong key", "balena.yaml", "build-variables:\n  all: [A=1]\n", `.balena/balena.yaml:2: "all" is not expected here`},
		{"a login without password", "registry-secrets.yml", "example.com:\n  username: u\n", `.balena/registry-secrets.yml:1: registry "example.com" needs username and password`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := plant(t, map[string]string{"Dockerfile": "FROM scratch\n", ".balena/" + c.file: c.text, ".balena/secrets/here": "s"})
			if _, err := build.Detect(context.Background(), dir, target("aarch64")); fault.Message(err) != c.says {
				t.Errorf("detect said %q, want %q", fault.Message(err), c.says)
			}
		})
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("services:\n  a: {build: ., ports: ['80:80'], volumes: ['d:/d']}\nvolumes: {d: }\n", "FROM scratch\n%%BALENA_ARCH%%\n", "module m\n", "version: 1.0.0\n")
	f.Add("services:\n  a: &a\n    image: ${X:-y}\n  b:\n    <<: *a\n    environment: [A, B=1]\n", "%%BALENA_%%", "replace a => ../../..\n", "a: [&b {c: *b}]\n")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, compose, dockerfile, mod, contract string) {
		tree := map[string]string{"Dockerfile.template": dockerfile, "sub/go.mod": mod, "sub/a.go": "package main", "balena.yml": contract, ".balena/balena.yml": contract}
		if compose != "" {
			tree["docker-compose.yml"] = compose
		}
		p, err := build.Detect(context.Background(), plant(t, tree), target("aarch64"))
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Errorf("the project's fault is said to be the server's: %v", err)
			}
			return
		}
		if len(p.Services) == 0 || !json.Valid(p.Composition) {
			t.Errorf("%d services, composition %s", len(p.Services), p.Composition)
		}
		for _, s := range p.Services {
			if s.Kind == "" || !json.Valid(s.Composition) {
				t.Errorf("service %q is %q with %s", s.Name, s.Kind, s.Composition)
			}
		}
	})
}
