package packaging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// CheckJSON refuses a document that two readers could take for two different things, or that nests deeper than depth:
// objects in which a key is there twice, in whatever case, more than one value, text that is not UTF-8. The package
// encoding/json takes the last of two keys, and any case.
func CheckJSON(data []byte, depth int) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, depth); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return jsonError(err)
	}
	open, isDelim := token.(json.Delim)
	if !isDelim {
		if text, ok := token.(string); ok && strings.ContainsRune(text, '\ufffd') {
			return errors.New("a text is not UTF-8")
		}
		return nil
	}
	if depth == 0 {
		return errors.New("it nests too deep")
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return jsonError(err)
			}
			folded := strings.ToLower(strings.ToUpper(key.(string))) // as encoding/json folds; the decoder has checked that it is a string
			if seen[folded] {
				return fmt.Errorf("the key %q is there twice", key)
			}
			seen[folded] = true
		}
		if err := checkValue(d, depth-1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return jsonError(err)
	}
	return nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends in the middle")
	}
	return err
}
