package metastore

import (
	"context"
	"errors"
	"net"
)

// errRSAExchange is the failure of a login for which the server asks for the password by RSA
// without TLS. The key comes from whoever answers there, so that anybody on the way can have the
// password. The C library of MySQL, and so Airflow with mysqlclient, refuses that too.
var errRSAExchange = errors.New("an RSA exchange of the password without TLS")

// withoutRSA dials as usual. Over the connection no password goes by RSA.
func withoutRSA(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil // not a network that another machine is on
	}
	return loginConn{tcp}, nil
}

// loginConn is a connection that breaks a login off where it comes to an RSA exchange: before
// the client asks for the server's key, or sends what it encrypted with it.
//
// It is a TCP connection in all else: the driver looks at its descriptor to know whether the
// server has closed it.
type loginConn struct{ *net.TCPConn }

// Write implements [io.Writer]. The driver writes one packet at a time: its length in three
// bytes, its number, and its content.
func (c loginConn) Write(p []byte) (int, error) {
	if rsaExchange(p) {
		return 1, errRSAExchange // with 0 the driver takes it for a dead connection
	}
	return c.TCPConn.Write(p)
}

// rsaExchange reports whether a packet is part of an RSA exchange. Commands, which come after
// the login, have the number 0, and the handshake response 1 (behind TLS nothing can be seen).
// Every other packet of a login is either a request for the key (1 or 2) or an answer to a
// challenge, of which only what RSA encrypted is longer than 64 bytes.
func rsaExchange(p []byte) bool {
	if len(p) < 5 || p[3] < 2 || len(p)-4 != int(p[0])|int(p[1])<<8|int(p[2])<<16 {
		return false
	}
	content := p[4:]
	return len(content) > 64 || len(content) == 1 && (content[0] == 1 || content[0] == 2)
}
