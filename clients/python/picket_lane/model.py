"""Models and their tensors."""

import array
import ctypes
import math
import struct
import sys

from . import wire
from .errors import Code, LaneError

try:
    import numpy
except ImportError:
    numpy = None


class Tensor:
    """What a model takes or gives. shape[0] is -1 where it is the number of rows."""

    def __init__(self, name, kind, shape):
        self.name, self.shape = name, tuple(shape)
        self.type, self._width, self._code = wire.TYPES[kind]
        self.has_rows = bool(shape) and shape[0] == -1
        self._per_row = math.prod(self.shape[1:] if self.has_rows else self.shape)

    def __eq__(self, other):
        return (self.name, self.type, self.shape) == (other.name, other.type, other.shape)

    def __repr__(self):
        return f"Tensor({self.name!r}, {self.type}, {list(self.shape)})"

    def size(self, rows):
        """The bytes of so many rows."""
        return self._width * self._per_row * (rows if self.has_rows else 1)

    def encode(self, value):
        """The bytes of a value, and how many rows they are (None if the tensor has none)."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = memoryview(value).cast("B")
        elif numpy is not None and isinstance(value, numpy.ndarray):
            kind = "uint16" if self.type == "bfloat16" else self.type
            data = memoryview(numpy.ascontiguousarray(value, dtype=numpy.dtype(kind).newbyteorder("<"))).cast("B")
        else:
            data = memoryview(self._pack(list(_flat(value)))).cast("B")
        one = self._width * self._per_row
        if not self.has_rows:
            if len(data) != one:
                raise LaneError(Code.INVALID_ARGUMENT, f"input {self.name!r} has {len(data)} bytes, it takes {one}")
            return data, None
        if one == 0 or len(data) == 0 or len(data) % one:
            raise LaneError(Code.INVALID_ARGUMENT, f"input {self.name!r} has {len(data)} bytes, it takes rows of {one}, one or more")
        return data, len(data) // one

    def _pack(self, values):
        # array is several times as fast as struct, but has neither halves nor booleans, nor a byte order.
        try:
            if self._code in "e?" or sys.byteorder != "little":
                return struct.pack(f"<{len(values)}{self._code}", *values)
            return array.array(self._code, values)
        except (TypeError, OverflowError, struct.error) as error:
            raise LaneError(Code.INVALID_ARGUMENT, f"input {self.name!r} has values that are no {self.type}: {error}") from None

    def decode(self, data, rows, as_array):
        """The value of an output's bytes: an array, or lists as its shape nests them."""
        shape = (rows,) + self.shape[1:] if self.has_rows else self.shape
        if as_array:
            kind = "uint16" if self.type == "bfloat16" else self.type
            return numpy.frombuffer(data, dtype=numpy.dtype(kind).newbyteorder("<")).reshape(shape)
        values = list(struct.unpack(f"<{len(data) // self._width}{self._code}", data))
        for n in reversed(shape[1:]):
            values = [values[i:i + n] for i in range(0, len(values), n)] if n else []
        return values if shape else values[0]


def room(n):
    """Writable memory of n bytes; what is in it does not matter. It does not begin 16 bytes behind a page's beginning, as memory does that malloc
    has mapped: processors of AMD copy messages there, which begin with a page in the kernel, three times as slowly."""
    memory = bytearray(n + 63) if numpy is None else numpy.empty(n + 63, numpy.uint8)
    at = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % 64
    return memoryview(memory)[at:at + n]


def _flat(value):
    """The numbers of nested sequences, in order."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        yield value
        return
    for inner in value:
        yield from _flat(inner)


class Model:
    """A model that the daemon serves; made by Lane.model."""

    def __init__(self, lane, name, handle, connection, inputs, outputs):
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self._lane, self._handle, self._connection = lane, handle, connection

    def predict(self, *inputs, timeout=None):
        """One result for each output. inputs are in the order of self.inputs: numpy arrays, nested sequences of numbers, or bytes."""
        return self.predict_named(*inputs, timeout=timeout)[1]

    def predict_named(self, *inputs, timeout=None):
        """What the daemon calls the prediction among those that it captures, for `picket truth` ("" where it names none), and what predict returns."""
        if len(inputs) != len(self.inputs):
            raise LaneError(Code.INVALID_ARGUMENT, f"{len(inputs)} inputs were given, the model has {len(self.inputs)}")
        parts, rows = [], None
        for spec, value in zip(self.inputs, inputs):
            data, n = spec.encode(value)
            if n is not None and rows not in (None, n):
                raise LaneError(Code.INVALID_ARGUMENT, f"input {spec.name!r} has {n} rows where another has {rows}")
            parts.append(data)
            rows = n or rows
        rows = rows or 1
        name, answers = self._lane._predict(self, rows, parts, timeout)
        as_array = numpy is not None and any(isinstance(value, numpy.ndarray) for value in inputs)
        return name, [spec.decode(data, rows, as_array) for spec, data in zip(self.outputs, answers)]
