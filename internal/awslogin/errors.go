package awslogin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
)

// class is what to do about a failed call.
type class int

const (
	final          class = iota
	transient            // it may go better the next time
	throttled            // it will go better later
	badCredentials       // it may go better with new credentials
)

// meaning is one row of the table of error codes.
type meaning struct {
	kind   conn.Kind
	class  class
	reason string
	hint   string
}

const (
	refuses  = "AWS refuses connfs"
	unknown  = "AWS does not take the credentials of connfs"
	expired  = "the credentials of connfs are at their end"
	tooMany  = "AWS throttled the call: there are too many of them"
	fault    = "the service has a fault of its own"
	clock    = "AWS says that the clock of this machine is wrong"
	noKey    = "the KMS key of the value cannot be used"
	badInput = "AWS does not take the call"
	absent   = "it does not exist"
)

// meanings is the table of error codes that services have in common, and of those of
// the services that connfs uses which no other uses for something else.
var meanings = map[string]meaning{
	"AccessDenied":          {conn.Denied, final, refuses, ""},
	"AccessDeniedException": {conn.Denied, final, refuses, ""},
	"UnauthorizedOperation": {conn.Denied, final, refuses, ""},
	"NotAuthorized":         {conn.Denied, final, refuses, ""},
	"AuthFailure":           {conn.Denied, final, refuses, ""},
	"OptInRequired": {
		conn.Denied, final, refuses, "the account has not subscribed to the service or region",
	},
	"RegionDisabledException": {
		conn.Denied, final, "STS is switched off in this region", "",
	},
	"InvalidIdentityToken": {
		conn.Denied, final, "STS does not take the web identity token", "",
	},
	"ExpiredTokenException":       {conn.Denied, badCredentials, expired, ""},
	"ExpiredToken":                {conn.Denied, badCredentials, expired, ""},
	"RequestExpired":              {conn.Denied, badCredentials, expired, ""},
	"UnrecognizedClientException": {conn.Denied, badCredentials, unknown, ""},
	"InvalidClientTokenId":        {conn.Denied, badCredentials, unknown, ""},
	"InvalidAccessKeyId":          {conn.Denied, badCredentials, unknown, ""},
	"InvalidSignatureException": {
		conn.Denied, final, unknown,
		"the secret key is not that of the access key, or the clock is wrong",
	},
	"SignatureDoesNotMatch": {
		conn.Denied, final, unknown,
		"the secret key is not that of the access key, or the clock is wrong",
	},
	"IncompleteSignature":           {conn.Denied, final, unknown, ""},
	"MissingAuthenticationToken":    {conn.Denied, final, unknown, ""},
	"RequestTimeTooSkewed":          {conn.Denied, transient, clock, ""},
	"RequestInTheFuture":            {conn.Denied, transient, clock, ""},
	"Throttling":                    {conn.Unreachable, throttled, tooMany, ""},
	"ThrottlingException":           {conn.Unreachable, throttled, tooMany, ""},
	"ThrottledException":            {conn.Unreachable, throttled, tooMany, ""},
	"RequestThrottled":              {conn.Unreachable, throttled, tooMany, ""},
	"RequestThrottledException":     {conn.Unreachable, throttled, tooMany, ""},
	"TooManyRequestsException":      {conn.Unreachable, throttled, tooMany, ""},
	"RequestLimitExceeded":          {conn.Unreachable, throttled, tooMany, ""},
	"LimitExceededException":        {conn.Unreachable, throttled, tooMany, ""},
	"SlowDown":                      {conn.Unreachable, throttled, tooMany, ""},
	"ThroughputExceeded":            {conn.Unreachable, throttled, tooMany, ""},
	"InternalServerError":           {conn.Unreachable, transient, fault, ""},
	"InternalServiceError":          {conn.Unreachable, transient, fault, ""},
	"InternalServiceErrorException": {conn.Unreachable, transient, fault, ""},
	"InternalFailure":               {conn.Unreachable, transient, fault, ""},
	"InternalError":                 {conn.Unreachable, transient, fault, ""},
	"ServiceUnavailable":            {conn.Unreachable, transient, fault, ""},
	"ServiceUnavailableException":   {conn.Unreachable, transient, fault, ""},
	"RequestTimeout":                {conn.Unreachable, transient, fault, ""},
	"RequestTimeoutException":       {conn.Unreachable, transient, fault, ""},
	"DependencyTimeoutException":    {conn.Unreachable, transient, fault, ""},
	"KMSInternalException":          {conn.Unreachable, transient, fault, ""},
	"KeyUnavailableException":       {conn.Unreachable, transient, noKey, ""},
	"InvalidKeyId":                  {conn.KeyRejected, final, noKey, ""},
	"DecryptionFailure":             {conn.KeyRejected, final, noKey, ""},
	"DisabledException":             {conn.KeyRejected, final, "the KMS key is disabled", ""},
	"KMSInvalidStateException": {
		conn.KeyRejected, final, noKey, "it may be pending deletion",
	},
	"ResourceNotFoundException": {conn.Absent, final, absent, ""},
	"ParameterNotFound":         {conn.Absent, final, absent, ""},
	"ParameterVersionNotFound":  {conn.Absent, final, absent, ""},
	"InvalidParameterException": {conn.Failed, final, badInput, ""},
	"InvalidRequestException":   {conn.Failed, final, badInput, ""},
	"ValidationException":       {conn.Failed, final, badInput, ""},
	"UnknownOperationException": {
		conn.Failed, final, "the endpoint does not know the operation",
		"is it the endpoint of another service?",
	},
	"InvalidAction": {
		conn.Failed, final, "the endpoint does not know the operation",
		"is it the endpoint of another service?",
	},
	"EC2ThrottledException":          {conn.Unreachable, throttled, tooMany, ""},
	"PriorRequestNotComplete":        {conn.Unreachable, throttled, tooMany, ""},
	"TransactionInProgressException": {conn.Unreachable, throttled, tooMany, ""},
	"BandwidthLimitExceeded":         {conn.Unreachable, throttled, tooMany, ""},
}

