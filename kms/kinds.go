package kms

import (
	"context"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/awslogin"
)

// kind is one type of KMS.
type kind struct {
	// check says what is wrong with settings of this type, without a look at anything
	// outside of them.
	check func(*target) error
	// open makes the client. It calls nothing over a network.
	open func(context.Context, *target) (Client, error)
	// connType is the conn_type of Airflow connections that describe a KMS of this type,
	// and read takes the settings from one; empty and nil: there are none.
	connType string
	read     func(*conn.Connection) (*target, error)
}

// kinds are the types of KMS, by kms_type.
var kinds = map[string]kind{
	"aws":   {check: checkAWS, open: openAWS, connType: "aws", read: readAWS},
	"gcp":   {check: checkGCP, open: openGCP, connType: "google_cloud_platform", read: readGCP},
	"local": {check: checkLocal, open: openLocal},
}

// target is everything that is known of one KMS.
type target struct {
	Settings
	connection bool               // it is an Airflow connection, which others may have written
	aws        *awslogin.Settings // of such a connection; nil: Settings say it all
}
