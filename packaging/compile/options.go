package compile

import "github.com/picket-ml/picket/internal/ensemble"

// Options say what to compile, for which machine and where to.
type Options struct {
	Source string // the model file, in any format that internal/ensemble reads
	Out    string // the artifact folder to make; its parent must exist
	// Force replaces an artifact that is already there. A folder that holds anything else is never replaced.
	Force bool

	Target string // one of Targets; "" is the baseline of this machine's architecture
	Engine Engine // the zero Engine is Branches
	CC     string // the compiler and its first arguments; "" takes $CC or cc, or the cross compiler of the target
	Jobs   int    // compilers that run at once; 0 means as many as this process may use cores

	Limits ensemble.Limits

	// Progress is called after each step, by one goroutine at a time: done of total, and what is happening.
	Progress func(done, total int, what string)
}

// Result describes the artifact that was made.
type Result struct {
	Dir      string // Options.Out
	Library  string // "XGBoost", "LightGBM"
	Engine   string // its name
	Target   string
	Compiler string // what the compiler says about itself
	SHA256   string // of the source model, in hexadecimal

	Features, Outputs, Trees, Nodes int
	Bytes                           int64 // size of compiled.so
}
