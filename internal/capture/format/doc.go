// Package format writes captured records the way their readers expect them: as the
// records of the SageMaker Edge Manager agent, as the JSON lines that SageMaker
// endpoints capture and Model Monitor reads, and as Parquet.
//
// What is written is a Record, which holds what the residency policy let through
// and nothing else. The same records give the same bytes, on every host and in
// every run, so that an object that is made again after a crash is the same object.
package format
