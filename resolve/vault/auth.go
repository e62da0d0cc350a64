package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// auth is one way to get a token.
type auth struct {
	name  string // auth_type
	mount string // where the auth method is, under "auth/"

	// For the auth_type "token": the token itself, or the file that it is in.
	token, tokenPath string

	// For all others: the end of the path of the login, and its body.
	path string
	body func(ctx context.Context) (map[string]any, error)
}

// calls reports whether getting a token is a call to Vault.
func (a *auth) calls() bool { return a.body != nil }

// session gets a token.
func (a *auth) session(ctx context.Context, v *client) (*session, error) {
	now := time.Now()
	if !a.calls() {
		token := a.token
		if a.tokenPath != "" {
			var err error
			if token, err = readCredential("token_path", a.tokenPath); err != nil {
				return nil, err
			}
		}
		return &session{Token: token, Issued: now}, nil
	}
	body, err := a.body(ctx)
	if err != nil {
		return nil, err
	}
	var answer authAnswer
	if err := v.put(ctx, "", "auth/"+a.mount+"/"+a.path, body, &answer); err != nil {
		return nil, a.refusal(err)
	}
	if answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, conn.Errorf(conn.Denied, "", "Vault answered the login %q without a token",
			a.name)
	}
	s := session{Token: answer.Auth.ClientToken, Issued: now}
	return s.leased(now, answer.Auth.LeaseDuration, answer.Auth.Renewable), nil
}

// refusal returns the error of a login. What Vault says of a path that is not there is
// nothing about a connection.
func (a *auth) refusal(err error) error {
	denied := func(reason, hint string) error {
		reason = fmt.Sprintf("the login %q: %s", a.name, reason)
		return &conn.Error{Kind: conn.Denied, Reason: reason, Hint: hint, Err: err}
	}
	switch {
	case isStatus(err, 400), isStatus(err, 401), isStatus(err, 403):
		return denied("Vault refused it", "look at the credentials in backend_kwargs")
	case isStatus(err, 404) && conn.KindOf(err) == conn.Absent, isStatus(err, 405):
		return denied("Vault has no such auth method there",
			"look at auth_type and auth_mount_point")
	}
	return err
}

// auths are the ways to log in, by auth_type.
var auths = map[string]func(*auth, *arguments.Object){
	"approle":    authAppRole,
	"aws_iam":    authAWS,
	"gcp":        authGoogle,
	"github":     authGitHub,
	"jwt":        authJWT,
	"kubernetes": authKubernetes,
	"ldap":       authPassword,
	"token":      authToken,
	"userpass":   authPassword,
}

// authArguments are the arguments that only some of the logins use. Airflow passes
// over those of the others.
var authArguments = []string{
	"assume_role_kwargs", "auth_mount_point", "azure_resource", "azure_tenant_id",
	"gcp_key_path", "gcp_keyfile_dict", "gcp_scopes", "jwt_role", "jwt_token", "jwt_token_path",
	"key_id", "kubernetes_jwt_path", "kubernetes_role", "password", "radius_host", "radius_port",
	"radius_secret", "region", "role_id", "secret_id", "token", "token_path", "username",
}

// newAuth reads the arguments of the login.
func newAuth(kw *arguments.Object) auth {
	kw.Ignore(authArguments...)
	a := auth{name: kw.Text("auth_type", "token"), path: "login"}
	read, ok := auths[a.name]
	switch {
	case a.name == "azure", a.name == "radius":
		// Airflow sends the client's secret to the method's configuration, for which it
		// needs, and then goes on with, a token from the environment.
		kw.Fail("auth_type", "with %q Airflow does not log in but changes the settings of "+
			"Vault's auth method, which connfs does not do", a.name)
	case !ok:
		kw.Fail("auth_type", "not one of Airflow's: approle, aws_iam, azure, gcp, github, jwt, "+
			"kubernetes, ldap, radius, token, userpass")
	default:
		a.mount = cmp.Or(pathArgument(kw, "auth_mount_point", ""),
			map[string]string{"aws_iam": "aws"}[a.name], a.name)
		read(&a, kw)
	}
	return a
}

// needed says why an argument cannot be left out.
const needed = "this auth_type needs it"

