package awslogin

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// FromExtra reads the keys that an Airflow connection to AWS has in its extra, which
// are the arguments of Airflow's AWS secrets backends too. Every key that is unknown,
// of another type, or cannot be honoured is an error that names it; none shows a
// value. A null is as good as nothing.
func FromExtra(extra map[string]any) (Settings, []error) {
	r := &reader{}
	s := r.settings(extra)
	return s, r.wrong
}

// reader collects what is wrong with an extra.
type reader struct{ wrong []error }

func (r *reader) fail(name, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

func (r *reader) settings(extra map[string]any) Settings {
	o := r.object("", extra)
	s := Settings{
		Region: o.text("region_name"), Profile: o.text("profile_name"),
		AccessKeyID:     o.text("aws_access_key_id"),
		SecretAccessKey: o.text("aws_secret_access_key"),
		SessionToken:    o.text("aws_session_token"),
		Endpoint:        o.url("endpoint_url"),
	}
	if (s.AccessKeyID == "") != (s.SecretAccessKey == "") {
		r.fail("aws_access_key_id", "it and aws_secret_access_key go together")
	}
	switch verify := o.take("verify").(type) {
	case nil:
	case bool:
		s.Insecure = !verify
	case string:
		s.CAFile = verify
	default:
		r.fail("verify", "expected true, false, or the path of a file")
	}
	s.Role = r.role(o)
	if c := o.take("config_kwargs"); c != nil {
		r.config(&s, c)
	}
	for name, service := range r.object("service_config", o.take("service_config")).values {
		// Airflow's backends take no other service's from here.
		if name == "sts" {
			sts := r.object("service_config.sts", service)
			s.STSEndpoint = sts.url("endpoint_url")
			sts.rest()
		}
	}
	o.rest()
	return s
}

// role reads how a role is assumed. Without a role_arn Airflow ignores the rest.
func (r *reader) role(o *object) Role {
	role := Role{ARN: o.text("role_arn")}
	method, kwargs := o.text("assume_role_method"), o.take("assume_role_kwargs")
	federation := o.text("assume_role_with_web_identity_federation")
	file := o.text("assume_role_with_web_identity_token_file")
	if role.ARN == "" {
		return role
	}
	web := false
	switch method {
	case "", "assume_role":
	case "assume_role_with_web_identity":
		web = true
		if federation != "file" {
			r.fail("assume_role_with_web_identity_federation", `connfs can only do "file"`)
		}
		if file == "" {
			file = os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		}
		if file == "" {
			r.fail("assume_role_with_web_identity_token_file", "expected the path of a file")
		}
		role.WebIdentityTokenFile = file
	default:
		r.fail("assume_role_method",
			`connfs can only do "assume_role" and "assume_role_with_web_identity"`)
	}
	k := r.object("assume_role_kwargs", kwargs)
	role.SessionName, role.Policy = k.text("RoleSessionName"), k.text("Policy")
	role.Duration = k.seconds("DurationSeconds")
	for _, p := range k.list("PolicyArns") {
		one := r.object("assume_role_kwargs.PolicyArns", p)
		role.PolicyARNs = append(role.PolicyARNs, one.text("arn"))
		one.rest()
	}
	if !web {
		role.ExternalID, role.SourceIdentity = k.text("ExternalId"), k.text("SourceIdentity")
		for _, t := range k.list("Tags") {
			one := r.object("assume_role_kwargs.Tags", t)
			if role.Tags == nil {
				role.Tags = make(map[string]string)
			}
			role.Tags[one.text("Key")] = one.text("Value")
			one.rest()
		}
		for _, t := range k.list("TransitiveTagKeys") {
			key, ok := t.(string)
			if !ok {
				r.fail("assume_role_kwargs.TransitiveTagKeys", "expected strings")
			}
			role.TransitiveTags = append(role.TransitiveTags, key)
		}
	}
	k.rest()
	return role
}

// config reads the arguments of botocore's Config that mean something to connfs.
// Airflow's backends use them for STS alone, connfs for every call.
func (r *reader) config(s *Settings, v any) {
	o := r.object("config_kwargs", v)
	s.ConnectTimeout, s.ReadTimeout = o.seconds("connect_timeout"), o.seconds("read_timeout")
	s.MaxConnections = o.whole("max_pool_connections")
	s.DualStack, s.FIPS = o.boolean("use_dualstack_endpoint"), o.boolean("use_fips_endpoint")
	retries := r.object("config_kwargs.retries", o.take("retries"))
	retries.take("mode") // connfs has one way of its own
	s.Attempts = retries.whole("total_max_attempts")
	if s.Attempts == 0 && retries.values["max_attempts"] != nil {
		s.Attempts = 1 + retries.whole("max_attempts")
	}
	retries.rest()
	proxies := r.object("config_kwargs.proxies", o.take("proxies"))
	for _, scheme := range []string{"http", "https"} {
		if p := proxies.url(scheme); p != "" {
			if s.Proxies == nil {
				s.Proxies = make(map[string]string)
			}
			s.Proxies[scheme] = p
		}
	}
	proxies.rest()
	if signature := o.text("signature_version"); signature != "" && signature != "v4" {
		r.fail("config_kwargs.signature_version", `connfs can only do "v4"`)
	}
	for _, harmless := range []string{
		"user_agent", "user_agent_extra", "user_agent_appid", "parameter_validation",
		"tcp_keepalive", "s3",
	} {
		o.take(harmless)
	}
	o.rest()
}

// object is a JSON object that is being taken apart.
type object struct {
	r      *reader
	path   string
	values map[string]any // what has not been taken yet
}

func (r *reader) object(path string, v any) *object {
	values, ok := v.(map[string]any)
	if v != nil && !ok {
		r.fail(path, "expected an object")
	}
	return &object{r, path, maps.Clone(values)}
}

func (o *object) name(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (o *object) take(key string) any {
	v := o.values[key]
	delete(o.values, key)
	return v
}

func taken[T any](o *object, key, expected string) (T, bool) {
	v := o.take(key)
	t, ok := v.(T)
	if v != nil && !ok {
		o.r.fail(o.name(key), "expected %s", expected)
	}
	return t, ok
}

func (o *object) text(key string) string {
	t, _ := taken[string](o, key, "a string")
	return t
}

func (o *object) boolean(key string) bool {
	b, _ := taken[bool](o, key, "true or false")
	return b
}

func (o *object) list(key string) []any {
	l, _ := taken[[]any](o, key, "a list")
	return l
}

func (o *object) url(key string) string {
	text := o.text(key)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		o.r.fail(o.name(key), "expected a URL that begins with http:// or https://")
		return ""
	}
	return text
}

func (o *object) number(key string) float64 {
	v := o.take(key)
	var f float64
	var err error
	switch n := v.(type) {
	case nil:
		return 0
	case float64:
		f = n
	case json.Number:
		f, err = n.Float64()
	default:
		err = os.ErrInvalid
	}
	if err != nil || math.IsNaN(f) || f < 0 || f > 1e6 {
		o.r.fail(o.name(key), "expected a number")
		return 0
	}
	return f
}

func (o *object) seconds(key string) time.Duration {
	return time.Duration(o.number(key) * float64(time.Second))
}

func (o *object) whole(key string) int { return int(o.number(key)) }

// rest reports what nobody took.
func (o *object) rest() {
	for _, key := range slices.Sorted(maps.Keys(o.values)) {
		if o.values[key] != nil {
			o.r.fail(o.name(key), "connfs cannot honour this argument")
		}
	}
}

// SessionName returns the name under which Airflow assumes a role for one of its
// secrets backends, a class: what a role's trust policy may ask for.
func SessionName(class string) string {
	return "airflow_" + strings.ToLower(class) + "__connection"
}
