package registry_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dunlin/dunlin/internal/registry"
)

// TestMain is also the registry process that TestAKilledServer… kills: this binary with a folder in its environment.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DUNLIN_TEST_REGISTRY"); dir != "" {
		fmt.Fprintln(os.Stderr, serve(dir, []byte(os.Getenv("DUNLIN_TEST_JWKS"))))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve runs a registry and says on standard output where.
func serve(dir string, jwks []byte) error {
	images, err := registry.New(context.Background(), registry.Config{Dir: dir, Service: service, Issuer: service, TokenPath: "/t", JWKS: jwks})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin) // it ends when the parent does
		os.Exit(1)
	}()
	return http.Serve(l, images)
}

// spawn starts a registry process on the server's folder and points the server's tools at it.
func (s *server) spawn() *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DUNLIN_TEST_REGISTRY="+s.dir, "DUNLIN_TEST_JWKS="+string(s.auth.Keys.JWKS()))
	var stderr lines
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Kill() // a test may have killed it before
		cmd.Wait()         // it was killed
		if text := stderr.String(); text != "" {
			s.t.Errorf("the registry went past its log:\n%s", text)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	s.host = strings.TrimSpace(line)
	s.URL = "http://" + s.host
	return cmd
}

// with is a registry token, as a builder has it.
func (s *server) with(token string) []remote.Option {
	return []remote.Option{remote.WithAuth(&authn.Bearer{Token: token}), remote.WithContext(s.t.Context())}
}

func TestAKilledServerLeavesNoHalfLayerAndUploadsGoOn(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	img := newImage(t, 200_000, 2)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(compressed)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.auth.BuilderToken(s.running)
	if err != nil {
		t.Fatal(err)
	}

	process := s.spawn()
	resumed := s.upload(s.running, token)
	answer := s.send(http.MethodPatch, resumed, token, "", bytes.NewReader(content[:100_000]))
	if answer.StatusCode != http.StatusAccepted {
		t.Fatalf("half a layer: %s", answer.Status)
	}
	resumed = answer.Header.Get("Location")
	// Killed while the last bytes of another upload are on their way.
	half := s.upload(s.running, token)
	body, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+half+"&digest="+digest.String(), body)
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		if answer, err := http.DefaultClient.Do(r); err == nil {
			answer.Body.Close()
			t.Errorf("a killed server answered %s", answer.Status)
		}
	}()
	if _, err := feed.Write(content[:len(content)-1]); err != nil {
		t.Fatal(err)
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	process.Wait() // it was killed
	feed.CloseWithError(io.ErrUnexpectedEOF)
	<-done

	s.spawn()
	head := "/v2/" + s.running + "/blobs/" + digest.String()
	if answer := s.get(http.MethodHead, head, token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("the layer of which one byte is missing: %s", answer.Status)
	}
	answer = s.send(http.MethodPut, resumed, token, digest.String(), bytes.NewReader(content[100_000:]))
	if answer.StatusCode != http.StatusCreated {
		t.Errorf("go on with the upload from before: %s", answer.Status)
	}
	// The whole push again, by a client that knows nothing of all this. Its token is good for the new process.
	if err := remote.Write(s.ref(s.running), img, s.with(token)...); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(s.ref(s.running), s.with(token)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}
