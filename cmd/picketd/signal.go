package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameWish is how long after the first signal others are taken for the same
// wish to stop: timeout and service managers signal a process and then its
// whole group, so that it gets two at once.
const sameWish = 500 * time.Millisecond

// stopWishes sends the first of the signals that ask the daemon to stop, and one
// that comes later than sameWish after it, which asks it not to wait. The caller
// calls done when it listens no more. A wish of the starter counts as a signal.
func stopWishes(by starter) (wishes <-chan os.Signal, done func()) {
	signals := make(chan os.Signal, 8)
	notifyUnlessIgnored(signals, syscall.SIGTERM, syscall.SIGINT)
	distinct := make(chan os.Signal, 2)
	go forwardWishes(signals, by.stop, distinct)
	return distinct, func() {
		signal.Stop(signals) // after which nothing is sent
		close(signals)
	}
}

// reloadSignal asks for a reload; restartSignal, for a restart, is the system's.
const reloadSignal = syscall.SIGHUP

// otherWishes sends the signals that ask for a reload or a restart; one of each kind
// that nobody has taken yet stands for all that came meanwhile. The caller calls done
// when it listens no more.
func otherWishes() (reload, restart <-chan os.Signal, done func()) {
	a, b := make(chan os.Signal, 1), make(chan os.Signal, 1)
	notifyUnlessIgnored(a, reloadSignal)
	notifyUnlessIgnored(b, restartSignal)
	return a, b, func() {
		signal.Stop(a)
		signal.Stop(b)
	}
}

// notifyUnlessIgnored leaves signals alone that were ignored when the process began:
// nohup, and a shell that starts it in the background, mean it.
func notifyUnlessIgnored(to chan<- os.Signal, signals ...os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			signal.Notify(to, sig)
		}
	}
}

// starter is who has started the daemon, stops it otherwise than by signals, and wants to know when it serves: the service
// manager of Windows. The zero value is for all others; systemd is told by notify.
type starter struct {
	stop  <-chan os.Signal
	ready func()
}

// forwardWishes forwards at most two of the signals that come by either way, until
// signals is closed. It never waits for to, which must have room for two.
func forwardWishes(signals, also <-chan os.Signal, to chan<- os.Signal) {
	var first time.Time
	for forwarded := 0; ; {
		var sig os.Signal
		open := true
		select {
		case sig, open = <-signals:
		case sig = <-also:
		}
		switch {
		case !open:
			return
		case forwarded == 0:
			first = time.Now()
		case forwarded == 2 || time.Since(first) < sameWish:
			continue
		}
		forwarded++
		to <- sig
	}
}
