//go:build unix

package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// asOwner fails where the folder dir, or the one in which it would be made, belongs to another user: what is made there
// in the daemon's place, as by root, the daemon could not write to afterwards.
func asOwner(dir, doing string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			if filepath.Dir(at) == at {
				return nil
			}
			continue
		}
		owner, known := info.Sys().(*syscall.Stat_t)
		if !known || int(owner.Uid) == os.Geteuid() {
			return nil
		}
		name := strconv.Itoa(int(owner.Uid))
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return fmt.Errorf("%s: %s belongs to the user %s, which could not use what another makes there: run this as that user, runuser -u %s -- picket …", doing, at, name, name)
	}
}
