package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/picket-ml/picket/internal/config"
)

// firstConfig is the configuration of a service that is installed where there is none.
//
//go:embed picketd_windows.yaml
var firstConfig []byte

// systemCommands are the commands that this system alone has: those that make the daemon a service.
func systemCommands(stdout io.Writer) []*cobra.Command {
	service := &cobra.Command{
		Use:   "service",
		Short: "Have Windows run the daemon as a service",
	}
	var i installation
	install := &cobra.Command{
		Use:   "install",
		Short: "Install this program as a service that starts with Windows",
		Long: `Install this program as a service that starts with Windows, as an administrator.
Its folder is ` + config.Home() + `: the configuration picketd.yaml, which is written
if there is none, the folder state of what it keeps, and run with its sockets. The
folder is made, or changed, so that only administrators and the service have access.
The service runs as an account of its own, NT SERVICE\picketd, is started again when
it fails, and logs to the Windows event log, source picketd.`,
		Example: `  picketd service install
  sc start picketd`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := i.install(); err != nil {
				return fmt.Errorf("installing the service: %w", err)
			}
			_, err := fmt.Fprintf(stdout, "installed service %s, which reads %s; start it with: sc start %s\n", serviceName, i.config(), serviceName)
			return err
		},
	}
	install.Flags().StringVar(&i.home, "home", config.Home(), "the service's `FOLDER`")
	install.Flags().StringVar(&i.account, "account", `NT SERVICE\`+serviceName, "the `ACCOUNT` that it runs as, one without a password")
	uninstall := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the service and remove it; its folder stays",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := uninstallService(); err != nil {
				return fmt.Errorf("removing the service: %w", err)
			}
			_, err := fmt.Fprintf(stdout, "removed service %s\n", serviceName)
			return err
		},
	}
	service.AddCommand(install, uninstall)
	return []*cobra.Command{service}
}

// installation is what an installed service is made of.
type installation struct{ home, account string }

func (i *installation) config() string { return filepath.Join(i.home, "picketd.yaml") }
func (i *installation) state() string  { return filepath.Join(i.home, "state") }
func (i *installation) run() string    { return filepath.Join(i.home, "run") }

func (i *installation) install() (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if i.home, err = filepath.Abs(i.home); err != nil {
		return err
	}
	manager, err := mgr.Connect()
	if err != nil {
		return asAdministrator("connecting to the service manager", err)
	}
	defer func() { err = errors.Join(err, manager.Disconnect()) }()
	if s, err := manager.OpenService(serviceName); err == nil {
		_ = s.Close() // it was only looked for
		return fmt.Errorf("there is a service %s already: remove it with picketd service uninstall", serviceName)
	}
	for _, path := range []string{i.home, i.config(), i.state(), i.run()} {
		if err := checkOwner(path); err != nil {
			return err
		}
	}
	for _, dir := range []string{i.home, i.state(), i.run()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := writeNew(i.config(), firstConfig); err != nil {
		return err
	}
	flags := config.Flags{Config: i.config(), StateDir: i.state()}
	c, err := config.Resolve(flags, func(string) string { return "" })
	if err == nil {
		err = adapt(c)
	}
	if err != nil {
		return usageError{err}
	}
	s, err := manager.CreateService(serviceName, self, mgr.Config{
		StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal, ServiceStartName: i.account,
		DisplayName: "Picket inference daemon", Description: "Loads compiled models and answers predictions on this machine.",
	}, "--config", i.config(), "--state", i.state())
	if err != nil {
		return asAdministrator("making it", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Delete())
		}
		err = errors.Join(err, s.Close())
	}()
	const dayInSeconds = 24 * 60 * 60
	again := []mgr.RecoveryAction{{Type: mgr.ServiceRestart, Delay: 5 * time.Second}, {Type: mgr.ServiceRestart, Delay: time.Minute}}
	for _, err := range []error{s.SetRecoveryActions(again, dayInSeconds), s.SetRecoveryActionsOnNonCrashFailures(true)} {
		if err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) { // as Wine's service manager says, which does not know of it
			return fmt.Errorf("having it started again when it fails: %w", err)
		}
	}
	if err := i.protect(); err != nil {
		return fmt.Errorf("keeping others out of %s: %w", i.home, err)
	}
	if err := eventlog.InstallAsEventCreate(serviceName, eventlog.Error|eventlog.Warning|eventlog.Info); err != nil {
		return fmt.Errorf("registering it as a source of events: %w", err)
	}
	return nil
}

// asAdministrator says what a refusal means.
func asAdministrator(doing string, err error) error {
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%s: %w: run it as an administrator", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// checkOwner refuses what somebody else has put there: its owner could always write to it.
func checkOwner(path string) error {
	d, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding out whose %s is: %w", path, err)
	}
	owner, _, err := d.Owner()
	if err != nil {
		return fmt.Errorf("finding out whose %s is: %w", path, err)
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("finding out who runs this: %w", err)
	}
	if owner.Equals(me.User.Sid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return nil
	}
	return fmt.Errorf("%s belongs to %s, neither to administrators nor to you: look what is in it, and remove it or take it over with takeown /a /r /f", path, owner)
}

// protect has administrators and the system do anything in the folder, the service read there and write where it has to, and
// others see where the sockets are.
func (i *installation) protect() error {
	account, _, _, err := windows.LookupSID("", i.account)
	if err != nil {
		return fmt.Errorf("looking up the account %s: %w", i.account, err)
	}
	// All are inherited by what is in the folders; P keeps out what is inherited from above.
	const (
		operators = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
		read      = "(A;OICI;0x1200a9;;;%s)"
		write     = "(A;OICI;0x1301bf;;;%s)"
	)
	for _, one := range []struct{ dir, list string }{
		{i.home, operators + fmt.Sprintf(read, account)},
		{i.run(), operators + fmt.Sprintf(write, account) + fmt.Sprintf(read, "BU")},
		{i.state(), operators + fmt.Sprintf(write, account)},
	} {
		d, err := windows.SecurityDescriptorFromString(one.list)
		if err != nil {
			return err
		}
		list, _, err := d.DACL()
		if err != nil {
			return err
		}
		const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
		if err := windows.SetNamedSecurityInfo(one.dir, windows.SE_FILE_OBJECT, what, nil, nil, list, nil); err != nil {
			return err
		}
	}
	return nil
}

// writeNew writes a file that is not there yet, and leaves one that is.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// stopTime is how long a service is waited for that was told to stop: longer than shutdown.grace is by default.
const stopTime = 30 * time.Second

func uninstallService() (err error) {
	manager, err := mgr.Connect()
	if err != nil {
		return asAdministrator("connecting to the service manager", err)
	}
	defer func() { err = errors.Join(err, manager.Disconnect()) }()
	s, err := manager.OpenService(serviceName)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return fmt.Errorf("there is no service %s", serviceName)
	}
	if err != nil {
		return asAdministrator("opening it", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	status, err := s.Query()
	if err != nil {
		return err
	}
	for end := time.Now().Add(stopTime); status.State != svc.Stopped; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("it has not stopped within %v: look at its events, and try again", stopTime)
		}
		if status.State == svc.Running {
			_, err = s.Control(svc.Stop)
		}
		if errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) { // it has ended by itself meanwhile
			err = nil
		}
		if err == nil {
			status, err = s.Query()
		}
		if err != nil {
			return fmt.Errorf("stopping it: %w", err)
		}
	}
	if err := s.Delete(); err != nil {
		return err
	}
	return eventlog.Remove(serviceName)
}
