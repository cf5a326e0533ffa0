package source

import (
	"context"
	"net/url"
)

// FetchPinned fetches a commit into a new cache from a host whose name git must not look up.
func (s *Server) FetchPinned(ctx context.Context, from, pin, commit string) error {
	u, err := url.Parse(from)
	if err != nil {
		return err
	}
	r := repo{dir: s.submoduleDir() + "/pinned.git"}
	if _, err := s.output(ctx, repo{}, "init", "--quiet", "--bare", r.dir); err != nil {
		return err
	}
	_, err = s.fetchOnce(ctx, r, u, pin, "--depth=1", commit)
	return err
}
