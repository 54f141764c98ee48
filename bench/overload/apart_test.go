package main

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// What is bound to the model's processor stays, and what is not leaves it.
func TestApartClears(t *testing.T) {
	a, err := divide()
	if err != nil {
		t.Skip(err)
	}
	var model, others unix.CPUSet
	model.Set(a.model)
	for _, cpu := range a.others {
		others.Set(cpu)
	}
	for name, bound := range map[string]bool{"bound": true, "free": false} {
		t.Run(name, func(t *testing.T) {
			p := exec.Command("sleep", "60")
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = p.Process.Kill()
				_ = p.Wait() // it was killed
			}()
			want := others
			if bound {
				want = model
				if err := unix.SchedSetaffinity(p.Process.Pid, &model); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.clear(p.Process.Pid); err != nil {
				t.Fatal(err)
			}
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(p.Process.Pid, &now); err != nil {
				t.Fatal(err)
			}
			if now != want {
				t.Errorf("it may use %d CPUs, want %d others", now.Count(), want.Count())
			}
		})
	}
}
