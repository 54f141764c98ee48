package hw

import "runtime"

// OnOwnThread calls do on an OS thread that nothing else runs on and that ends with do, and with the thread whatever do, or a
// native library below it, has left there: CPUs it was bound to, a short slice, thread-local storage. It is the last that the
// calling goroutine does: most often that is locked to its thread and ends with it.
func OnOwnThread(do func()) {
	runtime.LockOSThread()
	if onFirstThread() {
		// It cannot end, and what asks about a process, as taskset and processAffinity do, asks about this thread. So it waits,
		// and as long as it does no goroutine is put on it.
		elsewhere(do)
		runtime.UnlockOSThread()
		return
	}
	do()
}

// elsewhere is called by a goroutine that is locked to its thread, and calls do on one that ends.
func elsewhere(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		OnOwnThread(do)
	}()
	<-done
}
