package cdlr

// Tensorflow2Config configures a model made by [Library.CreateModelFromTensorflow2]. Zero threads let TensorFlow choose.
type Tensorflow2Config struct {
	IntraOpThreads, InterOpThreads int
	// GPUAllowGrowth makes TensorFlow take GPU memory as it needs it.
	GPUAllowGrowth bool
	// GPUMemoryFraction is the part of the GPU's memory, 0 to 1, that it may take.
	GPUMemoryFraction float64
}
