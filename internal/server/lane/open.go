package lane

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/lanewire"
)

// open answers a name with a handle and a signature. A name that is open keeps
// its handle, and gets the signature of the model that has the name now.
func (c *conn) open(h *lanewire.Header, payload []byte) error {
	if len(payload) > lanewire.MaxName {
		c.refuse(h.ID, fmt.Errorf("%w: no model has a name of more than %d bytes", engine.ErrNotFound, lanewire.MaxName), 0)
		return nil
	}
	name := string(payload)
	snapshot, err := c.server.engine.Acquire(name)
	if err != nil {
		c.refuse(h.ID, err, 0)
		return nil
	}
	defer snapshot.Release()
	m := c.byName[name]
	if m == nil && len(c.models) == maxModels {
		c.refuse(h.ID, fmt.Errorf("%w: %d models are open on the connection, which is the limit: use another connection", engine.ErrBusy, maxModels), 0)
		return nil
	}
	fresh := model{name: name, handle: uint32(len(c.models) + 1)}
	if m != nil {
		fresh.handle, fresh.waiting = m.handle, m.waiting
	}
	if err := fresh.meet(snapshot); err != nil {
		c.refuse(h.ID, err, 0)
		return nil
	}
	signature, err := lanewire.AppendSignature(nil, wireSpecs(fresh.signature.Inputs), wireSpecs(fresh.signature.Outputs))
	if err != nil || len(signature) > int(c.server.maxPayload) {
		c.server.log.Error("a model cannot be opened over the lane", "model", name, "error", err)
		c.tell(h.ID, lanewire.Failure{Code: uint32(codes.Unimplemented), Sentence: "the model's tensors cannot be described on the lane; the reason is in the daemon's log"})
		return nil
	}
	if m == nil {
		m = &model{}
		c.models, c.byName[name] = append(c.models, m), m
	}
	*m = fresh
	answer := lanewire.Header{Kind: lanewire.KindModel, ID: h.ID, Handle: m.handle}
	return c.w.Append(context.Background(), &answer, signature)
}
