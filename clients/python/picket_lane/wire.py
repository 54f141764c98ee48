"""The bytes of the protocol."""

import collections
import math
import struct

from .errors import Code, LaneError

HELLO, WELCOME, OPEN, MODEL, PREDICT, RESULT, ERROR, CANCEL, GOODBYE = range(1, 10)

VERSION = 1
MAX_MESSAGE = 65536
MAX_DIMENSIONS = 8

Frame = collections.namedtuple("Frame", "kind payload id handle rows deadline flags")

_HEADER = struct.Struct("<2sBBIQIIII")
HEADER_SIZE = _HEADER.size

# The names of the element types, their sizes, and how array and struct spell them; numpy spells them by name.
TYPES = {
    1: ("bool", 1, "?"), 2: ("uint8", 1, "B"), 3: ("uint16", 2, "H"), 4: ("uint32", 4, "I"), 5: ("uint64", 8, "Q"),
    6: ("int8", 1, "b"), 7: ("int16", 2, "h"), 8: ("int32", 4, "i"), 9: ("int64", 8, "q"),
    10: ("float16", 2, "e"), 11: ("float32", 4, "f"), 12: ("float64", 8, "d"), 13: ("bfloat16", 2, "H"),
}


def header(kind, payload, id=0, handle=0, rows=0, deadline=0):
    return _HEADER.pack(b"PK", VERSION, kind, payload, id, handle, rows, deadline, 0)


def parse_header(data):
    magic, version, kind, payload, id, handle, rows, deadline, flags = _HEADER.unpack_from(data)
    if magic != b"PK" or version != VERSION:
        raise LaneError(Code.INTERNAL, "what answers does not speak version 1 of the lane")
    return Frame(kind, payload, id, handle, rows, deadline, flags)


def hello():
    return header(HELLO, 8) + struct.pack("<HHI", VERSION, VERSION, 0)


def parse_welcome(payload):
    """The largest payload that the daemon takes and gives, and the connection's number; empty from a daemon that does not tell it."""
    if len(payload) < 24:
        raise LaneError(Code.INTERNAL, "the daemon's greeting is too short")
    version, _, _, _, limit, _, _ = struct.unpack_from("<HHIIIII", payload)
    if version != VERSION:
        raise LaneError(Code.FAILED_PRECONDITION, f"the daemon speaks version {version} of the lane, this client {VERSION}")
    return limit, bytes(payload[24:40]) if len(payload) >= 40 else b""


def parse_error(payload):
    if len(payload) < 8:
        return LaneError(Code.INTERNAL, "the daemon sent an error that cannot be read")
    code, retry = struct.unpack_from("<II", payload)
    return LaneError(code, bytes(payload[8:]).decode("utf-8", "replace"), retry / 1e6)


def parse_signature(payload):
    """The inputs and the outputs as (name, type, dimensions)."""
    try:
        inputs, outputs = struct.unpack_from("<HH", payload)
        at, specs = 4, []
        for _ in range(inputs + outputs):
            kind, rank, length = struct.unpack_from("<BBH", payload, at)
            dims = struct.unpack_from(f"<{rank}q", payload, at + 4)
            at += 4 + 8 * rank + length
            name = bytes(payload[at - length:at])
            if kind not in TYPES or rank > MAX_DIMENSIONS or at > len(payload) or any(d < 0 for d in dims[1:]) or min(dims, default=0) < -1:
                raise ValueError
            if math.prod(d for d in dims if d > 0) > 1 << 40:
                raise ValueError
            specs.append((name.decode("utf-8"), kind, dims))
        if at != len(payload):
            raise ValueError
    except (struct.error, ValueError):
        raise LaneError(Code.INTERNAL, "the daemon described the model in a way that cannot be") from None
    return specs[:inputs], specs[inputs:]
