// Package score runs a model over a file of history: CSV or Parquet in, scores as CSV or Parquet out, in this process and on
// all cores. It is what `picket score` does.
//
// # How rows travel
//
// A source cuts the input into chunks, in order. Workers decode a chunk, run the model on its rows and write its part of the
// output into memory, each chunk on one worker, many at once. The parts are appended to the output in order again. There are
// only so many chunks, so memory does not grow with the input.
//
// # What a kill leaves behind
//
// Parts go to OUTPUT.partial. Every so often that file is forced to disk, and then OUTPUT.checkpoint replaces its
// predecessor, which says how far the input was read, how long the partial file is and what its check sum is. At a start
// whatever the partial file has beyond that is cut off. Chunks depend on the input alone and checkpoints lie between
// chunks, so the rest is what it would have been: the same bytes. When all is there the partial file becomes the output by
// a rename, or, for Parquet, whose columns cannot be appended to, is read once more and written as such; only then do the
// other two files go. A checkpoint names the input, the model, its backend and the options, and is refused for others.
package score
