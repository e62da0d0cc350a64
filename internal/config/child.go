package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/connfs/connfs/internal/config/airflowcfg"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/users"
)

// home is the chosen airflow_home.
type home struct {
	path   string // empty if there is no home
	origin string
	uid    uint32 // who owns it
}

// homeOption is the option of the command line that names the home.
const homeOption = "--airflow-home"

// findHome settles which Airflow to read: the flag, the key, or the variable.
func (l *loader) findHome(f *file) home {
	var h home
	fail := &Error{Key: "airflow_home"}
	switch variable, ok := l.variable("AIRFLOW_HOME"); {
	case l.AirflowHome != "":
		h = home{path: l.AirflowHome, origin: homeOption}
		fail.Key = homeOption
	case f.airflowHome.v != "":
		h = home{path: f.airflowHome.v, origin: f.airflowHome.origin}
		fail.File, fail.Line = f.path, f.airflowHome.line
	case ok && variable != "":
		expanded, err := airflowcfg.Expand(variable, l.Environ)
		if err != nil || !filepath.IsAbs(expanded) {
			l.warn("the variable AIRFLOW_HOME is not an absolute path, and is ignored")
			return h
		}
		h = home{path: expanded, origin: "variable AIRFLOW_HOME"}
		if _, err := os.Stat(expanded); err != nil {
			l.warn("the variable AIRFLOW_HOME names %s, which is ignored: %v", expanded, bare(err))
			return home{}
		}
	default:
		return h
	}
	absolute, err := filepath.Abs(h.path)
	if err == nil {
		h.path = absolute
	}
	info, err := os.Stat(h.path)
	switch {
	case err != nil:
		fail.Message = fmt.Sprintf("%s: %v", h.path, bare(err))
		l.add(fail)
	case !info.IsDir():
		fail.Message = h.path + " is not a directory"
		l.add(fail)
	default:
		h.uid = owner(info)
		if l.ownerOf != nil {
			h.uid = l.ownerOf(h.path)
		}
	}
	return h
}

// account is the user that children run as, with what the front need not know.
type account struct {
	*settings.Child        // nil: as the front does
	name            string // for `connfs config`; empty: unknown
	origin          string
	home            string // of the user; empty: unknown
}

// chooseChild chooses the user that children run as if root started connfs. There is no default
// beside root itself: a directory of somebody else's must not decide it.
func (l *loader) chooseChild(ctx context.Context, f *file, h home) account {
	a := account{name: f.user.v, origin: f.user.origin}
	if l.EUID != 0 {
		if f.user.v != "" {
			l.warn("user is ignored: root did not start connfs")
		}
		return a
	}
	switch {
	case f.user.v != "":
		u, err := l.lookup(ctx, f)
		if err != nil {
			message := "looking the user up: " + err.Error()
			if errors.Is(err, users.ErrUnknown) {
				message = "this machine has no such user"
			}
			l.add(&Error{File: f.path, Line: f.user.line, Key: "user", Message: message})
			return a
		}
		a.become(u, "user = "+f.user.v)
	case h.path != "" && len(l.errs) == 0:
		if wrong := l.process().Check(h.path); wrong != nil {
			l.add(&Error{
				File: f.path, Key: "user",
				Message: "it is not set, and airflow_home is not root's own: " + wrong.At + ": " +
					wrong.Reason,
				Hint: `set user = "NAME", the account that resolver children run as`,
			})
			return a
		}
	}
	if a.Child == nil {
		l.warn("resolver children run as root, without its capabilities; " +
			"set user to give them an account of their own")
	}
	return a
}

// lookup finds the account of user.
func (l *loader) lookup(ctx context.Context, f *file) (users.User, error) {
	if f.uid == nil {
		return l.LookupUser(ctx, f.user.v)
	}
	u, err := l.LookupUID(ctx, *f.uid)
	if errors.Is(err, users.ErrUnknown) {
		// A uid without an account, as in many containers, has no group to be in.
		return users.User{UID: *f.uid, GID: nobody, Groups: []uint32{nobody}}, nil
	}
	return u, err
}

// become makes children run as u; for root it changes nothing.
func (a *account) become(u users.User, why string) {
	a.name, a.home = u.Name, u.Home
	if u.UID != 0 {
		a.Child = &settings.Child{UID: u.UID, GID: u.GID, Groups: u.Groups, Why: why}
	}
}
