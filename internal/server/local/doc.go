// Package local is what the servers on Unix sockets have in common: accepting no
// more clients than there is room for, telling the operator why a client was
// turned away, knowing who the clients are, and limits.
package local
