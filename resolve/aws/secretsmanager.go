package aws

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/resolve/backend"
)

// SecretsManager is Airflow's SecretsManagerBackend: a connection is a secret of AWS
// Secrets Manager, named by a prefix and its id; its text is a URI, or a JSON object
// in which the fields may go by other words. A secret of bytes does not count.
//
// It does not read secrets in batches: BatchGetSecretValue has a hundredth of the
// rate of GetSecretValue and needs a right of its own.
type SecretsManager struct {
	service[secretsmanager.Client]
	words map[string][]string // of each field
}

// secretsManagerKinds is what the codes of Secrets Manager mean where a secret is
// read. Airflow takes DecryptionFailure and InternalServiceError for absent too, but
// then another backend would answer in the place of one that has the connection.
var secretsManagerKinds = map[string]conn.Kind{
	"ResourceNotFoundException": conn.Absent,
	"InvalidParameterException": conn.Absent,
	"InvalidRequestException":   conn.Absent, // it is marked for deletion
	"ValidationException":       conn.Absent,
}

// secretWords are the keys that mean a field of a connection.
var secretWords = map[string][]string{
	"login":     {"login", "user", "username", "user_name"},
	"password":  {"password", "pass", "key"},
	"host":      {"host", "remote_host", "server"},
	"port":      {"port"},
	"schema":    {"database", "schema"},
	"conn_type": {"conn_type", "conn_id", "connection_type", "engine"},
	"extra":     {"extra"},
}

// OpenSecretsManager is the [backend.Opener] of a [SecretsManager].
func OpenSecretsManager(s *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	prefix, enabled := kw.Optional("connections_prefix", "airflow/connections")
	separator := kw.Text("sep", "/")
	for argument, text := range map[string]string{"connections_prefix": prefix, "sep": separator} {
		checkAffix(kw, argument, text, `[A-Za-z0-9/_+=.@!\-]`)
	}
	words := extraWords(kw)
	// Current providers do not look at these any more.
	kw.Ignore("full_url_mode", "are_secret_values_urlencoded")
	b := &SecretsManager{words: words}
	b.store = openStore(s, kw, "SecretsManagerBackend", "2017-10-17")
	b.newClient, b.address = newSecretsManagerClient, secretsManagerAddress
	b.disabled = !enabled
	if b.prefix = strings.TrimRight(prefix, separator); b.prefix != "" {
		b.separator = separator
	}
	return b, nil
}

// extraWords returns the words of all fields, those of extra_conn_words included.
func extraWords(kw *arguments.Object) map[string][]string {
	words := maps.Clone(secretWords)
	for field, more := range kw.Map("extra_conn_words") {
		if field == "user" {
			field = "login"
		}
		list, ok := more.([]any)
		if words[field] == nil || !ok {
			kw.Fail("extra_conn_words", "expected lists of words for %s",
				strings.Join(conn.RekeyedFields, ", "))
			break
		}
		for _, w := range list {
			word, ok := w.(string)
			if !ok {
				kw.Fail("extra_conn_words", "expected words, which are strings")
				break
			}
			words[field] = append(slices.Clip(words[field]), word)
		}
	}
	return words
}

// Connection implements [backend.Backend].
func (b *SecretsManager) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	if strings.HasPrefix(b.name(id), "arn:") {
		return nil, conn.Errorf(conn.Absent, "",
			"the id is an ARN, another name of a secret, and is not sent")
	}
	return b.find(ctx, id, b.get, b.parse)
}

func (b *SecretsManager) parse(text string) (*conn.Connection, error) {
	if conn.IsJSONObject(text) && !conn.IsSealed(text) {
		return conn.ParseRekeyed(text, b.words)
	}
	return conn.Parse(text)
}

func newSecretsManagerClient(cfg aws.Config, endpoint *string) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
		o.BaseEndpoint = cmp.Or(endpoint, o.BaseEndpoint)
	})
}

func secretsManagerAddress(ctx context.Context, c *secretsmanager.Client) (url.URL, error) {
	o := c.Options()
	endpoint, err := o.EndpointResolverV2.ResolveEndpoint(ctx,
		secretsmanager.EndpointParameters{Region: &o.Region, Endpoint: o.BaseEndpoint})
	return endpoint.URI, err
}

// get reads a secret.
func (b *SecretsManager) get(ctx context.Context, name string) (text string, ok bool, err error) {
	err = b.call(ctx, secretsManagerKinds,
		func(ctx context.Context, c *secretsmanager.Client) error {
			out, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
			if err == nil && aws.ToString(out.Name) == name && out.SecretString != nil {
				text, ok = *out.SecretString, true
			}
			return err
		})
	return text, ok, absent(err)
}

// List implements [backend.Lister]. It cannot leave out secrets of bytes, which do not
// count.
func (b *SecretsManager) List(ctx context.Context) ([]string, error) {
	if b.disabled {
		return nil, nil
	}
	names, err := b.list(ctx, 0)
	if err != nil {
		return nil, err
	}
	return b.ids(names), nil
}

// list returns names of secrets, of so many pages at most; 0: all.
func (b *SecretsManager) list(ctx context.Context, pages int) ([]string, error) {
	in := &secretsmanager.ListSecretsInput{MaxResults: aws.Int32(100)}
	if b.prefix != "" {
		in.Filters = []smtypes.Filter{
			{Key: smtypes.FilterNameStringTypeName, Values: []string{b.prefix + b.separator}},
		}
	}
	return b.pages(ctx, pages,
		func(ctx context.Context, c *secretsmanager.Client, token *string) (page, error) {
			in.NextToken = token
			out, err := c.ListSecrets(ctx, in)
			if err != nil {
				return page{}, err
			}
			return page{namesOf(out.SecretList,
				func(s *smtypes.SecretListEntry) *string { return s.Name }), out.NextToken}, nil
		})
}

// Check implements [backend.Checker]. Whether kms:Decrypt is granted only reading a connection
// would show.
func (b *SecretsManager) Check(ctx context.Context) []conn.Check {
	if b.disabled {
		return nil
	}
	_, _, get := b.get(ctx, b.name(checkID))
	_, list := b.list(ctx, 1)
	return []conn.Check{{Call: "secretsmanager:GetSecretValue", Err: get},
		{Call: "secretsmanager:ListSecrets", Err: list, Only: conn.OnlyListing}}
}
