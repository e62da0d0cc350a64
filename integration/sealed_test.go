//go:build integration

package integration_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

// sealer is AWS's KMS (moto), behind a proxy that counts its calls and can fail.
type sealer struct {
	t       *testing.T
	moto    *servers.Moto
	proxy   *servers.FaultProxy
	keyring *kms.Keyring
	tables  string // [kms.main]
}

func (s *site) sealer() *sealer {
	s.t.Helper()
	m := servers.StartMoto(s.t)
	p := servers.StartFaultProxy(s.t, m.URL)
	var made struct{ KeyMetadata struct{ Arn string } }
	must(s.t, json.Unmarshal([]byte(m.Populate("TrentService.CreateKey", "{}")), &made))
	const login = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"
	credentials := s.write("credentials", login)
	own := filepath.Join(s.t.TempDir(), "credentials") // root does not log in with another's
	must(s.t, os.WriteFile(own, []byte(login), 0o600))
	settings := kmstest.Settings("aws", "key", made.KeyMetadata.Arn, "region", "eu-west-1",
		"endpoint", p.URL, "credentials_file", own)
	k, err := kms.NewKeyring(map[string]kms.Settings{"main": settings})
	must(s.t, err)
	s.t.Cleanup(func() { k.Close() })
	return &sealer{t: s.t, moto: m, proxy: p, keyring: k, tables: fmt.Sprintf(
		"[kms.main]\ntype = \"aws\"\nkey = %q\nregion = \"eu-west-1\"\nendpoint = "+
			"%q\ncredentials_file = %q\n",
		made.KeyMetadata.Arn, p.URL, credentials)}
}

// seal returns the extra of a sealed connection with this password, and its data key, as
// only the KMS can tell it.
func (s *sealer) seal(id, password string) (extra, dataKey string) {
	s.t.Helper()
	sealed, err := s.keyring.Seal(s.t.Context(), id,
		&conn.Connection{Password: conn.NewSecret(password)}, "main", nil, nil)
	must(s.t, err)
	extra, _ = sealed.Extra.Reveal()
	var form struct {
		Extra map[string]string `json:"kms_extra"`
	}
	must(s.t, json.Unmarshal([]byte(extra), &form))
	question, err := json.Marshal(map[string]any{
		"CiphertextBlob": form.Extra["ciphertext"],
		"EncryptionContext": map[string]string{
			"version": "1", "conn_id": id, "kms_conn_id": "main", "mode": "envelope",
		},
	})
	must(s.t, err)
	var opened struct{ Plaintext string }
	must(s.t,
		json.Unmarshal([]byte(s.moto.Populate("TrentService.Decrypt", string(question))), &opened))
	key, err := base64.StdEncoding.DecodeString(opened.Plaintext)
	must(s.t, err)
	if len(key) != 32 {
		s.t.Fatalf("a data key of %d bytes", len(key))
	}
	return extra, hex.EncodeToString(key)
}

// sealedRows returns statements that replace the password of each row by a sealed extra.
func sealedRows(extras []string) string {
	var b strings.Builder
	for i, extra := range extras {
		fmt.Fprintf(
			&b,
			"UPDATE connection SET password = NULL, is_encrypted = 0, extra = '%s' WHERE conn_id "+
				"= 'm%d';\n",
			extra, i,
		)
	}
	return b.String()
}

