package ensemble

import (
	"bytes"
	"encoding/binary"
)

// isPickle recognises what Python's pickle module writes: protocol 2 and later by its opcode, earlier ones by the module
// that every pickled object names first.
func isPickle(head []byte) bool {
	return head[0] == 0x80 || bytes.HasPrefix(head, []byte("ccopy_reg\n")) || bytes.HasPrefix(head, []byte("ccopyreg\n")) ||
		bytes.HasPrefix(head, []byte("cxgboost")) || bytes.HasPrefix(head, []byte("csklearn"))
}

// pickleRefusal says what to do with a pickle. None is read: unpickling runs whatever code the file asks for.
func pickleRefusal(head []byte) string {
	head = head[:min(len(head), 256)] // the class comes first; what follows may be a large model
	switch {
	case bytes.Contains(head, []byte("xgboost")):
		return "this is a pickled XGBoost booster, and pickles are never loaded, because loading one runs its code; unpickle it " +
			"with the XGBoost version that made it and write the model with save_model(\"model.ubj\")"
	case bytes.Contains(head, []byte("sklearn")):
		return "this is a pickled scikit-learn model, and pickles are never loaded, because loading one runs its code; unpickle it " +
			"with the scikit-learn version that made it and convert the model to ONNX with skl2onnx"
	}
	return "this looks like a Python pickle, and pickles are never loaded, because loading one runs its code; save the booster itself with save_model"
}

// isTreelite recognises Treelite's checkpoints by their version and the two types behind it.
func isTreelite(head []byte) bool {
	if len(head) < 14 {
		return false
	}
	major, minor, patch := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	kind := func(b byte) bool { return b >= 1 && b <= 3 } // uint32, float32, float64
	return major >= 2 && major <= 5 && minor < 64 && patch < 64 && kind(head[12]) && kind(head[13])
}
