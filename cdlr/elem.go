package cdlr

// An ElemType says which part of a model an [Elem] is.
type ElemType int32

// The parts of a model, with the version since which libdlr takes each.
const (
	HexagonLib            ElemType = iota // library of a Hexagon model (1.6, special builds)
	NeoMetadata                           // compiled.meta (1.6)
	TVMGraph                              // graph JSON (1.6)
	TVMLib                                // compiled.so; must be a Path (1.6)
	TVMParams                             // compiled.params (1.6)
	RelayExec                             // code.ro (1.6)
	Tensorflow2SavedModel                 // folder of a saved model (1.8, special builds)
)

// An Elem is one part of a model, as a file or as bytes: exactly one of Path and Data is set.
type Elem struct {
	Type ElemType
	Path string
	// Data is copied, with a zero byte after it (libdlr takes graph and metadata for C strings), and the copy freed
	// before the creating call returns.
	Data []byte
}
