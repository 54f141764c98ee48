package main

import (
	"fmt"

	"github.com/spf13/cobra"

	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/tensor"
)

// oipModel is a model over oip.sock.
type oipModel struct {
	daemon *daemon // a connection of its own, to that socket
	client oipapi.GRPCInferenceServiceClient
	doing  string
	model  *oipapi.ModelMetadataResponse
	// explain asks for what the features contribute, too.
	explain bool
}

// askOIP connects to the Open Inference Protocol of the daemon that d is for, and describes the model of that name.
func askOIP(c *cobra.Command, d *daemon, doing, name string) (asked, error) {
	own, err := dialPlace(d.place.Beside("oip.sock"), d.timeout)
	if err != nil {
		return nil, err
	}
	m := &oipModel{daemon: own, client: oipapi.NewGRPCInferenceServiceClient(own.conn), doing: doing}
	m.model, err = call(c, own, doing, m.client.ModelMetadata, &oipapi.ModelMetadataRequest{Name: name})
	if err != nil {
		_ = own.Close() // nothing was asked over it
		return nil, err
	}
	return m, nil
}

// typeOf is the type that the protocol names; Invalid for one that it does not have.
func typeOf(datatype string) tensor.DType {
	d, err := tensor.ParseDType(datatype)
	if err != nil {
		return tensor.Invalid
	}
	return d
}

func (m *oipModel) close() { _ = m.daemon.Close() } // what was asked was answered

func (m *oipModel) inputs() []shaped {
	var all []shaped
	for _, t := range m.model.GetInputs() {
		all = append(all, shaped{t.GetName(), typeOf(t.GetDatatype()), t.GetShape()})
	}
	return all
}

func (m *oipModel) predict(c *cobra.Command, rows int, data [][]byte) ([]answer, error) {
	in := &oipapi.ModelInferRequest{ModelName: m.model.GetName(), RawInputContents: data}
	for _, t := range m.model.GetInputs() {
		shape := append([]int64{}, t.GetShape()...)
		if len(shape) > 0 && shape[0] == -1 {
			shape[0] = int64(rows)
		}
		in.Inputs = append(in.Inputs, &oipapi.ModelInferRequest_InferInputTensor{Name: t.GetName(), Datatype: t.GetDatatype(), Shape: shape})
	}
	if m.explain {
		for _, t := range m.model.GetOutputs() {
			in.Outputs = append(in.Outputs, &oipapi.ModelInferRequest_InferRequestedOutputTensor{Name: t.GetName()})
		}
		in.Outputs = append(in.Outputs, &oipapi.ModelInferRequest_InferRequestedOutputTensor{Name: "contributions"})
	}
	out, err := call(c, m.daemon, m.doing, m.client.ModelInfer, in)
	if err != nil {
		return nil, err
	}
	if len(out.GetRawOutputContents()) != len(out.GetOutputs()) {
		return nil, fmt.Errorf("%s: the daemon answered %d tensors with the data of %d; look at its log", m.doing, len(out.GetOutputs()), len(out.GetRawOutputContents()))
	}
	var answers []answer
	for i, t := range out.GetOutputs() {
		answers = append(answers, answer{t.GetName(), typeOf(t.GetDatatype()), out.GetRawOutputContents()[i]})
	}
	return answers, nil
}
