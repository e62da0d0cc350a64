// Package monitoring stands for Google's metrics, to which this server sends none.
package monitoring

import (
	"context"
	"errors"
)

// MetricClient is never made.
type MetricClient struct{}

// NewMetricClient fails.
func NewMetricClient(context.Context, ...any) (*MetricClient, error) {
	return nil, errors.New("this server sends no metrics")
}
