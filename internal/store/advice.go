// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectError is a failure to begin with a PostgreSQL database, as an operator reads it: where, what, and what to do.
type connectError struct {
	where  string // host:port/database, without a password
	what   string
	advice string
	err    error
}

func (e *connectError) Error() string {
	return fmt.Sprintf("PostgreSQL at %s: %s; %s", e.where, e.what, e.advice)
}

func (e *connectError) Unwrap() error { return e.err }

// advise says of a failure to begin with a database what to do about it. Errors that say enough stay as they are.
func advise(err error, conf *pgx.ConnConfig) error {
	if err == nil {
		return nil
	}
	e := &connectError{where: fmt.Sprintf("%s/%s", net.JoinHostPort(conf.Host, fmt.Sprint(conf.Port)), conf.Database), err: err}
	user, name := conf.User, conf.Database
	refused, _ := errors.AsType[*pgconn.PgError](err)
	var dns *net.DNSError
	switch {
	case refused != nil && refused.Code == "28P01":
		e.what = fmt.Sprintf("the password of the user %s is missing or wrong", user)
		e.advice = "give it as PGPASSWORD or in ~/.pgpass; in the URL, its special characters are percent-encoded"
	case refused != nil && refused.Code == "28000":
		e.what, e.advice = refused.Message, "look at pg_hba.conf there, and at the user and sslmode of the URL"
	case refused != nil && refused.Code == "3D000":
		e.what, e.advice = "there is no such database", fmt.Sprintf("make it with: createdb --owner %s %s", user, name)
	case refused != nil && refused.Code == "42501":
		e.what = refused.Message
		e.advice = fmt.Sprintf("let the user make tables: GRANT CREATE, USAGE ON SCHEMA public TO %q", user)
	case refused != nil:
		return err
	case errors.As(err, &dns):
		e.what, e.advice = "its name is not known", "look at the host in the URL, and at the name servers"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.what, e.advice = "nothing listens there", "is it running, and are host and port those of the URL?"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		e.what, e.advice = "it does not speak TLS", "set it up there or, where the network is your own, add sslmode=disable to the URL"
	case strings.Contains(err.Error(), "failed to verify certificate"):
		e.what, e.advice = "its certificate is not trusted", "name its CA with sslrootcert=FILE in the URL; with verify-full the host must be one of its names"
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		e.what, e.advice = "it does not answer", "look at the host, the port and the network between"
	default:
		return err
	}
	return e
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
