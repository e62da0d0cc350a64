package kms

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/awslogin"
)

// The keys that connfs adds to the extra of an Airflow connection that stands for a KMS.
const (
	connectionKey  = "kms_key"
	connectionMode = "kms_mode"
)

// readAWS takes the settings from an Airflow connection of type aws, whose keys are
// Airflow's own besides kms_key and kms_mode.
func readAWS(c *conn.Connection) (*target, error) {
	extra, err := extraOf(c)
	if err != nil {
		return nil, err
	}
	t := &target{}
	var wrong []error
	wrong = append(wrong, takeText(extra, connectionKey, &t.Key), takeText(extra, connectionMode, &t.Mode))
	var externalID string
	wrong = append(wrong, takeText(extra, "external_id", &externalID))
	endpoint, err := serviceEndpoint(extra, "kms")
	wrong = append(wrong, err)

	s, more := awslogin.FromExtra(extra)
	wrong = append(wrong, more...)
	if c.Login != nil && *c.Login != "" {
		s.AccessKeyID, s.SecretAccessKey = *c.Login, ""
		if password, _ := c.Password.Reveal(); password != "" {
			s.SecretAccessKey = password
		} else {
			wrong = append(wrong, errors.New("there is a login, an access key, without a password, its secret key"))
		}
	}
	if endpoint != "" {
		s.Endpoint = endpoint
	}
	if externalID != "" {
		s.Role.ExternalID = externalID
	}
	if s.Role.WebIdentityTokenFile != "" {
		// Whoever can write a connection could have any file of connfs's sent anywhere.
		wrong = append(wrong, errors.New("assume_role_method: a web identity can be used by a [kms.NAME] only"))
	}
	t.aws = &s
	return t, errors.Join(wrong...)
}

// serviceEndpoint returns the endpoint that Airflow's service_config has for one service.
func serviceEndpoint(extra map[string]any, service string) (string, error) {
	all, _ := extra["service_config"].(map[string]any)
	one, _ := all[service].(map[string]any)
	text, ok := one["endpoint_url"].(string)
	if one["endpoint_url"] == nil || ok && (strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")) {
		return text, nil
	}
	return "", errors.New("service_config." + service + ".endpoint_url: expected a URL that begins with http:// or https://")
}

// extraOf returns the extra of a connection as an object that may be changed.
func extraOf(c *conn.Connection) (map[string]any, error) {
	text, _ := c.Extra.Reveal()
	extra := make(map[string]any)
	if strings.TrimSpace(text) == "" {
		return extra, nil
	}
	if err := json.Unmarshal([]byte(text), &extra); err != nil || extra == nil {
		return nil, errors.New("its extra is not a JSON object")
	}
	return maps.Clone(extra), nil
}

// takeText takes a text out of an extra; null is as good as nothing.
func takeText(extra map[string]any, key string, to *string) error {
	value := extra[key]
	delete(extra, key)
	if value == nil {
		return nil
	}
	text, ok := value.(string)
	if !ok {
		return errors.New(key + ": expected a string")
	}
	*to = text
	return nil
}
