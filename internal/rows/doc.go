// Package rows turns CSV and JSON text into the bytes of tensors, a row at a time, and the bytes of tensors back into
// text. It is what `picket predict` and SageMaker's /invocations read and print; memory does not grow with the length of the input.
//
// CSV has no header and commas between the numbers of a row. An empty field is a missing value, as is nan in any case;
// blank lines are skipped, so a model of one column says nan for a missing value. JSON is an array of rows, or rows one
// after the other, one per line or not. A row is an array of numbers, where null is a missing value, or an object that
// gives such an array for every input by name; a model of several inputs needs the second form. NaN and Infinity are
// read as Python writes them.
package rows
