package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// modelName is what the model is served as.
const modelName = "fraud"

// demo is one showing.
type demo struct {
	picket, picketd, data string
	once                  bool
	out                   *screen
}

// run goes through the steps. Whatever happens, the daemon is stopped and the temporary folder removed before it returns.
func (d *demo) run(ctx context.Context) (err error) {
	transactions, err := readTransactions(d.data)
	if err != nil {
		return fmt.Errorf("%w; run the demo from the top of the repository, or name the folder with -data", err)
	}
	// One folder of our own for the socket, the log and the compiled model, which nobody else may enter.
	dir, err := os.MkdirTemp("", "picket-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the socket: %w", err)
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
	}()

	d.out.title("Picket: card transactions, scored behind a Unix socket")
	artifact := filepath.Join(dir, modelName)
	if err := d.compile(ctx, artifact); err != nil {
		return err
	}
	daemon, err := d.start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop(d.out)) }()
	if err := d.show(ctx, daemon, artifact, transactions); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w\n%s", err, daemon.lastLines())
	}
	d.suggest(dir, artifact)
	if d.once {
		return nil
	}
	d.out.line("picketd keeps running until you press Ctrl-C.")
	select {
	case <-ctx.Done():
		d.out.line("")
		return nil
	case <-daemon.ended:
		return fmt.Errorf("picketd ended by itself\n%s", daemon.lastLines())
	}
}

// start starts the daemon and waits until it answers.
func (d *demo) start(ctx context.Context, dir string) (*daemon, error) {
	began := time.Now()
	daemon, err := startDaemon(d.picketd, dir)
	if err != nil {
		return nil, err
	}
	if err := daemon.wait(ctx); err != nil {
		lines := daemon.lastLines()
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, lines), daemon.stop(d.out))
	}
	d.out.step("start", "picketd, process %d, answers after %s", daemon.process.Process.Pid, milliseconds(time.Since(began)))
	d.out.more("socket %s", daemon.socket)
	d.out.more("log %s", daemon.log)
	return daemon, nil
}

// show loads the model, scores the transactions and prints what came of it.
func (d *demo) show(ctx context.Context, daemon *daemon, artifact string, list []transaction) error {
	began := time.Now()
	service, err := loadModel(ctx, daemon.conn, artifact)
	if err != nil {
		return err
	}
	d.out.step("load", "%s, in %s: %s", modelName, milliseconds(time.Since(began)), service.describe())
	for _, line := range service.chosen {
		d.out.more("%s", line)
	}
	d.out.step("score", "%d transactions, one request each", len(list))
	if err := service.scoreAll(ctx, list); err != nil {
		return err
	}
	d.out.table(sample(list))
	checked, err := check(list)
	if err != nil {
		return err
	}
	d.out.step("decide", "%s", summary(list))
	d.out.step("check", "%s", checked)
	measured, err := service.measure(ctx, list)
	if err != nil {
		return err
	}
	d.out.step("measure", "one at a time: p50 %s, p90 %s, p99 %s (%d requests)",
		microseconds(measured.p50), microseconds(measured.p90), microseconds(measured.p99), measured.requests)
	d.out.more("%d at a time: %d transactions a second on one connection", batchRows, measured.batchedPerSecond)
	return nil
}

// suggest prints what to try, ready to be copied.
func (d *demo) suggest(dir, artifact string) {
	rows := filepath.Join(d.data, transactionsFile)
	d.out.title("Try next, in another terminal")
	d.out.line("  export PICKET_SOCKETS=%s", dir)
	d.out.line("  %s list", d.picket)
	d.out.line("  %s predict %s --input %s", d.picket, modelName, rows)
	d.out.line("  head -3 %s | %s predict %s --json", rows, d.picket, modelName)
	d.out.line("  %s explain %s", d.picket, modelName)
	d.out.line("  %s info", d.picket)
	d.out.line("  examples/clients/python/run.sh --socket $PICKET_SOCKETS/agent.sock \\")
	d.out.line("      --name from-python --model %s \\", artifact)
	d.out.line("      --rows %s", rows)
	d.out.line("")
}
