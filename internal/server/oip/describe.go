package oip

import (
	"math"
	"time"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// extensions are the protocol's and Triton's names for what is served beyond the
// base of the protocol.
var extensions = []string{
	"binary_tensor_data", "parameters", "statistics", "model_configuration", "model_repository", "system_shared_memory",
}

func (s *Server) serverMetadata() *oipapi.ServerMetadataResponse {
	return &oipapi.ServerMetadataResponse{Name: "picket", Version: s.version, Extensions: extensions}
}

func modelMetadata(m *engine.Snapshot) *oipapi.ModelMetadataResponse {
	return &oipapi.ModelMetadataResponse{
		Name: m.Name(), Versions: []string{versionOf(m.Version())}, Platform: m.Describe().Backend,
		Inputs: tensorMetadata(m.Signature().Inputs), Outputs: tensorMetadata(m.Signature().Outputs),
	}
}

func tensorMetadata(specs []engine.TensorSpec) []*oipapi.ModelMetadataResponse_TensorMetadata {
	out := make([]*oipapi.ModelMetadataResponse_TensorMetadata, len(specs))
	for i, spec := range specs {
		out[i] = &oipapi.ModelMetadataResponse_TensorMetadata{
			Name: failure.ValidText(spec.Name), Datatype: spec.DType.String(), Shape: spec.Dims,
		}
	}
	return out
}

// dataTypes are the names of element types in model configurations.
var dataTypes = [...]oipapi.DataType{
	tensor.Bool:   oipapi.DataType_TYPE_BOOL,
	tensor.Uint8:  oipapi.DataType_TYPE_UINT8,
	tensor.Uint16: oipapi.DataType_TYPE_UINT16,
	tensor.Uint32: oipapi.DataType_TYPE_UINT32,
	tensor.Uint64: oipapi.DataType_TYPE_UINT64,
	tensor.Int8:   oipapi.DataType_TYPE_INT8,
	tensor.Int16:  oipapi.DataType_TYPE_INT16,
	tensor.Int32:  oipapi.DataType_TYPE_INT32,
	tensor.Int64:  oipapi.DataType_TYPE_INT64,
	tensor.FP16:   oipapi.DataType_TYPE_FP16,
	tensor.FP32:   oipapi.DataType_TYPE_FP32,
	tensor.FP64:   oipapi.DataType_TYPE_FP64,
	tensor.BF16:   oipapi.DataType_TYPE_BF16,
	tensor.Bytes:  oipapi.DataType_TYPE_STRING,
}

// modelConfig is how a model is run, in the words of Triton.
func (s *Server) modelConfig(m *engine.Snapshot) *oipapi.ModelConfig {
	d := m.Describe()
	c := &oipapi.ModelConfig{
		Name: d.Name, Platform: d.Backend, Backend: d.Backend,
		MaxBatchSize: s.mostRows(&d.Signature),
		InstanceGroup: []*oipapi.ModelInstanceGroup{{
			Name: d.Name, Count: int32(d.Options.Instances), Kind: oipapi.ModelInstanceGroup_KIND_CPU,
		}},
		ModelTransactionPolicy: &oipapi.ModelTransactionPolicy{},
	}
	for _, spec := range d.Signature.Inputs {
		c.Input = append(c.Input, &oipapi.ModelInput{Name: failure.ValidText(spec.Name), DataType: dataTypes[spec.DType], Dims: configDims(spec, c.MaxBatchSize)})
	}
	for _, spec := range d.Signature.Outputs {
		c.Output = append(c.Output, &oipapi.ModelOutput{Name: failure.ValidText(spec.Name), DataType: dataTypes[spec.DType], Dims: configDims(spec, c.MaxBatchSize)})
	}
	if c.MaxBatchSize > 0 {
		c.SchedulingChoice = &oipapi.ModelConfig_DynamicBatching{DynamicBatching: &oipapi.ModelDynamicBatching{
			PreferredBatchSize:        []int32{int32(d.Options.MaxBatchRows)},
			MaxQueueDelayMicroseconds: uint64(d.Options.BatchDelay / time.Microsecond),
		}}
	}
	return c
}

// configDims leaves out the number of rows where max_batch_size stands for it.
func configDims(spec engine.TensorSpec, maxBatchSize int32) []int64 {
	if maxBatchSize > 0 {
		return spec.Dims[1:]
	}
	return spec.Dims
}

// mostRows is how many rows of the model fit a message, 0 for models whose tensors
// have no rows.
func (s *Server) mostRows(signature *engine.Signature) int32 {
	if !signature.Batchable() {
		return 0
	}
	most := int64(math.MaxInt32)
	for _, specs := range [][]engine.TensorSpec{signature.Inputs, signature.Outputs} {
		row := int64(0)
		for i := range specs {
			if bytes, err := specs[i].RowBytes(); err == nil {
				row += int64(bytes)
			}
		}
		if row > 0 {
			most = min(most, s.limits.MaxMessage/row)
		}
	}
	return int32(max(most, 1))
}
