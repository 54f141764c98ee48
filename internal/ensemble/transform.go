package ensemble

// Transform turns the Groups margins of a row, sums as [Ensemble.Margin64] gives them, into predictions in place, with
// the arithmetic of [Ensemble.Predict]; the first Outputs values are the predictions, in the trainer's precision.
// rounds is what [Ensemble.Rounds] said of the whole model, for callers that have let go of the trees.
func (e *Ensemble) Transform(m []float64, rounds int) {
	if e.Average {
		for g := range m {
			m[g] /= float64(rounds)
		}
	}
	switch e.Library {
	case LightGBM:
		e.Objective.apply64(m)
	case ONNX:
		e.Objective.applyONNX(m)
	default:
		e.Objective.apply32(m)
	}
}
