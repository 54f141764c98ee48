package lanewire

import "errors"

var errNone = errors.New("there is no lane on this system: use the Open Inference Protocol")

func readSocket(uintptr, []byte) (int, error) { return 0, errNone }

func writeSocket(uintptr, []byte) (int, error) { return 0, errNone }
