// Package parquetschema describes Parquet files whose columns have an order.
package parquetschema

import "github.com/parquet-go/parquet-go"

// Ordered is the schema of a file with the columns of the group, in that order, which has each of their names once.
func Ordered(name string, group parquet.Group, order []string) *parquet.Schema {
	return parquet.NewSchema(name, ordered{group, order})
}

// ordered is a group whose fields keep their order, which parquet.Group's do not.
type ordered struct {
	parquet.Group
	order []string
}

// Fields are those of the group, in order.
func (o ordered) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.order))
	for i, name := range o.order {
		fields[i] = byName[name]
	}
	return fields
}
