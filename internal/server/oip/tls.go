package oip

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles are PEM files.
type TLSFiles struct {
	Certificate, Key string
	// ClientCA has the authorities that must have signed the clients' certificates;
	// empty for clients without any.
	ClientCA string
}

// certificates are the files as they were read last. They are read again, when a
// client connects, once they have changed.
type certificates struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	stamp   [3]fileStamp
	checked time.Time
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
}

// checkInterval bounds how often the files are looked at.
const checkInterval = time.Second

// NewTLS reads the files. What it returns reads them again when they are replaced;
// when they cannot be used then, the old ones stay in use, and the log says so.
func NewTLS(files TLSFiles, log *slog.Logger) (*tls.Config, error) {
	c := &certificates{files: files, log: log, checked: time.Now()}
	var err error
	if c.stamp, err = files.stamps(); err != nil {
		return nil, err
	}
	if c.config, err = files.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(), nil
		},
	}, nil
}

// current is the configuration of the files as they are now.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= checkInterval {
		c.checked = now
		c.reload()
	}
	return c.config
}

// reload reads the files if they have changed. c.mu is held.
func (c *certificates) reload() {
	stamp, err := c.files.stamps()
	if err == nil && stamp == c.stamp {
		return
	}
	var config *tls.Config
	if err == nil {
		config, err = c.files.load()
	}
	if err != nil {
		c.log.Error("reading the changed TLS files: the old ones stay in use", "error", err)
		return
	}
	c.stamp, c.config = stamp, config
	c.log.Info("the TLS files have changed and were read again", "certificate", c.files.Certificate)
}

// stamps are those of the files that are named.
func (f TLSFiles) stamps() (stamps [3]fileStamp, err error) {
	for i, path := range []string{f.Certificate, f.Key, f.ClientCA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("looking for the TLS files: %w", err)
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// load reads the files.
func (f TLSFiles) load() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s and its key: %w", f.Certificate, err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		// The server's order counts. Whoever knows HTTP/1 gets it; clients of gRPC
		// offer HTTP/2 alone.
		NextProtos: []string{"http/1.1", "h2"},
	}
	if f.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the clients' authorities: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the clients' authorities: %w", errors.New(f.ClientCA+" has no certificate in PEM form"))
	}
	return c, nil
}
