package conn

import (
	"strings"
	"testing"
)

func TestFileNamesOfMetastoreIDs(t *testing.T) {
	var rows [][2]*string // id and file name, null where there is no file
	readGolden(t, "files.json", &rows)
	if len(rows) != 77 {
		t.Fatalf("files.json holds %d ids, want 77", len(rows))
	}
	for _, row := range rows {
		id, want := *row[0], row[1]
		got, ok := FileName(id)
		if ok != (want != nil) || ok && got != *want {
			t.Errorf("FileName(%q) = %q, %v, want %v", id, got, ok, want)
			continue
		}
		if !ok {
			continue
		}
		if back, err := IDFromFileName(got); err != nil || back != id {
			t.Errorf("IDFromFileName(%q) = %q, %v, want %q", got, back, err, id)
		}
	}
}

func TestFileName(t *testing.T) {
	long := strings.Repeat("x", MaxFileName-len(".json"))
	for _, tc := range []struct {
		id, name string
		ok       bool
	}{
		{"a.b", "a.b.json", true},
		{".", "%2E.json", true},
		{"..", "%2E..json", true},
		{"a%2Fb", "a%252Fb.json", true},
		{"\x00\x1f\x7f /", "%00%1F%7F %2F.json", true},
		{"\xff\x80", "\xff\x80.json", true},
		{"x.json", "x.json.json", true},
		{long, long + ".json", true},
		{long + "x", "", false},
		{long[1:] + "/", "", false},
		{"", "", false},
	} {
		if name, ok := FileName(tc.id); name != tc.name || ok != tc.ok {
			t.Errorf("FileName(%q) = %q, %v, want %q, %v", tc.id, name, ok, tc.name, tc.ok)
		}
	}
}

func TestOtherSpellingsDoNotExist(t *testing.T) {
	for _, tc := range []struct {
		name string
		kind Kind
	}{
		{"", NoSuchName},
		{"x", NoSuchName},
		{".json", NoSuchName},
		{"x.JSON", NoSuchName},
		{".x.json", NoSuchName},
		{"%2ex.json", NoSuchName},
		{"a%2E.json", NoSuchName},
		{"%41.json", NoSuchName},
		{"a%2fb.json", NoSuchName},
		{"a/b.json", NoSuchName},
		{"a%.json", NoSuchName},
		{"a%2.json", NoSuchName},
		{"a%2", NoSuchName},
		{"a\n.json", NoSuchName},
		{"a\x7f.json", NoSuchName},
		{"a\x00.json", NoSuchName},
		{"%GG.json", NoSuchName},
		{"%80.json", NoSuchName},
		{strings.Repeat("x", MaxFileName-4) + ".json", NameTooLong},
		{strings.Repeat("x", MaxFileName+1), NameTooLong},
		{strings.Repeat("x", MaxFileName), NoSuchName},
	} {
		if id, err := IDFromFileName(tc.name); err == nil || KindOf(err) != tc.kind {
			t.Errorf("IDFromFileName(%q) = %q, %v, want kind %v", tc.name, id, err, tc.kind)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{
		"", "a", ".a", "%2E", "a/b.json", "\xff%", "a%2Fb.json", "%2E.json",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, ok := FileName(s); ok {
			if id, err := IDFromFileName(name); err != nil || id != s {
				t.Errorf("FileName(%q) = %q, whose id is %q, %v", s, name, id, err)
			}
			if strings.ContainsAny(name, "/\x00") || name[0] == '.' {
				t.Errorf("FileName(%q) = %q, which no directory can hold", s, name)
			}
		}
		if id, err := IDFromFileName(s); err == nil {
			if name, ok := FileName(id); !ok || name != s {
				t.Errorf("IDFromFileName(%q) = %q, whose name is %q, %v", s, id, name, ok)
			}
		}
	})
}

func TestEnvName(t *testing.T) {
	for id, want := range map[string]string{
		"my_db":      "AIRFLOW_CONN_MY_DB",
		"My.db-1":    "AIRFLOW_CONN_MY.DB-1",
		"straße":     "AIRFLOW_CONN_STRASSE",
		"ﬁn":         "AIRFLOW_CONN_FIN",
		"ŉ":          "AIRFLOW_CONN_ʼN",
		"ᾳ":          "AIRFLOW_CONN_ΑΙ",
		"ς":          "AIRFLOW_CONN_Σ",
		"ı":          "AIRFLOW_CONN_I",
		"a\xffé\xc3": "AIRFLOW_CONN_A\xffÉ\xc3",
		"":           "AIRFLOW_CONN_",
	} {
		if got := EnvName(id); got != want {
			t.Errorf("EnvName(%q) = %q, want %q", id, got, want)
		}
	}
}
