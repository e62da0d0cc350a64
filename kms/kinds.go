package kms

// kinds are all kinds of KMS, one line each.
var kinds = []*Kind{
	awsKind,
	gcpKind,
	localKind,
}
