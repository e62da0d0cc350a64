package metastore

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/connfs/connfs/conn"
)

func TestWhatIsAtStakeOnTheNetwork(t *testing.T) {
	const who, password = "need not prove who it is", "and get the password"
	for url, want := range map[string]string{
		"sqlite:////a.db":                                                   "",
		"postgresql://u:p@localhost/db":                                     "",
		"postgresql://u:p@127.0.0.1/db":                                     "",
		"postgresql://u:p@[::1]/db":                                         "",
		"postgresql://u:p@/db?host=/run":                                    "",
		"postgresql://u:p@db/db":                                            password,
		"postgres://u:p@10.0.0.1/db":                                        password,
		"postgresql+psycopg2://u:p@db/db":                                   password,
		"postgresql+asyncpg://u:p@db/db":                                    password,
		"postgresql://u:p@db/db?sslmode=disable":                            password,
		"postgresql://u:p@db/db?sslmode=require":                            password,
		"postgresql://u:p@db/db?sslmode=verify-full":                        "",
		"postgresql+asyncpg://u:p@db/db?ssl=verify-full":                    "",
		"postgresql://u:p@db/db?sslmode=require&require_auth=scram-sha-256": who,
		"postgresql://u:p@db/db?sslmode=require&channel_binding=require":    "",
		"postgresql://u:p@/db?host=localhost&host=db":                       password,
		"mysql://u:p@localhost/db":                                          "",
		"mysql://u:p@db/db":                                                 password,
		"mysql+pymysql://u:p@db/db?ssl_disabled=true":                       who,
		"mysql+mysqldb://u:p@db/db?ssl_mode=REQUIRED":                       password,
		"mysql+mysqldb://u:p@db/db?ssl_mode=VERIFY_IDENTITY":                "",
		"mysql+mysqlconnector://u:p@db/db?ssl_verify_cert=true":             "",
		"this is not a URL":                                                 "",
	} {
		got, hint := Exposed(url)
		if (got == "") != (want == "") || !strings.Contains(got, want) ||
			(got == "") != (hint == "") || want == who && strings.Contains(got, password) {
			t.Errorf("%s: %q (%s)", url, got, hint)
		}
		if strings.Contains(got, "u:p") {
			t.Errorf("%s is shown", url)
		}
	}
}

// impostor answers as a MySQL server without TLS, whose greeting names a plugin, and which
// then sends the other packets, each after one of the client's. It returns where it is, and
// what the client sent as soon as it is gone.
func impostor(t *testing.T, plugin string, packets ...[]byte) (
	address string, sent <-chan [][]byte) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan [][]byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var got [][]byte
		defer func() { all <- got }()
		greeting := append([]byte{10}, "8.0.0\x00"...)
		greeting = append(greeting, 1, 0, 0, 0)
		greeting = append(greeting, "challeng\x00"...)
		greeting = append(greeting, 0xff, 0xf7, 33, 2, 0, 0xff, 0x81, 21) // no TLS
		greeting = append(greeting, make([]byte, 10)...)
		greeting = append(greeting, "echallengech\x00"...)
		greeting = append(append(greeting, plugin...), 0)
		for number := byte(0); ; number += 2 {
			header := binary.LittleEndian.AppendUint32(nil, uint32(len(greeting)))
			header[3] = number
			if _, err := c.Write(append(header, greeting...)); err != nil {
				return
			}
			if _, err := io.ReadFull(c, header); err != nil {
				return
			}
			content := make([]byte, int(header[0])|int(header[1])<<8)
			if _, err := io.ReadFull(c, content); err != nil || len(packets) == 0 {
				return
			}
			got = append(got, content)
			greeting, packets = packets[0], packets[1:]
		}
	}()
	return l.Addr().String(), all
}

func TestNoPasswordGoesByRSAToAnotherMachine(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	end := []byte{0xff, 0, 0}
	for name, c := range map[string]struct {
		plugin  string
		packets [][]byte
		sends   int // packets, the handshake response included
	}{
		"caching_sha2_password": {"caching_sha2_password", [][]byte{{1, 4}, end}, 1},
		"another plugin asked for": {"mysql_native_password", [][]byte{
			append([]byte{0xfe}, "sha256_password\x00challengechallengech\x00"...), end}, 1},
		"a key that comes at once": {"sha256_password",
			[][]byte{append([]byte{1}, pemKey...), end}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			address, sent := impostor(t, c.plugin, c.packets...)
			u, err := parseSQLURL("mysql+pymysql://u:hunter2@db.example/airflow")
			if err != nil {
				t.Fatal(err)
			}
			config, err := mysqlConfig(u)
			if err != nil {
				t.Fatal(err)
			}
			config.Addr = address // as if the network led there
			connector, err := mysql.NewConnector(config)
			if err != nil {
				t.Fatal(err)
			}
			_, err = connector.Connect(t.Context())
			if err == nil {
				t.Fatal("it logs in")
			}
			if got := <-sent; len(got) != c.sends {
				t.Errorf("%d packets were sent: %q", len(got), got)
			}
			if !errors.Is(err, errRSAExchange) {
				t.Errorf("%v", err)
			}
			if e := classifyMySQL(tables{}, err); e == nil || e.Kind != conn.Denied {
				t.Errorf("classified as %v", e)
			}
		})
	}
}

func TestPacketsOfAnRSAExchangeAreKnown(t *testing.T) {
	packet := func(number byte, content ...byte) []byte {
		header := binary.LittleEndian.AppendUint32(nil, uint32(len(content)))
		header[3] = number
		return append(header, content...)
	}
	tls := append([]byte{0x17, 3, 3, 9}, make([]byte, 300)...)
	for name, c := range map[string]struct {
		packet []byte
		want   bool
	}{
		"a piece of TLS":                 {tls, false},
		"request for the key":            {packet(3, 2), true},
		"the other plugin's":             {packet(3, 1), true},
		"an encrypted password":          {packet(5, make([]byte, 256)...), true},
		"an answer to a challenge":       {packet(3, make([]byte, 32)...), false},
		"an answer of 64 bytes":          {packet(3, make([]byte, 64)...), false},
		"no password":                    {packet(3, 0), false},
		"the handshake response":         {packet(1, make([]byte, 300)...), false},
		"a command":                      {packet(0, make([]byte, 300)...), false},
		"the end":                        {packet(0, 1), false},
		"less than the head of a packet": {[]byte{1, 0, 0, 3}, false},
	} {
		if got := rsaExchange(c.packet); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
