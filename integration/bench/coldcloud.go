package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/connfs/connfs/integration/servers"
)

// Servers of the tests stand for the clouds, with round trips of their own: moto needs
// some 10 ms for each answer.

func parameterStore(b *bench, n int) source {
	m := servers.StartMoto(b)
	value, err := json.Marshal(strings.TrimSpace(fileText(extra())))
	b.must(err)
	for i := range n {
		m.Populate("AmazonSSM.PutParameter",
			fmt.Sprintf(`{"Name":"/c/c%d","Type":"SecureString","Value":%s}`, i, value))
	}
	c := ssm.New(ssm.Options{
		Region: "eu-west-1", BaseEndpoint: &m.URL,
		Credentials: credentials.NewStaticCredentialsProvider("bench", "bench", ""),
	})
	return source{"SSM (moto)", "aws-sdk-go-v2", fmt.Sprintf("[secrets]\n"+
		"backend = \"aws_ssm\"\n"+
		"backend_kwargs = { connections_prefix = \"/c\", region_name = \"eu-west-1\", "+
		"aws_access_key_id = \"bench\", aws_secret_access_key = \"bench\", endpoint_url = %q }",
		m.URL),
		func(id string) error {
			_, err := c.GetParameter(context.Background(), &ssm.GetParameterInput{
				Name: aws.String("/c/" + id), WithDecryption: aws.Bool(true),
			})
			return err
		}}
}

func vault(b *bench, n int) source {
	v := servers.StartVault(b)
	v.Mount("secret", 2)
	for i := range n {
		v.Do("POST", fmt.Sprintf("/v1/secret/data/c/c%d", i), map[string]any{"data": map[string]any{
			"conn_type": fields.kind, "host": fields.host, "login": fields.login,
			"password": fields.password, "schema": fields.schema, "port": fields.port,
			"extra": extra(),
		}})
	}
	r, err := http.NewRequest(http.MethodGet, v.URL+"/v1/secret/data/c/", nil)
	b.must(err)
	r.Header.Set("X-Vault-Token", v.Token)
	settings := fmt.Sprintf("[secrets]\nbackend = \"vault\"\nbackend_kwargs = "+
		"{ url = %q, token = %q, mount_point = \"secret\", connections_path = \"c\" }",
		v.URL, v.Token)
	return source{"Vault, KV 2", "net/http, open connection", settings, func(id string) error {
		var secret struct {
			Data struct{ Data map[string]any }
		}
		one := r.Clone(context.Background())
		one.URL.Path += id
		answer, err := http.DefaultClient.Do(one)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if err := json.NewDecoder(answer.Body).Decode(&secret); err != nil {
			return err
		}
		if secret.Data.Data == nil {
			return fmt.Errorf("no secret: %s", answer.Status)
		}
		_, err = io.Copy(io.Discard, answer.Body) // or the connection is not used again
		return err
	}}
}
