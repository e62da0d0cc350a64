package aws

import (
	"cmp"
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/resolve/backend"
)

// SSM is Airflow's SystemsManagerParameterStoreBackend: a connection is a parameter of
// AWS Systems Manager, named by a prefix and its id. Look-ups that come while others
// are under way go together, ten in a call.
type SSM struct {
	service[ssm.Client]
	batch batcher
}

// ssmKinds is what the codes of Parameter Store mean where a parameter is read. A name
// that it does not take is the name of nothing.
var ssmKinds = map[string]conn.Kind{
	"ValidationException":      conn.Absent,
	"ParameterNotFound":        conn.Absent,
	"ParameterVersionNotFound": conn.Absent,
}

// OpenSSM is the [backend.Opener] of an [SSM].
func OpenSSM(s *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	prefix, enabled := kw.Optional("connections_prefix", "/airflow/connections")
	checkAffix(kw, "connections_prefix", prefix, `[A-Za-z0-9_.\-/]`)
	b := &SSM{}
	b.store = openStore(s, kw, "SystemsManagerParameterStoreBackend", "2014-11-06")
	b.newClient, b.address = newSSMClient, ssmAddress
	b.disabled = !enabled
	b.prefix, b.separator = strings.TrimRight(prefix, "/"), "/"
	if !strings.HasPrefix(b.prefix, "/") && b.prefix != "" {
		b.prefix = "/" + b.prefix
	}
	b.batch = batcher{one: b.one, many: b.many}
	return b, nil
}

// Connection implements [backend.Backend].
func (b *SSM) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	if strings.Contains(id, ":") {
		// "x:1" and "x:label" are old versions of x.
		return nil, conn.Errorf(conn.Absent, "", `the id holds ":", which no parameter's name does, and is not sent`)
	}
	return b.find(ctx, id, b.batch.get, conn.Parse)
}

func newSSMClient(cfg aws.Config, endpoint *string) *ssm.Client {
	return ssm.NewFromConfig(cfg, func(o *ssm.Options) {
		o.BaseEndpoint = cmp.Or(endpoint, o.BaseEndpoint)
	})
}

func ssmAddress(ctx context.Context, c *ssm.Client) (url.URL, error) {
	o := c.Options()
	endpoint, err := o.EndpointResolverV2.ResolveEndpoint(ctx,
		ssm.EndpointParameters{Region: &o.Region, Endpoint: o.BaseEndpoint})
	return endpoint.URI, err
}

// one reads a parameter.
func (b *SSM) one(ctx context.Context, name string) (text string, ok bool, err error) {
	err = b.call(ctx, ssmKinds, func(ctx context.Context, c *ssm.Client) error {
		out, err := c.GetParameter(ctx,
			&ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
		if err == nil {
			text, ok = valueOf(out.Parameter, name)
		}
		return err
	})
	return text, ok, absent(err)
}

// many reads parameters, ten at most. What is not in the result is not there.
func (b *SSM) many(ctx context.Context, names []string) (values map[string]string, err error) {
	// A name that it does not take spoils the whole call: here that is a failure.
	err = b.call(ctx, nil, func(ctx context.Context, c *ssm.Client) error {
		out, err := c.GetParameters(ctx,
			&ssm.GetParametersInput{Names: names, WithDecryption: aws.Bool(true)})
		if err != nil {
			return err
		}
		values = make(map[string]string, len(out.Parameters))
		for _, p := range out.Parameters {
			if text, ok := valueOf(&p, aws.ToString(p.Name)); ok {
				values[aws.ToString(p.Name)] = text
			}
		}
		return nil
	})
	return values, err
}

// valueOf returns the text of the parameter, if it is the one of that name.
func valueOf(p *ssmtypes.Parameter, name string) (string, bool) {
	if p == nil || p.Value == nil || aws.ToString(p.Name) != name {
		return "", false
	}
	return *p.Value, true
}

// List implements [backend.Lister]. It asks for names alone; who may not do that, because
// ssm:DescribeParameters knows no narrower resource than everything, lists by the
// path, which without decryption shows no SecureString.
func (b *SSM) List(ctx context.Context) ([]string, error) {
	if b.disabled {
		return nil, nil
	}
	names, err := b.describe(ctx)
	if conn.KindOf(err) == conn.Denied {
		names, err = b.byPath(ctx, 0)
	}
	if err != nil {
		return nil, err
	}
	return b.ids(names), nil
}

func (b *SSM) describe(ctx context.Context) ([]string, error) {
	in := &ssm.DescribeParametersInput{MaxResults: aws.Int32(50)}
	if b.prefix != "" {
		in.ParameterFilters = []ssmtypes.ParameterStringFilter{
			{Key: aws.String("Path"), Option: aws.String("Recursive"), Values: []string{b.prefix}},
		}
	}
	return b.pages(ctx, 0, func(
		ctx context.Context, c *ssm.Client, token *string,
	) (page, error) {
		in.NextToken = token
		out, err := c.DescribeParameters(ctx, in)
		if err != nil {
			return page{}, err
		}
		return page{namesOf(out.Parameters,
			func(p *ssmtypes.ParameterMetadata) *string { return p.Name }), out.NextToken}, nil
	})
}

// byPath lists by the path, pages at most; 0: all.
func (b *SSM) byPath(ctx context.Context, pages int) ([]string, error) {
	in := &ssm.GetParametersByPathInput{
		Path:       aws.String(cmp.Or(b.prefix, "/")),
		Recursive:  aws.Bool(true),
		MaxResults: aws.Int32(10),
	}
	return b.pages(ctx, pages, func(
		ctx context.Context, c *ssm.Client, token *string,
	) (page, error) {
		in.NextToken = token
		out, err := c.GetParametersByPath(ctx, in)
		if err != nil {
			return page{}, err
		}
		return page{namesOf(out.Parameters,
			func(p *ssmtypes.Parameter) *string { return p.Name }), out.NextToken}, nil
	})
}

// Check implements [backend.Checker]. Whether kms:Decrypt is granted only reading a connection
// would show.
func (b *SSM) Check(ctx context.Context) []conn.Check {
	if b.disabled {
		return nil
	}
	_, _, get := b.one(ctx, b.name(checkID))
	list, call := error(nil), "ssm:DescribeParameters"
	if _, err := b.describe(ctx); err != nil {
		if conn.KindOf(err) == conn.Denied {
			call = "ssm:GetParametersByPath"
			_, err = b.byPath(ctx, 1)
		}
		list = err
	}
	return []conn.Check{{Call: "ssm:GetParameter", Err: get},
		{Call: call, Err: list, Only: conn.OnlyListing}}
}

// checkID is an id that no site uses: [backend.Checker] asks for it.
const checkID = "connfs-check-of-permissions"