func TestASealedConnectionReadsAsIfItWereNot(t *testing.T) {
	t.Parallel()
	s, key := newSite(t), newKey(t)
	k := s.sealer()
	p := []string{canary(), canary(), canary()}
	var extras, dataKeys []string
	for i, password := range p {
		extra, dataKey := k.seal(fmt.Sprint("m", i), password)
		extras, dataKeys = append(extras, extra), append(dataKeys, "hex:"+dataKey)
	}
	extras[2] = extras[1] // the value of another id
	url := s.sqliteMetastore(rows(t, key, []string{"", "", ""}))
	s.execSQLite(sealedRows(extras))
	// A sealed form can stand wherever a backend keeps a connection.
	value, _ := k.seal("elsewhere", p[0])
	s.configure(fmt.Sprintf("ttl = %q\nepoch = %q\ntimeout = \"20s\"", memoryTTL, memoryEpoch),
		metastoreTable(url, key)+s.environment(
			"AIRFLOW_CONN_ELSEWHERE="+value,
		)+k.tables+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	a.reads(
		d.file("elsewhere"),
		strings.Replace(
			strings.Replace(fileText("http", "h.example", p[0], ""), `"http"`, "null", 1),
			`"h.example"`, "null", 1,
		),
	)
	a.fails(d.file("m2"), "EKEYREJECTED")

	// Neither the passwords nor the data keys outlive their time.
	text := []string{
		fileText("http", "h.example", p[0], ""), fileText("http", "h.example", p[1], ""),
	}
	secrets := append(p[:2:2], dataKeys...)
	d.holdsOnlySlots(func() {
		a.reads(d.file("m0"), text[0])
		a.reads(d.file("m1"), text[1])
	}, 3, secrets...) // m0, m1, and elsewhere, which has the password of m0
	d.holdsNothing("after reading sealed connections", secrets...)
	d.saysNothing(append(p, dataKeys...)...)
}

func TestAThousandReadersOfASealedConnectionMakeOneCallOfItsKMS(t *testing.T) {
	t.Parallel()
	s, key, password := newSite(t), newKey(t), canary()
	k := s.sealer()
	extra, _ := k.seal("m0", password)
	url := s.sqliteMetastore(rows(t, key, []string{""}))
	s.execSQLite(sealedRows([]string{extra}))
	s.configure("ttl = \"30s\"\ntimeout = \"20s\"",
		metastoreTable(url, key)+k.tables+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	k.proxy.Calls()
	k.proxy.Inject(servers.Fault{Delay: time.Second}) // so that all of them wait for it
	got := a.do(request{Op: "storm", Path: d.file("m0"), N: 1000})
	if want := map[string]int{
		digest([]byte(fileText("http", "h.example", password, ""))): 1000,
	}; !maps.Equal(got.Counts, want) {
		t.Errorf("the readers saw %v", got.Counts)
	}
	if all := k.proxy.Calls(); !maps.Equal(all, map[string]int{"TrentService.Decrypt": 1}) {
		t.Errorf("calls: %v", all)
	}
}

// Children die every second, and the role is assumed once: each of them goes on with the
// credentials of the one before.
func TestOneLoginToAKMSServesManyGenerations(t *testing.T) {
	t.Parallel()
	s, key, password := newSite(t), newKey(t), canary()
	k := s.sealer()
	extra, _ := k.seal("m0", password)
	url := s.sqliteMetastore(rows(t, key, []string{""}))
	s.execSQLite(sealedRows([]string{extra}))
	s.configure("ttl = \"0s\"\nepoch = \"1s\"\ntimeout = \"20s\"",
		metastoreTable(url, key)+k.tables+
			"role_arn = \"arn:aws:iam::123456789012:role/connfs\"\n"+grant(alice, "*"))
	// Only the environment names another endpoint of STS.
	d, a := s.serve("AWS_ENDPOINT_URL_STS="+k.proxy.URL), as(t, alice)
	text := fileText("http", "h.example", password, "")
	k.proxy.Calls()
	a.reads(d.file("m0"), text)
	counts := a.do(request{
		Op: "churn", Paths: []string{d.file("m0")}, N: 4, For: time.Minute,
	}).Counts
	want := digest([]byte(text))
	if counts[want] < 60 || len(counts) != 1 {
		t.Errorf("in a minute: %v", counts)
	}
	got := k.proxy.Calls()
	if got["AssumeRole"] != 1 || got["TrentService.Decrypt"] < 60 {
		t.Errorf("in 60 generations of children: %v, want one AssumeRole", got)
	}
	t.Logf("%d reads, calls: %v", counts[want], got)
	d.saysNothing(password)
}

func TestErrnoOfAKMSThatFails(t *testing.T) {
	t.Parallel()
	s, key, password := newSite(t), newKey(t), canary()
	k := s.sealer()
	extra, _ := k.seal("m0", password)
	url := s.sqliteMetastore(rows(t, key, []string{""}))
	s.execSQLite(sealedRows([]string{extra}))
	s.configure(fmt.Sprintf("timeout = %q\nttl = \"0s\"\nepoch = \"5s\"", readTimeout),
		metastoreTable(url, key)+k.tables+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	text := fileText("http", "h.example", password, "")
	a.reads(d.file("m0"), text)
	denied := func(kind string) servers.Fault {
		return servers.Fault{Status: 400, Body: `{"__type": "` + kind + `", "message": "no"}`}
	}
	for _, c := range []struct {
		name, errno string
		fault       servers.Fault
	}{
		{"denied", "EACCES", denied("AccessDeniedException")},
		{"disabled", "EKEYREJECTED", denied("DisabledException")},
		{"tampered", "EKEYREJECTED", denied("InvalidCiphertextException")},
		{"throttled", "EIO", servers.Throttled()},
		{"failing", "EIO", servers.Fault{Status: 500, Body: "{}"}},
		{"resets", "EIO", servers.Fault{Reset: true}},
		{"black hole", "ETIMEDOUT", servers.Fault{Hang: true}},
		{"a body that is cut", "EIO", servers.Fault{Cut: 20}},
	} {
		k.proxy.Inject(c.fault)
		a.failsInTime(d.file("m0"), c.errno)
		k.proxy.Heal()
		a.recovers(d.file("m0"), text)
	}
	d.saysNothing(password)
}

// recorder is an HTTP server that answers nothing of use, and remembers what it was sent.
type recorder struct {
	*httptest.Server

	mu       sync.Mutex
	requests []string // the whole of each
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.requests = append(r.requests, fmt.Sprint(q.Method, q.URL, q.Header, string(body)))
			w.WriteHeader(http.StatusForbidden)
		}))
	t.Cleanup(r.Close)
	return r
}

