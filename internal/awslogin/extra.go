package awslogin

import (
	"os"
	"strings"

	"github.com/connfs/connfs/internal/arguments"
)

// FromArguments takes the keys that an Airflow connection to AWS has in its extra, which
// are the arguments of Airflow's AWS secrets backends too, and whatever else is left. Every
// key that is unknown, of another type, or cannot be honoured is reported by name. A null is
// as good as nothing.
func FromArguments(o *arguments.Object) Settings {
	s := Settings{
		Region: region(o), Profile: o.Text("profile_name", ""),
		AccessKeyID:     o.Text("aws_access_key_id", ""),
		SecretAccessKey: o.Text("aws_secret_access_key", ""),
		SessionToken:    o.Text("aws_session_token", ""),
		Endpoint:        o.URL("endpoint_url"),
	}
	if (s.AccessKeyID == "") != (s.SecretAccessKey == "") {
		o.Fail("aws_access_key_id", "it and aws_secret_access_key go together")
	}
	switch verify := o.Value("verify").(type) {
	case nil:
	case bool:
		s.Insecure = !verify
	case string:
		s.CAFile = verify
	default:
		o.Fail("verify", "expected true, false, or the path of a file")
	}
	s.Role = role(o)
	if o.Has("config_kwargs") {
		s.config(o.Object("config_kwargs"))
	}
	// Airflow's backends take no other service's from here.
	sts := o.Object("service_config").Object("sts")
	s.STSEndpoint = sts.URL("endpoint_url")
	sts.RefuseRest()
	o.RefuseRest()
	return s
}

// region reads the region. It becomes a part of the name of the host that is asked, so it must
// be a plain name.
func region(o *arguments.Object) string {
	text := o.Text("region_name", "")
	if !IsRegion(text) {
		o.Fail("region_name", "expected the name of a region, such as eu-central-1")
	}
	return text
}

// IsRegion reports whether text can be the name of a region, or is empty. Whether there is such
// a region only AWS knows.
func IsRegion(text string) bool {
	return len(text) < 64 &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Detours returns the arguments with which calls reach, or pass, another server than AWS's own.
// Whoever sets one of them must not have calls signed with somebody else's credentials.
func (s *Settings) Detours() []string {
	var names []string
	for _, d := range []struct {
		name string
		set  bool
	}{
		{"endpoint_url", s.Endpoint != ""},
		{"service_config.sts.endpoint_url", s.STSEndpoint != ""},
		{"config_kwargs.proxies", len(s.Proxies) > 0},
		{"verify", s.Insecure || s.CAFile != ""}, // who then answers in AWS's place is not checked
	} {
		if d.set {
			names = append(names, d.name)
		}
	}
	return names
}

// role reads how a role is assumed. Without a role_arn Airflow ignores the rest.
func role(o *arguments.Object) Role {
	role := Role{ARN: o.Text("role_arn", "")}
	method, kwargs := o.Text("assume_role_method", ""), o.Value("assume_role_kwargs")
	federation := o.Text("assume_role_with_web_identity_federation", "")
	file := o.Text("assume_role_with_web_identity_token_file", "")
	if role.ARN == "" {
		return role
	}
	web := false
	switch method {
	case "", "assume_role":
	case "assume_role_with_web_identity":
		web = true
		if federation != "file" {
			o.Fail("assume_role_with_web_identity_federation", `connfs can only do "file"`)
		}
		if file == "" {
			file = os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		}
		if file == "" {
			o.Fail("assume_role_with_web_identity_token_file", "expected the path of a file")
		}
		role.WebIdentityTokenFile = file
	default:
		o.Fail("assume_role_method",
			`connfs can only do "assume_role" and "assume_role_with_web_identity"`)
	}
	k := o.In("assume_role_kwargs", kwargs)
	role.SessionName, role.Policy = k.Text("RoleSessionName", ""), k.Text("Policy", "")
	role.Duration = k.Seconds("DurationSeconds")
	for _, p := range k.List("PolicyArns") {
		one := k.In("PolicyArns", p)
		role.PolicyARNs = append(role.PolicyARNs, one.Text("arn", ""))
		one.RefuseRest()
	}
	if !web {
		role.ExternalID = k.Text("ExternalId", "")
		role.SourceIdentity = k.Text("SourceIdentity", "")
		for _, t := range k.List("Tags") {
			one := k.In("Tags", t)
			if role.Tags == nil {
				role.Tags = make(map[string]string)
			}
			role.Tags[one.Text("Key", "")] = one.Text("Value", "")
			one.RefuseRest()
		}
		for _, t := range k.List("TransitiveTagKeys") {
			key, ok := t.(string)
			if !ok {
				k.Fail("TransitiveTagKeys", "expected strings")
			}
			role.TransitiveTags = append(role.TransitiveTags, key)
		}
	}
	k.RefuseRest()
	return role
}

// config reads the arguments of botocore's Config that mean something to connfs.
// Airflow's backends use them for STS alone, connfs for every call.
func (s *Settings) config(o *arguments.Object) {
	s.ConnectTimeout, s.ReadTimeout = o.Seconds("connect_timeout"), o.Seconds("read_timeout")
	s.MaxConnections = int(o.Number("max_pool_connections"))
	s.DualStack = o.Boolean("use_dualstack_endpoint", false)
	s.FIPS = o.Boolean("use_fips_endpoint", false)
	retries := o.Object("retries")
	retries.Value("mode") // connfs has one way of its own
	s.Attempts = int(retries.Number("total_max_attempts"))
	if s.Attempts == 0 && retries.Value("max_attempts") != nil {
		s.Attempts = 1 + int(retries.Number("max_attempts"))
	}
	retries.RefuseRest()
	proxies := o.Object("proxies")
	for _, scheme := range []string{"http", "https"} {
		if p := proxies.URL(scheme); p != "" {
			if s.Proxies == nil {
				s.Proxies = make(map[string]string)
			}
			s.Proxies[scheme] = p
		}
	}
	proxies.RefuseRest()
	if signature := o.Text("signature_version", ""); signature != "" && signature != "v4" {
		o.Fail("signature_version", `connfs can only do "v4"`)
	}
	o.Ignore("user_agent", "user_agent_extra", "user_agent_appid", "parameter_validation",
		"tcp_keepalive", "s3")
	o.RefuseRest()
}

// SessionName returns the name under which Airflow assumes a role for one of its
// secrets backends, a class: what a role's trust policy may ask for.
func SessionName(class string) string {
	return "airflow_" + strings.ToLower(class) + "__connection"
}