// classified is an error and what to do about it.
type classified struct {
	err   *conn.Error
	class class
}

// classify is what a failed call means: by the end of ctx, by the code, by the HTTP
// status where there is no code, by the network's error. Nothing of the service's own
// text is taken over: it quotes names and ARNs.
func classify(ctx context.Context, err error, kinds map[string]conn.Kind) classified {
	var ready *conn.Error
	if errors.As(err, &ready) {
		return classified{ready, final}
	}
	if ctx.Err() != nil {
		reason := "no answer within the deadline"
		if errors.Is(ctx.Err(), context.Canceled) {
			reason = "the call was called off before an answer came"
		}
		return classified{&conn.Error{Kind: conn.Timeout, Reason: reason, Err: err}, final}
	}
	m := meaningOf(err, kinds)
	e := &conn.Error{Kind: m.kind, Reason: m.reason, Hint: m.hint, Err: err}
	var login *loginError
	var op *smithy.OperationError
	inLogin := errors.As(err, &login)
	if inLogin {
		// What STS says is not about the connection.
		if e.Kind == conn.Absent || e.Kind == conn.Failed || e.Kind == conn.KeyRejected {
			e.Kind = conn.Denied
		}
		err = login.err
	}
	if innermost(err, &op) {
		e.Reason += fmt.Sprintf(" (%s %s", op.Service(), op.Operation())
		if code := codeOf(err); code != "" {
			e.Reason += ": " + code
		}
		e.Reason += ")"
		if inLogin && op.Service() == "ec2imds" {
			m.class = final
			e.Kind = conn.Denied
			e.Reason = "no AWS credentials are found: " +
				"none in the environment or in files, and no role of this machine"
			e.Hint = "AWS_ACCESS_KEY_ID, ~/.aws, or a role of the machine, for the user that " +
				"connfs's children run as"
		}
	} else if inLogin {
		m.class = final
		e.Kind, e.Reason = conn.Denied, "no AWS credentials can be had"
	}
	return classified{e, m.class}
}

func meaningOf(err error, kinds map[string]conn.Kind) meaning {
	code := codeOf(err)
	m, known := meanings[code]
	if kind, ok := kinds[code]; ok && code != "" {
		m.kind = kind
		if !known {
			m.reason = badInput
		}
		if kind == conn.Absent {
			m.reason = absent
		}
		return m
	}
	if known {
		var api smithy.APIError
		if m.kind == conn.Denied && errors.As(err, &api) &&
			strings.Contains(api.ErrorMessage(), "kms:Decrypt") {
			m.hint = "the right that is missing is kms:Decrypt"
		}
		return m
	}
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.HTTPStatusCode() == 0 {
		if code != "" {
			return meaning{kind: conn.Failed, reason: badInput}
		}
		e := network.Classify(err)
		if e.Kind == conn.Denied {
			return meaning{kind: e.Kind, reason: e.Reason}
		}
		return meaning{kind: e.Kind, class: transient, reason: e.Reason}
	}
	switch status := answer.HTTPStatusCode(); {
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return meaning{conn.Denied, badCredentials, refuses, ""}
	case status == http.StatusTooManyRequests:
		return meaning{conn.Unreachable, throttled, tooMany, ""}
	case status >= 500:
		return meaning{conn.Unreachable, transient, fault, ""}
	case status < 300:
		// Too often a proxy's page or a cut body to call it an invalid value.
		return meaning{conn.Unreachable, transient, "the answer broke off, or is not AWS's", ""}
	case code != "":
		return meaning{kind: conn.Failed, reason: badInput}
	}
	return meaning{
		conn.Unreachable, final,
		fmt.Sprintf("the answer is not AWS's: HTTP status %d", answer.HTTPStatusCode()),
		"is the endpoint right?",
	}
}

// codeOf returns the error code, "" where there is none. The SDK gives bodies that it
// cannot read the code "UnknownError".
func codeOf(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() == "UnknownError" {
		return ""
	}
	return api.ErrorCode()
}

// innermost finds the last operation in err's chain: that of STS or of the metadata
// service where logging in failed.
func innermost(err error, op **smithy.OperationError) bool {
	found := false
	for errors.As(err, op) {
		found = true
		next := (*op).Err
		var deeper *smithy.OperationError
		if !errors.As(next, &deeper) {
			break
		}
		err = next
	}
	return found
}

// loadError is why AWS's configuration cannot be read.
func loadError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return classify(ctx, err, nil).err
	}
	e := &conn.Error{
		Kind:   conn.Denied,
		Reason: "AWS's configuration cannot be read: its files, or variables AWS_*, are wrong",
		Err:    err,
	}
	var profile config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &profile):
		e.Reason = "the profile is not in AWS's configuration files"
		e.Hint = "HOME, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE say where they are, " +
			"and the user that connfs's children run as must be able to read them"
	case errors.Is(err, os.ErrPermission):
		e.Reason = "a file of AWS's configuration cannot be read by the user that connfs's " +
			"children run as"
	case errors.Is(err, os.ErrNotExist):
		e.Reason = "a file that AWS's configuration names is not there"
	}
	return e
}
