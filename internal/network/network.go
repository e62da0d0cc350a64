// Package network classifies what can go wrong on the way to a server.
package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/connfs/connfs/conn"
)

// Classify returns what an error of the network, of TLS or of a time limit means. Its words
// hold nothing of err's text, which might hold a secret.
func Classify(err error) *conn.Error {
	answer := func(kind conn.Kind, reason string) *conn.Error {
		return &conn.Error{Kind: kind, Reason: reason}
	}
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError
		header    tls.RecordHeaderError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &authority):
		return answer(conn.Unreachable,
			"the server's certificate is signed by an authority that is not trusted")
	case errors.As(err, &hostname):
		return answer(conn.Unreachable, "the server's certificate is for another host")
	case errors.As(err, &invalid):
		return answer(conn.Unreachable, "the server's certificate is not valid (is it expired?)")
	case errors.As(err, &verify), errors.As(err, &alert), errors.As(err, &header):
		return answer(conn.Unreachable, "the TLS handshake with the server failed")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.ETIMEDOUT):
		return answer(conn.Timeout, "the server did not answer in time")
	case errors.As(err, &dns) && dns.IsTimeout:
		return answer(conn.Timeout, "the look-up of the server's name did not end in time")
	case errors.As(err, &dns):
		return answer(conn.Unreachable, "the server's name cannot be resolved")
	case errors.Is(err, syscall.ECONNREFUSED):
		return answer(conn.Unreachable, "the connection is refused: no server listens there")
	case errors.Is(err, syscall.ENOENT):
		return answer(conn.Unreachable, "the server's socket is not there")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return answer(conn.Denied, "the system does not allow a connection to the server")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return answer(conn.Unreachable, "there is no route to the server")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return answer(conn.Unreachable, "the server cut the connection")
	case errors.As(err, &timeout) && timeout.Timeout():
		return answer(conn.Timeout, "the server did not answer in time")
	}
	return answer(conn.Unreachable, "the connection to the server failed")
}
