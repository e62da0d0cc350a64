package dags

import (
	"bytes"
	"compress/zlib"
	"io"
)

// text returns the JSON text of the row, from the column that Airflow would read.
func (d Document) text() ([]byte, error) {
	switch {
	case len(d.Compressed) > 0:
		return inflate(d.Compressed)
	case d.Data == nil:
		return nil, invalid(reasonNoDocument)
	}
	return d.Data, nil
}

// inflate is zlib with a limit. As in Airflow, bytes after the stream are ignored,
// and a missing checksum is an error.
func inflate(compressed []byte) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, invalid(reasonDamaged)
	}
	defer z.Close()
	var text bytes.Buffer
	n, err := io.Copy(&text, io.LimitReader(z, maxDocument+1))
	if n > maxDocument {
		return nil, invalid(reasonTooLarge)
	}
	if err != nil {
		return nil, invalid(reasonDamaged)
	}
	return text.Bytes(), nil
}
