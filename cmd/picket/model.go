package main

import (
	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// model is a loaded model as commands print it.
type model struct {
	Name    string `json:"name"`
	URL     string `json:"url"` // where it was loaded from
	Inputs  []spec `json:"inputs"`
	Outputs []spec `json:"outputs"`
}

func modelOf(m *agentapi.Model) model {
	return model{Name: m.GetName(), URL: m.GetUrl(), Inputs: specsOf(m.GetInputTensorMetadatas()), Outputs: specsOf(m.GetOutputTensorMetadatas())}
}
