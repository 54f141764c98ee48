package dlr

import (
	"os"
	"strconv"
	"sync"
)

// The variables from which libdlr takes its number of threads: for trees when a
// model is made, for graphs when a thread first runs one.
var threadVariables = []string{"OMP_NUM_THREADS", "TVM_NUM_THREADS"}

// threadsOnce guards the environment, which is the process's too: changing it
// while C code reads it would be a race.
var threadsOnce sync.Once

// limitThreads tells libdlr how many threads to use, before one is loaded, where
// the environment does not. Only the first call of the process has an effect.
func limitThreads(n int) (err error) {
	threadsOnce.Do(func() {
		for _, name := range threadVariables {
			if _, set := os.LookupEnv(name); !set && err == nil {
				err = os.Setenv(name, strconv.Itoa(n))
			}
		}
	})
	return err
}
