package ensemble

// Limits bound what a reader accepts. The zero value of a field means its default.
type Limits struct {
	Bytes    int64 // size of the file; default 1 GiB
	Features int   // columns of a row; default 1 << 20
	Groups   int   // margins per row; default 4,096
	Trees    int   // default 1 << 20
	Depth    int   // splits between root and leaf; default 512
	Nesting  int   // objects and arrays inside each other; default 32
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 1 << 30
	}
	if l.Features == 0 {
		l.Features = 1 << 20
	}
	if l.Groups == 0 {
		l.Groups = 4096
	}
	if l.Trees == 0 {
		l.Trees = 1 << 20
	}
	if l.Depth == 0 {
		l.Depth = 512
	}
	if l.Nesting == 0 {
		l.Nesting = 32
	}
	return l
}
