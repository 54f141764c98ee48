// Command generate writes a dataset of card transactions for the example of picket pipeline: CSV files without a header, the
// label first, in the folders train and validation. The same seed gives the same bytes on every machine.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

const rowsPerFile = 50_000

func main() {
	out := flag.String("out", "data", "the folder to write")
	train := flag.Int("train", 200_000, "transactions to train with")
	validation := flag.Int("validation", 20_000, "transactions to validate with")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	flag.Parse()
	random := rand.New(rand.NewPCG(*seed, 0)) //nolint:gosec // the same numbers every time are what is wanted
	for _, set := range []struct {
		name string
		rows int
	}{{"train", *train}, {"validation", *validation}} {
		if err := write(filepath.Join(*out, set.name), set.rows, random); err != nil {
			fmt.Fprintf(os.Stderr, "generate: writing the dataset: %v\n", err)
			os.Exit(1)
		}
	}
}

// write writes rows into files part-N.csv of a folder.
func write(dir string, rows int, random *rand.Rand) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for part := 0; rows > 0; part++ {
		n := min(rows, rowsPerFile)
		if err := writeFile(filepath.Join(dir, fmt.Sprintf("part-%03d.csv", part)), n, random); err != nil {
			return err
		}
		rows -= n
	}
	return nil
}

func writeFile(path string, rows int, random *rand.Rand) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for range rows {
		label, features := transaction(random)
		line := strconv.AppendInt(nil, int64(label), 10)
		for _, x := range features {
			line = append(line, ',')
			if !math.IsNaN(x) { // an empty field is a missing value
				line = strconv.AppendFloat(line, float64(float32(x)), 'g', -1, 32)
			}
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// transaction makes one: whether it is a fraud, and what is known of it.
func transaction(random *rand.Rand) (label int, features []float64) {
	usual := math.Exp(3 + random.NormFloat64()) // what this customer spends
	fraud := random.Float64() < 0.04
	hour := math.Mod(14+4*random.NormFloat64()+24, 24)
	amount := usual * math.Exp(0.6*random.NormFloat64())
	distance := math.Abs(random.NormFloat64()) * 15
	inHour := float64(int(random.ExpFloat64()))
	risk := random.Float64() * 0.4
	known := 1.0
	if fraud {
		label = 1
		if random.Float64() < 0.7 {
			amount *= 2 + 4*random.Float64()
		}
		if random.Float64() < 0.6 {
			hour = math.Mod(2+2*random.NormFloat64()+24, 24)
		}
		if random.Float64() < 0.5 {
			distance += 200 * random.ExpFloat64()
		}
		inHour += float64(random.IntN(6))
		risk += 0.4 * random.Float64()
	}
	if random.Float64() < 0.1+0.4*float64(label) {
		known = 0
	}
	limit := usual * (20 + 20*random.Float64())
	age := math.NaN() // of the account, in days; not known of every one
	if random.Float64() > 0.05 {
		age = random.ExpFloat64() * 900
	}
	return label, []float64{
		amount, amount / usual, hour, distance, inHour, risk, known, limit, amount / limit, age, usual,
		math.Log1p(amount), float64(random.IntN(7)), float64(random.IntN(12)), random.NormFloat64(), random.NormFloat64(),
	}
}