// seen returns what it was sent since the last call.
func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return all
}

// Whoever can write connections writes a sealed one, and the connection of its KMS: neither may
// have connfs sign a request with the identity of the machine, and send it to a server of theirs.
func TestAConnectionThatIsAKMSGetsNothingOfTheMachines(t *testing.T) {
	t.Parallel()
	const own, arn = "OWNACCESSKEY", "arn:aws:kms:eu-west-1:123456789012:key/k"
	r, machine, secret, token := newRecorder(t), canary(), canary(), canary()
	credentials := `"aws_access_key_id": "` + own + `", "aws_secret_access_key": "s", `
	attempts := []struct {
		name  string
		extra string // URL stands for that of the recorder, HOST for its host and port
		asks  bool   // the recorder is asked, with credentials of the connection's own
	}{
		{"unlisted", `"endpoint_url": "URL"`, false},
		{"unlisted_own", credentials + `"endpoint_url": "URL"`, false},
		{"endpoint", `"endpoint_url": "URL"`, false},
		{"kms", `"service_config": {"kms": {"endpoint_url": "URL"}}`, false},
		{"sts", `"role_arn": "arn:aws:iam::1:role/r",
			"service_config": {"sts": {"endpoint_url": "URL"}}`, false},
		{"profile", `"profile_name": "default", "endpoint_url": "URL"`, false},
		{"proxy", `"config_kwargs": {"proxies": {"http": "URL", "https": "URL"}}`, false},
		{"proxy_tls", `"verify": false, "config_kwargs": {"proxies": {"https": "URL"}}`, false},
		{"region", `"region_name": "HOST/#"`, false},
		{"web", `"endpoint_url": "URL", "role_arn": "arn:aws:iam::1:role/r",
			"assume_role_method": "assume_role_with_web_identity",
			"assume_role_with_web_identity_federation": "file"`, false},
		{"own", credentials + `"endpoint_url": "URL"`, true},
		{"own_sts", credentials + `"role_arn": "arn:aws:iam::1:role/r",
			"service_config": {"sts": {"endpoint_url": "URL"}}`, true},
	}
	s := newSite(t)
	place := strings.NewReplacer("URL", r.URL, "HOST", strings.TrimPrefix(r.URL, "http://"),
		"\n", "", "\t", "")
	var variables, listed []string
	for _, a := range attempts {
		sealed := fmt.Sprintf(`{"connfs_sealed": 1, "kms_conn_id": "by_%s", "kms_type": "aws", `+
			`"mode": "direct", "fields": "extra", "kms_extra": {"key": %q, "ciphertext": "AAAA"}}`,
			a.name, arn)
		extra, err := json.Marshal(place.Replace("{" + a.extra + "}"))
		must(t, err)
		variables = append(variables, "AIRFLOW_CONN_"+strings.ToUpper(a.name)+"="+sealed,
			"AIRFLOW_CONN_BY_"+strings.ToUpper(a.name)+
				`={"conn_type": "aws", "extra": `+string(extra)+`}`)
		if !strings.HasPrefix(a.name, "unlisted") {
			listed = append(listed, "by_"+a.name)
		}
	}
	s.configure("timeout = \"20s\"\nkms_connections = ["+quoteAll(listed)+"]",
		s.environment(variables...)+grant(alice, "*"))
	shared := s.write("shared", "[default]\naws_access_key_id = "+machine+
		"\naws_secret_access_key = "+secret+"\naws_session_token = "+token+"\n")
	tokenFile := s.write("token", token)
	d, reader := s.serve("AWS_ACCESS_KEY_ID="+machine, "AWS_SECRET_ACCESS_KEY="+secret,
		"AWS_SESSION_TOKEN="+token, "AWS_REGION=eu-west-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_SHARED_CREDENTIALS_FILE="+shared, "AWS_WEB_IDENTITY_TOKEN_FILE="+tokenFile,
	), as(t, alice)
	for _, a := range attempts {
		errno := "EIO"
		switch {
		case strings.HasPrefix(a.name, "unlisted"):
			errno = "EKEYREJECTED"
		case a.asks:
			errno = "EACCES"
		}
		reader.fails(d.file(a.name), errno)
		requests := r.seen()
		if a.asks != (len(requests) > 0) {
			t.Errorf("%s: the server was sent %d requests", a.name, len(requests))
		}
		for _, request := range requests {
			if !strings.Contains(request, own) || strings.Contains(request, machine) ||
				strings.Contains(request, token) {
				t.Errorf("%s: the server was sent\n%s", a.name, request)
			}
		}
	}
	d.saysNothing(secret, token)
}

