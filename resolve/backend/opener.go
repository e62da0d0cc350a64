package backend

import (
	"fmt"

	"github.com/connfs/connfs/internal/arguments"
)

// Secrets is the alternative backend, as Airflow's [secrets] backend and
// backend_kwargs name it.
type Secrets struct {
	Backend string // a short name ("aws_ssm") or Airflow's class path
	Kwargs  string // backend_kwargs: a JSON object; empty: none
	// MultiTeam is Airflow's [core] multi_team: ids that name a team are refused, and
	// Team, where it is set, is asked first.
	MultiTeam bool
	Team      string
}

// Opener makes an alternative backend. It connects to nothing; its error names every
// argument that is unknown or cannot be honoured, and shows no value.
type Opener func(*Secrets, *arguments.Object) (Backend, error)

// Open opens the alternative backend that s describes. [Secrets].Backend
// does not count: open is the backend's.
func Open(s *Secrets, open Opener) (Backend, error) {
	values, err := arguments.Decode(s.Kwargs)
	if err != nil {
		return nil, fmt.Errorf("backend_kwargs: %w", err)
	}
	kw := arguments.New(values)
	b, err := open(s, kw)
	if err != nil {
		return nil, err
	}
	if err := kw.Err(); err != nil {
		return nil, err
	}
	return b, nil
}
