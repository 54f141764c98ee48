package parquetschema

import (
	"fmt"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
)

func TestSchemaKeepsTheOrder(t *testing.T) {
	order := []string{"b", "z", "a", "10", "9"}
	group := parquet.Group{}
	for _, name := range order {
		group[name] = parquet.Int(32)
	}
	var got []string
	for _, path := range Ordered("rows", group, order).Columns() {
		got = append(got, fmt.Sprint(path))
	}
	if want := []string{"[b]", "[z]", "[a]", "[10]", "[9]"}; !slices.Equal(got, want) {
		t.Errorf("the columns are %v, want %v", got, want)
	}
}
