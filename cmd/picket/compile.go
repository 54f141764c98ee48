package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/packaging/compile"
)

func newCompile() *cobra.Command {
	c := &cobra.Command{
		Use:   "compile MODEL -o DIR",
		Short: "Make an artifact folder of an XGBoost, LightGBM or ONNX model file",
		Long: `Make an artifact folder of a tree model: compiled.so, compiled.meta and the
model itself, in the layout of SageMaker Neo. The model is XGBoost's (JSON,
UBJSON, or the binary format that SageMaker leaves as xgboost-model), LightGBM's
(text), or an ONNX file with one tree ensemble, as skl2onnx writes. It takes a C
compiler.`,
		Example: "  picket compile fraud.ubj -o fraud --target x86-64-v3",
		Args:    cobra.ExactArgs(1),
	}
	var o compile.Options
	var engine string
	var names []string
	for _, e := range assemble.Engines() {
		names = append(names, e.Name)
	}
	c.Flags().StringVarP(&o.Out, "output", "o", "", "the artifact folder to make, `DIR`")
	c.Flags().StringVar(&o.Target, "target", "", "the machine to compile for: "+strings.Join(compile.Targets(), ", ")+" (default: the baseline of this machine's architecture)")
	c.Flags().StringVar(&engine, "engine", names[0], "what the library computes with: branches, compiled for the model, or simd, vector kernels that it chooses for the processor it is loaded on")
	completeFlag(c, "target", compile.Targets()...)
	completeFlag(c, "engine", names...)
	c.Flags().BoolVar(&o.Force, "force", false, "replace an artifact that is there already")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		switch {
		case o.Out == "":
			return usage("the artifact folder is not named: give it with -o DIR")
		case o.Target != "" && !slices.Contains(compile.Targets(), o.Target):
			return usage("target %q is not known; it may be %s", o.Target, strings.Join(compile.Targets(), ", "))
		case !slices.Contains(names, engine):
			return usage("engine %q is not known; it may be %s", engine, strings.Join(names, ", "))
		}
		o.Engine = assemble.Engines()[slices.Index(names, engine)]
		o.Source = args[0]
		start, bar := time.Now(), newProgress(c.ErrOrStderr(), os.Getenv("TERM"))
		o.Progress = bar.step
		ctx, stop := interruptible(c)
		defer stop()
		r, err := compile.Run(ctx, o)
		bar.end()
		if ctx.Err() != nil && err != nil {
			return fmt.Errorf("compiling %s: interrupted; nothing was written to %s", o.Source, o.Out)
		}
		if err != nil {
			// The package knows the file's own name alone, which says nothing of a pipe like /dev/fd/63.
			if reason := errors.Unwrap(err); reason != nil && strings.HasPrefix(err.Error(), "compiling ") {
				return fmt.Errorf("compiling %s: %w", o.Source, reason)
			}
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), compiled{
				Dir: r.Dir, Library: r.Library, Engine: r.Engine, Target: r.Target, Compiler: r.Compiler, SHA256: r.SHA256,
				Features: r.Features, Outputs: r.Outputs, Trees: r.Trees, Nodes: r.Nodes, Bytes: r.Bytes,
			})
		}
		fmt.Fprintf(c.OutOrStdout(), "compiled %s to %s in %.1f s\n", o.Source, r.Dir, time.Since(start).Seconds())
		fmt.Fprintf(c.OutOrStdout(), "  model   %s, features: %d, outputs: %d, trees: %d, nodes: %d\n", r.Library, r.Features, r.Outputs, r.Trees, r.Nodes)
		fmt.Fprintf(c.OutOrStdout(), "  code    %.1f KiB for %s by %s, engine %s\n", float64(r.Bytes)/1024, r.Target, r.Compiler, r.Engine)
		fmt.Fprintf(c.OutOrStdout(), "  source  sha256:%s\n", r.SHA256)
		return nil
	})
	return c
}

// compiled is what `picket compile --json` prints.
type compiled struct {
	Dir      string `json:"dir"`
	Library  string `json:"library"` // that trained the model
	Engine   string `json:"engine"`
	Target   string `json:"target"`
	Compiler string `json:"compiler"`
	SHA256   string `json:"sha256"` // of the model file
	Features int    `json:"features"`
	Outputs  int    `json:"outputs"`
	Trees    int    `json:"trees"`
	Nodes    int    `json:"nodes"`
	Bytes    int64  `json:"bytes"` // of compiled.so
}
