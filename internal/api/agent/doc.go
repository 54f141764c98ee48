// Package agent is the Go form of the Edge Manager agent's gRPC interface,
// generated from agent.proto. The names are those of that interface, its odd
// spellings included; ../generate.sh regenerates it.
package agent
