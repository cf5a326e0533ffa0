package logs

import "context"

// Sweep is one round of Run.
func Sweep(ctx context.Context, s *Store) error { return s.sweep(ctx) }
