package main

import (
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/store"
)

// openTrust reads whom the configuration trusts; nil for nobody.
func openTrust(c config.Trust) (*store.Trust, error) {
	if !c.Configured() {
		return nil, nil
	}
	return store.NewTrust(store.TrustOptions{
		Keys: c.Keys, Roots: c.Roots, Names: c.Names, RevokedFile: c.Revoked, OldPackages: c.Packages, Rollback: c.Rollback, Expired: c.Expired,
	})
}

// sayWhoIsTrusted warns of what an operator may not have meant.
func (d *daemon) sayWhoIsTrusted() {
	c := d.config.Load()
	switch {
	case c.Unsigned:
		d.log.Warn("packages without a signature are accepted: whoever may load models runs code as the daemon's user")
	case !c.Trust.Configured():
		d.log.Warn("every package will be refused: the configuration trusts nobody's signature; name keys or roots under trust, or start with --unsigned to accept packages without a signature")
	default:
		d.log.Info("packages must be signed", "keys", len(c.Trust.Keys), "roots", len(c.Trust.Roots), "old_packages", len(c.Trust.Packages))
	}
}

func (d *daemon) closeStore() {
	if d.store == nil {
		return
	}
	if err := d.store.Close(); err != nil {
		d.log.Warn("closing the store of packages", "error", err)
	}
}
