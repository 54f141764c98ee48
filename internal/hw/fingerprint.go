package hw

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Fingerprint is a short hash of what the choice of code depends on: the
// processor model, the features left after masking, the caches, and the kind
// of GPUs with their driver. Two hosts that share it make the same choices,
// so measurements taken on one hold on the other. It does not change across
// restarts, instance ids, quotas, or the amount of memory.
func (h *Host) Fingerprint() string {
	type gpu struct{ Name, ComputeCapability, Driver, CUDA string }
	basis := struct {
		Arch, Vendor, Model           string
		Family, ModelNumber, Stepping int
		Level                         Level
		Features                      []string
		Caches                        []Cache
		GPUs                          []gpu
	}{
		Arch: h.CPU.Arch, Vendor: h.CPU.Vendor, Model: h.CPU.Model,
		Family: h.CPU.Family, ModelNumber: h.CPU.ModelNumber, Stepping: h.CPU.Stepping,
		Level: h.CPU.Level, Features: h.CPU.Features.List(), Caches: h.CPU.Caches,
	}
	for _, g := range h.GPUs {
		basis.GPUs = append(basis.GPUs, gpu{g.Name, g.ComputeCapability, g.Driver, g.CUDA})
	}
	// JSON keeps neighbouring fields apart; these types always marshal.
	text, err := json.Marshal(basis)
	if err != nil {
		panic("BUG: a host's fingerprint does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
