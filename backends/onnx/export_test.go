package onnx

// Examine is examine for tests: the files that a model names.
func Examine(data []byte) (files []string, err error) {
	f, err := examine(data)
	if err == nil {
		files = f.files()
	}
	return files, err
}

// What tests look at.
var (
	CheckVersion = checkVersion
	Shorten      = shorten
	OutOfMemory  = outOfMemory
)

// Kept is how many libraries stay for as long as the process, because a session was abandoned.
func Kept() int { return int(keptLibraries.Load()) }

// Search looks for the library among these names and folders alone.
func Search(names, folders []string) error {
	l, err := search(names, folders)
	if err != nil {
		return err
	}
	return l.close()
}

// ParsePlace is parsePlace for tests.
func ParsePlace(text string) (place string, auto bool, err error) {
	p, auto, err := parsePlace(text)
	return p.String(), auto, err
}
