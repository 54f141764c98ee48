package cuda

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrAbsent is wrapped where there is no driver to use, ErrOld where there is one that is too old.
var (
	ErrAbsent = errors.New("the CUDA driver cannot be used")
	ErrOld    = errors.New("the NVIDIA driver is too old")
)

// ErrMemory is answered, through errors.Is, by an Error that says that memory has run out, of the device or pinned; nothing else has happened.
// ErrLost by one after which nothing that belongs to the device works any more in this process: the device is gone, or what ran on it has
// broken the context.
var (
	ErrMemory = errors.New("out of memory")
	ErrLost   = errors.New("the device is lost")
)

// An Error is what a function of the driver answered.
type Error struct {
	Doing string // what was being done, in words
	Code  int
	Name  string // "CUDA_ERROR_OUT_OF_MEMORY"
	Text  string // the driver's own words
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: the CUDA driver answers %s (%s)", e.Doing, e.Text, e.Name)
}

// Numbers of errors. Those are lost after which, as the driver's documentation has it, the process has to be ended before CUDA works again, and
// those that say that the device is not there.
const (
	codeMemory = 2
	codeNoPTX  = 222
	codePTX    = 218
	codeImage  = 209
)

var lostCodes = []int{
	4,   // CUDA_ERROR_DEINITIALIZED
	46,  // CUDA_ERROR_DEVICE_UNAVAILABLE
	100, // CUDA_ERROR_NO_DEVICE
	101, // CUDA_ERROR_INVALID_DEVICE
	201, // CUDA_ERROR_INVALID_CONTEXT
	214, // CUDA_ERROR_ECC_UNCORRECTABLE
	220, // CUDA_ERROR_NVLINK_UNCORRECTABLE
	700, // CUDA_ERROR_ILLEGAL_ADDRESS
	702, // CUDA_ERROR_LAUNCH_TIMEOUT
	709, // CUDA_ERROR_CONTEXT_IS_DESTROYED
	710, // CUDA_ERROR_ASSERT
	714, // CUDA_ERROR_HARDWARE_STACK_ERROR
	715, // CUDA_ERROR_ILLEGAL_INSTRUCTION
	716, // CUDA_ERROR_MISALIGNED_ADDRESS
	717, // CUDA_ERROR_INVALID_ADDRESS_SPACE
	718, // CUDA_ERROR_INVALID_PC
	719, // CUDA_ERROR_LAUNCH_FAILED
	721, // CUDA_ERROR_CONTAINED
	999, // CUDA_ERROR_UNKNOWN
}

// Is makes it ErrMemory, ErrLost or neither.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrMemory:
		return e.Code == codeMemory
	case ErrLost:
		return slices.Contains(lostCodes, e.Code)
	case ErrOld:
		return e.Code == codeNoPTX
	}
	return false
}

// explainLoad says what to do about kernels that the driver does not compile.
func explainLoad(err error, log string, version int) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	cuda := fmt.Sprintf("CUDA %d.%d", version/1000, version%1000/10)
	switch e.Code {
	case codeNoPTX:
		return fmt.Errorf("%w; this driver, of %s, does not know PTX version 6.0 of the kernels: install a newer one", err, cuda)
	case codeImage:
		return fmt.Errorf("%w; the kernels need a GPU of compute capability 7.0 (Volta, Turing) or later", err)
	case codePTX:
		return fmt.Errorf("%w; this driver, of %s, says: %s", err, cuda, strings.Join(strings.Fields(log), " "))
	}
	return err
}
