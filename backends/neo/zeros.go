package neo

import (
	"log/slog"

	"github.com/picket-ml/picket/engine"
)

// ZerosNotes tells operators that exact zeros are missing values to a tree model
// because its metadata says so; it is empty where they are values.
func (m Metadata) ZerosNotes() []engine.Note {
	if !m.SparseInput {
		return nil
	}
	return []engine.Note{{Level: slog.LevelInfo, Text: "exact zeros are taken as missing, as compiled.meta says"}}
}
