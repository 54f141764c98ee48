package dlr

import (
	"os"
	"strconv"
	"sync"
)

// threadVariables are the variables from which libdlr takes what it does with threads: how many it uses for trees, read
// when a model is made, and for graphs, read when a thread first runs one; and whether TVM binds that thread, which is
// not its own, to the first processor. It would share it with every other instance's, and with the threads that Go
// makes from there.
func threadVariables(threads int) [][2]string {
	return [][2]string{{"OMP_NUM_THREADS", strconv.Itoa(threads)}, {"TVM_NUM_THREADS", strconv.Itoa(threads)}, {"TVM_BIND_THREADS", "0"}}
}

// threadsOnce guards the environment, which is the process's too: changing it
// while C code reads it would be a race.
var threadsOnce sync.Once

// limitThreads tells libdlr what to do with threads, before one is loaded, where
// the environment does not. Only the first call of the process has an effect.
func limitThreads(n int) (err error) {
	threadsOnce.Do(func() {
		for _, v := range threadVariables(n) {
			if _, set := os.LookupEnv(v[0]); !set && err == nil {
				err = os.Setenv(v[0], v[1])
			}
		}
	})
	return err
}
