package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// Configure reads the configuration and returns the front's part of it, and the
// resolver's part, or what req.Show asks for, as the body. env is the environment
// that connfs was started with, each entry ended by a NUL. Started by root it gives
// up root on the way: what lies under airflow_home belongs to somebody else.
func Configure(
	ctx context.Context, req *resolver.ConfigureRequest, env []byte,
) (front, body []byte, err error) {
	environ := strings.FieldsFunc(string(env), func(r rune) bool { return r == 0 })
	// Backends are opened to check their arguments, and may look for these variables.
	setLogin(backend.Masked(environ, settings.Login))
	r, err := config.Load(ctx, config.Source{
		ConfigFile:     req.ConfigFile,
		ConfigExplicit: req.ConfigExplicit,
		AirflowHome:    req.AirflowHome,
		Mountpoint:     req.Mountpoint,
		NeedMount:      req.NeedMount,
		Service:        req.Service,
		Environ:        environ,
		EUID:           req.EUID,
		Drop:           become,
		Trust:          trust.Set,
		Withhold:       unsetLogin,
	})
	if err != nil {
		var wrong config.Errors
		if errors.As(err, &wrong) {
			return nil, nil, &conn.Error{
				Kind: conn.Invalid, Source: resolver.SourceConfiguration, Reason: wrong.Error(),
			}
		}
		if errors.Is(err, harden.ErrCgo) {
			return nil, nil, &conn.Error{
				Kind: conn.Failed, Source: resolver.SourceCapabilities, Reason: err.Error(),
			}
		}
		return nil, nil, &conn.Error{
			Kind: conn.Failed, Source: resolver.SourceConfiguration, Reason: err.Error(),
		}
	}
	if front, err = json.Marshal(r.Front); err != nil {
		return nil, nil, err
	}
	if req.Show != "" {
		var b bytes.Buffer
		err = config.WriteSettings(&b, r.Settings, req.ShowSecrets, req.Show == "json")
		body = b.Bytes()
	} else {
		body, err = (&Settings{
			Path: r.Resolver, KMS: r.KMS, KMSConnections: r.KMSConnections,
			Owners: r.Owners,
		}).Encode()
	}
	return front, body, err
}

// setLogin gives this process the variables that clients of backends and KMS look for.
func setLogin(variables []backend.Variable) {
	for _, v := range variables {
		// This cannot fail for a name and a value that came out of an environment.
		_ = os.Setenv(v.Name, v.Value())
	}
}

// unsetLogin takes such variables away from this process again.
func unsetLogin(names []string) {
	for _, name := range names {
		_ = os.Unsetenv(name) // it came out of an environment
	}
}

// become gives up root, for another user or for root without its capabilities. From then on
// this process can gain no rights.
func become(id config.Identity) error {
	if id.UID != 0 {
		if err := harden.BecomeUser(id.UID, id.GID, id.Groups); err != nil {
			return err
		}
	} else if harden.CheckRights() != nil { // else it was started without them
		if err := harden.DropCapabilities(); err != nil {
			return err
		}
	}
	return harden.CheckRights()
}