func authToken(a *auth, kw *arguments.Object) {
	a.token = strings.TrimSpace(cmp.Or(kw.Text("token", ""), os.Getenv("VAULT_TOKEN")))
	a.tokenPath = kw.Text("token_path", "")
	if a.token == "" && a.tokenPath == "" {
		kw.Fail("token",
			"this auth_type needs token, token_path, or VAULT_TOKEN in the environment")
	}
}

func authAppRole(a *auth, kw *arguments.Object) {
	body := map[string]any{"role_id": kw.Need("role_id", needed), "secret_id": nil}
	// A role need not have secret ids.
	if secret := kw.Text("secret_id", ""); secret != "" {
		body["secret_id"] = secret
	}
	a.body = constant(body)
}

// authPassword is the login of userpass and of ldap.
func authPassword(a *auth, kw *arguments.Object) {
	name := kw.Need("username", needed)
	if name != "" && (backend.CheckPathID(name) != nil || strings.Contains(name, "/")) {
		kw.Fail("username", "it cannot be part of a path")
	}
	a.path = "login/" + name
	a.body = constant(map[string]any{"password": kw.Need("password", needed)})
}

func authGitHub(a *auth, kw *arguments.Object) {
	token, path := kw.Text("token", ""), kw.Text("token_path", "")
	if token == "" && path == "" {
		kw.Fail("token", "this auth_type needs token or token_path")
	}
	a.body = func(context.Context) (map[string]any, error) {
		if token != "" {
			return map[string]any{"token": token}, nil
		}
		text, err := readCredential("token_path", path)
		return map[string]any{"token": text}, err
	}
}

func authKubernetes(a *auth, kw *arguments.Object) {
	const usual = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	path := usual
	if kw.Has("kubernetes_jwt_path") {
		path = kw.Need("kubernetes_jwt_path", needed)
	}
	a.body = roleAndToken(kw.Need("kubernetes_role", needed), "", "kubernetes_jwt_path", path)
}

func authJWT(a *auth, kw *arguments.Object) {
	token, path := kw.Text("jwt_token", ""), kw.Text("jwt_token_path", "")
	if token == "" && path == "" {
		kw.Fail("jwt_token", "this auth_type needs jwt_token or jwt_token_path")
	}
	a.body = roleAndToken(kw.Need("jwt_role", needed), token, "jwt_token_path", path)
}

// roleAndToken is the body of a login with a signed token, which is read from its file
// for each login: whoever signed it also replaces it.
func roleAndToken(role, token, argument, path string) func(context.Context) (
	map[string]any, error) {
	return func(context.Context) (map[string]any, error) {
		jwt := strings.TrimSpace(token)
		if jwt == "" {
			var err error
			if jwt, err = readCredential(argument, path); err != nil {
				return nil, err
			}
		}
		return map[string]any{"role": role, "jwt": jwt}, nil
	}
}

// constant is a body that is the same for every login.
func constant(body map[string]any) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) { return body, nil }
}

// readCredential returns the text of the file that an argument names, without white space
// around it.
func readCredential(argument, path string) (string, error) {
	text, err := readFile(argument, path)
	if err != nil {
		return "", err
	}
	credential := strings.TrimSpace(string(text))
	if credential == "" {
		return "", conn.Errorf(conn.Denied, "", "the file of %s is empty", argument)
	}
	return credential, nil
}

// maxCredential is the largest file that an argument may name, in bytes.
const maxCredential = 1 << 20

// readFile returns the content of the file that an argument names.
func readFile(argument, path string) ([]byte, error) {
	text, _, err := regularfile.Read(path, 0, maxCredential, trust.Own())
	var untrusted *trust.Error
	switch {
	case errors.As(err, &untrusted):
		return nil, &conn.Error{Kind: conn.Denied, Err: err, Hint: untrusted.Hint,
			Reason: "the file of " + argument + ": " + untrusted.Error()}
	case err != nil:
		return nil, &conn.Error{Kind: conn.Denied, Err: err,
			Reason: "the file of " + argument + " cannot be read",
			Hint:   "connfs's children read it as their own user"}
	}
	return text, nil
}
