package dlr

import (
	"errors"
	"fmt"
	"os"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
)

// folder is an artifact's folder under a path that goes on naming that very
// folder when it is moved, and that has no colon, at which libdlr would split it.
// It owns the descriptor.
type folder struct {
	dir *os.File
	// path is valid until close.
	path string
}

// openFolder opens the folder of the artifact and makes sure that libdlr, which
// looks at every name in it, will see the model that layout describes: links
// that lead out of the folder, and things that are no files, are not in the
// artifact's list.
func openFolder(a *engine.Artifact, layout neo.Layout) (*folder, error) {
	dir, err := a.Root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("%w: opening the folder: %w", engine.ErrArtifact, err)
	}
	names, err := dir.Readdirnames(-1)
	if err == nil {
		var all []engine.ArtifactFile
		for _, n := range names {
			all = append(all, engine.ArtifactFile{Name: n})
		}
		var seen neo.Layout
		if seen, err = neo.ReadLayout(all); err == nil && seen != layout {
			err = fmt.Errorf("%w: the folder holds files of a model that are links out of it, or no regular files", engine.ErrArtifact)
		}
	} else {
		err = fmt.Errorf("%w: listing the folder: %w", engine.ErrArtifact, err)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &folder{dir: dir, path: uniquePath(dir)}, nil
}

func (f *folder) close() error { return f.dir.Close() }
