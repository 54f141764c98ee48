package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/picket-ml/picket/internal/hw"
)

// apart is how the processors are divided where the model has one of its own.
type apart struct {
	model  int   // its processor
	others []int // those of everything else
}

// divide gives the last of the processors that this program may use to the model.
func divide(all []int) (a apart, err error) {
	if len(all) < 2 {
		return a, errors.New("-apart takes two processors")
	}
	return apart{model: all[len(all)-1], others: all[:len(all)-1]}, nil
}

// daemon is what the daemon is configured with, and model what its model is.
func (a apart) daemon() string { return fmt.Sprintf("cores: %q\n", hw.FormatCPUs(a.others)) }

func (a apart) modelSetting() string { return fmt.Sprintf(", cores: %q", strconv.Itoa(a.model)) }
