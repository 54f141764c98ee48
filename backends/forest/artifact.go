package forest

// EngineName is what artifacts that carry the kernels of this package are compiled with.
const EngineName = "simd"

// CompilerFlags are what the C compiler is to be given for the files of [Sources]: as this package itself is compiled, and
// so that what nobody calls can be left out.
func CompilerFlags() []string {
	return []string{"-O3", "-std=gnu11", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"}
}
