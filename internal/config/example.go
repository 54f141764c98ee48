package config

import _ "embed"

//go:embed example.yaml
var example string

// Example is a configuration file with every key, its default, and what it means.
func Example() string { return example }
