package resolve

import (
	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
)

// classifyNetwork is the table of what can go wrong on the way to a server.
func classifyNetwork(err error) *conn.Error { return network.Classify(err) }
