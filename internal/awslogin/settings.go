// Package awslogin is how connfs speaks to AWS, for every service the same: it makes
// a client's configuration out of the arguments that Airflow's AWS backends take,
// keeps the credentials of a role for as long as they are good, hands them to the
// next process, repeats what may be repeated, and tells in connfs's own kinds what
// went wrong.
package awslogin

import "time"

// Settings say who logs in and where. What is empty AWS's own chain decides: the
// environment, the shared configuration files, a web identity, the metadata of a
// container or machine.
type Settings struct {
	Region          string // empty: AWS_DEFAULT_REGION, AWS_REGION, the profile's
	Profile         string // of the shared configuration files
	CredentialsFile string // in place of ~/.aws/credentials

	AccessKeyID, SecretAccessKey, SessionToken string

	// Role is assumed with the credentials that the above gives; its ARN empty: none.
	Role Role

	Endpoint    string // URL of the service; it is not STS's
	STSEndpoint string // URL of STS

	Insecure bool   // do not check the server's certificate
	CAFile   string // PEM file of authorities to trust instead of the system's

	ConnectTimeout time.Duration // 0: the read's deadline alone
	ReadTimeout    time.Duration // until the answer begins; 0: the read's deadline alone
	Attempts       int           // 0: 3; throttled calls are repeated until the deadline
	Proxies        map[string]string
	MaxConnections int  // idle ones that are kept; 0: 10
	DualStack      bool // endpoints that IPv6 reaches too
	FIPS           bool
}

// Role is a role to assume.
type Role struct {
	ARN         string
	SessionName string        // empty: "connfs"
	ExternalID  string        // what the role's trust policy may ask for
	Duration    time.Duration // 0: an hour
	Policy      string        // JSON that narrows the session; empty: none
	PolicyARNs  []string

	SourceIdentity string
	Tags           map[string]string
	TransitiveTags []string

	// WebIdentityTokenFile assumes the role with the token in that file and no other
	// credentials.
	WebIdentityTokenFile string
}
