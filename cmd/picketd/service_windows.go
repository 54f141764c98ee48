package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// serviceName is what the service is called unless another name was given to `picketd service install`, and the source of its
// events.
const serviceName = "picketd"

// start runs the program and returns its exit code: as a service where the service manager has started it, else as a program of the
// console, which Ctrl-C stops. The manager is asked, by registering with it: [svc.IsWindowsService] looks who has started the process, and
// says no of every service under Wine.
func start(args []string) int {
	s := &service{args: args, code: exitFailed}
	if err := svc.Run(serviceName, s); errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return execute(args, os.Stdout, os.Stderr, starter{})
	} else if err != nil {
		return exitFailed
	}
	return s.code
}

// service is the daemon as the service manager knows it.
type service struct {
	args []string
	code int
}

// startHint is within which time the service manager hears from a service that is starting: models are loaded meanwhile.
const startHint = 10 * time.Second

// Execute implements svc.Handler: it runs the daemon, and returns when it has ended.
func (s *service) Execute(_ []string, asked <-chan svc.ChangeRequest, tell chan<- svc.Status) (specific bool, code uint32) {
	events, err := openEvents()
	if err != nil {
		return true, exitFailed // there is nobody to tell
	}
	defer events.log.Close()
	stop, ready, ended := make(chan os.Signal, 1), make(chan struct{}), make(chan int, 1)
	status := svc.Status{State: svc.StartPending, WaitHint: uint32(startHint.Milliseconds())}
	tell <- status
	go func() {
		ended <- execute(s.args, io.Discard, events, starter{stop: stop, ready: func() { close(ready) }})
	}()
	alive := time.NewTicker(startHint / 2)
	defer alive.Stop()
	for {
		select {
		case <-ready:
			ready = nil
			status = svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
		case <-alive.C:
			if status.State == svc.Running {
				continue
			}
			status.CheckPoint++
		case change := <-asked:
			switch change.Cmd {
			case svc.Interrogate:
			case svc.Stop, svc.Shutdown:
				status = svc.Status{State: svc.StopPending, WaitHint: uint32(startHint.Milliseconds())}
				select {
				case stop <- syscall.SIGTERM:
				default: // it is told already
				}
			}
		case s.code = <-ended:
			return s.code != exitDone, uint32(s.code)
		}
		tell <- status
	}
}

// events writes the lines of the log into the system's log of events.
type events struct{ log *eventlog.Log }

func openEvents() (events, error) {
	log, err := eventlog.Open(serviceName)
	if err != nil {
		return events{}, fmt.Errorf("opening the log of events: %w", err)
	}
	return events{log}, nil
}

// eventID is that of all events: each says in words what it is.
const eventID = 1

// Write implements io.Writer for one line, or several of one kind. What has no level is what the program says before it ends.
func (e events) Write(b []byte) (int, error) {
	text := strings.TrimRight(string(b), "\r\n")
	report := e.log.Error
	for _, level := range []struct {
		text, json string
		report     func(uint32, string) error
	}{
		{"level=DEBUG", `"level":"DEBUG"`, e.log.Info},
		{"level=INFO", `"level":"INFO"`, e.log.Info},
		{"level=WARN", `"level":"WARN"`, e.log.Warning},
	} {
		if strings.Contains(text, level.text) || strings.Contains(text, level.json) {
			report = level.report
			break
		}
	}
	if err := report(eventID, text); err != nil {
		return 0, fmt.Errorf("writing to the log of events: %w", err)
	}
	return len(b), nil
}
