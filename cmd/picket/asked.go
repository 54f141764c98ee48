package main

import (
	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/tensor"
)

// asked is a model that the daemon serves, as one of the protocols reaches it.
type asked interface {
	// inputs are what the model takes.
	inputs() []shaped
	// predict asks for so many rows. data has the bytes of each input; it is the caller's again afterwards.
	predict(c *cobra.Command, rows int, data [][]byte) ([]answer, error)
	// close ends the connection that was made to ask, if one was.
	close()
}

// wayOf is how to reach a model by the protocol of that name: it describes the model of the daemon that d is for, and its caller
// closes it. nil for a protocol that is not known.
func wayOf(protocol string) func(c *cobra.Command, d *daemon, doing, model string) (asked, error) {
	switch protocol {
	case "agent":
		return askAgent
	case "oip":
		return askOIP
	case "lane":
		return askLane
	}
	return nil
}

// shaped is a tensor of a model; shape[0] is -1 where it is the number of rows.
type shaped struct {
	name  string
	dtype tensor.DType
	shape []int64
}

// answer is an output tensor of a prediction.
type answer struct {
	name  string
	dtype tensor.DType
	data  []byte
}

// agentModel is a model over agent.sock.
type agentModel struct {
	daemon *daemon
	doing  string
	model  *agentapi.Model
}

// askAgent describes the model of that name.
func askAgent(c *cobra.Command, d *daemon, doing, name string) (asked, error) {
	described, err := call(c, d, doing, d.agent.DescribeModel, &agentapi.DescribeModelRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return &agentModel{d, doing, described.GetModel()}, nil
}

func (*agentModel) close() {} // the daemon's connection is its opener's

func (m *agentModel) inputs() []shaped {
	var all []shaped
	for _, metadata := range m.model.GetInputTensorMetadatas() {
		s := shaped{name: string(metadata.GetName()), dtype: dtypeOf(metadata.GetDataType())}
		for _, dim := range metadata.GetShape() {
			s.shape = append(s.shape, int64(dim))
		}
		all = append(all, s)
	}
	return all
}

func (m *agentModel) predict(c *cobra.Command, rows int, data [][]byte) ([]answer, error) {
	in := &agentapi.PredictRequest{Name: m.model.GetName()}
	for i, metadata := range m.model.GetInputTensorMetadatas() {
		shape := append([]int32{}, metadata.GetShape()...)
		if len(shape) > 0 && shape[0] == -1 {
			shape[0] = int32(rows)
		}
		in.Tensors = append(in.Tensors, &agentapi.Tensor{
			TensorMetadata: &agentapi.TensorMetadata{Name: metadata.GetName(), DataType: metadata.GetDataType(), Shape: shape},
			Data:           &agentapi.Tensor_ByteData{ByteData: data[i]},
		})
	}
	out, err := call(c, m.daemon, m.doing, m.daemon.agent.Predict, in)
	if err != nil {
		return nil, err
	}
	var answers []answer
	for _, t := range out.GetTensors() {
		metadata := t.GetTensorMetadata()
		answers = append(answers, answer{string(metadata.GetName()), dtypeOf(metadata.GetDataType()), t.GetByteData()})
	}
	return answers, nil
}
