package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/picket-ml/picket/packaging"
)

// document is one of ours.
type document interface {
	Group | Progress | Devices
}

// parse reads a document strictly: no key that is not known, none twice, nothing after
// the end.
func parse[T document](data []byte) (*T, error) {
	if len(data) > maxDocumentBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), maxDocumentBytes)
	}
	if err := packaging.CheckJSON(data, documentDepth); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	out := new(T)
	if err := d.Decode(out); err != nil {
		return nil, err
	}
	return out, checkDocument(out)
}

// encode writes a document that check has nothing against.
func encode[T document](doc *T) ([]byte, error) {
	if err := checkDocument(doc); err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

func checkDocument(doc any) error {
	switch d := doc.(type) {
	case *Group:
		return d.check()
	case *Progress:
		return d.check()
	case *Devices:
		return d.check()
	}
	return errors.New("it is no document of a fleet")
}

// checkMetadata refuses metadata of TUF that the library should not see: nested too
// deep, ambiguous, or with a null, which it would follow.
func checkMetadata(data []byte) error {
	if err := packaging.CheckJSON(data, metadataDepth); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if token == nil {
			return errors.New("a value is null")
		}
	}
}

const metadataDepth = 16
