package main

import (
	"github.com/picket-ml/picket/bench/peers/servers"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
)

// startPeer starts a server of others with a model and gives the ways to ask it.
func startPeer(k *servers.Kind, dir, model string, ask protocols.Ask) (*process.Server, []*target, error) {
	s, err := k.Start(dir, model, ask.Model)
	if err != nil {
		return nil, nil, err
	}
	http, grpc := ask, ask
	http.Address, grpc.Address = s.HTTP, s.GRPC
	var targets []*target
	if k.GRPC {
		targets = append(targets, &target{s.Server, grpcOIP, grpc, each(protocols.Ask.OIP)})
	}
	if k.JSON {
		targets = append(targets, &target{s.Server, httpJSON, http, overHTTP(protocols.JSON)})
	}
	if k.Binary {
		targets = append(targets, &target{s.Server, httpBinary, http, overHTTP(protocols.Binary)})
	}
	return s.Server, targets, nil
}
