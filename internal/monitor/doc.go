// Package monitor compares what a model is asked with what it was trained on.
//
// Baseline reads a training set once and says what is in it: Statistics and
// Constraints, in the form that SageMaker Model Monitor writes as statistics.json
// and constraints.json, and reads. Compare reads captured data and says where it
// differs: Violations, in the form of constraint_violations.json, and a Report with
// what they rest on, which WriteHTML makes a page of. Both need a bounded amount of
// memory for each column, however many rows there are.
//
// docs/monitoring.md says what each number means.
package monitor