// A connection that somebody puts in place of a sealed one is refused to whoever demands a
// sealed one, also where it is in the cache already, and on a descriptor that is open.
func TestAPlainConnectionInPlaceOfASealedOneIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, _, err := kms.GenerateLocalKey()
	must(t, err)
	// This test reads the file as root, to which it must belong then.
	path := filepath.Join(s.dir, "kek")
	must(t, os.WriteFile(path, key, 0o400))
	settings := kmstest.Settings("local", "key", path)
	keyring, err := kms.NewKeyring(map[string]kms.Settings{"main": settings, "other": settings})
	must(t, err)
	t.Cleanup(func() { keyring.Close() })
	genuine, forged := canary(), canary()
	seal := func(by string) string {
		c, err := keyring.Seal(t.Context(), "x",
			&conn.Connection{Password: conn.NewSecret(genuine)}, by, nil, nil)
		must(t, err)
		text, _ := c.Extra.Reveal()
		return text
	}
	tables := ""
	for _, name := range []string{"main", "other"} {
		tables += fmt.Sprintf("[kms.%s]\ntype = \"local\"\nkey = %q\n", name, path)
	}
	plain := func(password string) string { return `{"password": "` + password + `"}` }
	content := func(password string) string {
		return strings.Replace(strings.Replace(fileText("http", "h", password, ""), `"http"`,
			"null", 1), `"h"`, "null", 1)
	}
	configure := func(tables string) {
		s.configure("ttl = \"60s\"\nepoch = \"1s\"\ntimeout = \"20s\"",
			s.environment("AIRFLOW_CONN_X="+seal("main"))+tables+grant(alice, "*")+
				grant(bob, "*")+"sealed = true\n")
	}
	configure(tables)
	d, a, b := s.serve(), as(t, alice), as(t, bob)
	// A reload empties the cache, so that the environment file is looked at again.
	replace := func(value string) {
		s.environment("AIRFLOW_CONN_X=" + value)
		d.reload("connfs: reloaded\n")
	}
	descriptor := func(want string, errno string) {
		t.Helper()
		got := b.do(request{Op: "pread", Path: d.file("x"), N: 0})
		if string(got.Data) != want || got.Errno != errno {
			t.Errorf("bob's descriptor reads %q and %q, want %q", got.Data, got.failure(), errno)
		}
	}

	b.reads(d.file("x"), content(genuine))
	a.reads(d.file("x"), content(genuine))
	b.do(request{Op: "open", Path: d.file("x")})
	descriptor(content(genuine), "")

	replace(plain(forged))
	a.reads(d.file("x"), content(forged)) // and so it is in the cache
	b.fails(d.file("x"), "EKEYREJECTED")
	replace(plain(forged))
	b.fails(d.file("x"), "EKEYREJECTED")
	replace(plain(genuine)) // the same content as that of bob's descriptor
	descriptor("", "EKEYREJECTED")
	a.reads(d.file("x"), content(genuine))
	replace(seal("other"))
	b.reads(d.file("x"), content(genuine))
	descriptor(content(genuine), "")

	// A KMS that demands it does so of everybody.
	configure(strings.Replace(tables, "kek\"\n", "kek\"\nsealed = true\n", 1))
	d.reload("connfs: reloaded\n")
	a.reads(d.file("x"), content(genuine))
	for _, value := range []string{seal("other"), plain(genuine)} {
		replace(value)
		a.fails(d.file("x"), "EKEYREJECTED")
		b.fails(d.file("x"), "EKEYREJECTED")
	}

	name := regexp.MustCompile(`"sealed":(\w+),"kms":"(\w*)","key":"(\w*)"`)
	counts := make(map[string]int)
	for _, line := range d.auditLines(`"id":"x"`) {
		var e struct {
			UID   int
			Errno string
		}
		must(t, json.Unmarshal([]byte(line), &e))
		m := name.FindStringSubmatch(line)
		if m == nil || (m[3] != "") != (m[1] == "true") {
			t.Errorf("a line without it: %s", line)
			continue
		}
		counts[fmt.Sprintf("%d %s %s %s", e.UID, m[1], m[2], e.Errno)]++
	}
	for _, want := range []string{
		"5001 true main ", "5001 false  ", "5001 true other EKEYREJECTED",
		"5001 false  EKEYREJECTED", "5002 true main ", "5002 true other ",
		"5002 false  EKEYREJECTED", "5002 true other EKEYREJECTED",
	} {
		if counts[want] == 0 {
			t.Errorf("no line %q among %v", want, counts)
		}
	}
	d.saysNothing(genuine, forged)
}
