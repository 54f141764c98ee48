"""Connections."""

import errno
import os
import socket
import threading
import time

from . import wire
from .errors import Code, LaneError
from .model import Model, Tensor, room


class Lane:
    """A connection to the daemon at path, made when it is first needed and anew when it was lost.

    timeout, in seconds, is that of calls that bring none; None waits without end.
    """

    def __init__(self, path, timeout=10.0):
        self.path, self.timeout = os.fspath(path), timeout
        self._lock = threading.Lock()
        self._socket = None
        self._buffer = bytearray()
        self._unwanted = 0  # bytes still to come of a large answer that was given up
        self._spare = None  # room for what comes behind a large answer
        self._leaving = False  # the daemon said goodbye
        self._connection = 0  # counts the connections made
        self._id = 0
        self._limit = 0
        self._number = b""  # the connection's, as the daemon has it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection. The lane may be used again."""
        with self._lock:
            self._hang_up()

    def model(self, name, timeout=None):
        """Opens the model of that name."""
        with self._lock:
            return self._twice(timeout, lambda end: self._open(name, end))

    # From here on self._lock is held.

    def _twice(self, timeout, ask):
        """Asks, and asks once more if a connection that was there before is lost."""
        timeout = self.timeout if timeout is None else timeout
        end = None if timeout is None else time.monotonic() + timeout
        fresh = self._socket is None or self._leaving
        try:
            self._connect(end)
            return ask(end)
        except LaneError as error:
            if fresh or error.code != Code.UNAVAILABLE:
                raise
        self._connect(end)
        return ask(end)

    def _open(self, name, end):
        payload = name.encode("utf-8")
        id = self._send(wire.OPEN, [payload], end)
        frame, payload = self._answer(id, wire.MODEL, end)
        inputs, outputs = wire.parse_signature(payload)
        return Model(self, name, frame.handle, self._connection, [Tensor(*s) for s in inputs], [Tensor(*s) for s in outputs])

    def _predict(self, model, rows, parts, timeout):
        with self._lock:
            return self._twice(timeout, lambda end: self._predict_here(model, rows, parts, end))

    def _predict_here(self, model, rows, parts, end):
        if model._connection != self._connection:
            now = self._open(model.name, end)
            if now.inputs != model.inputs or now.outputs != model.outputs:
                raise LaneError(Code.FAILED_PRECONDITION, f"another model is loaded as {model.name!r} now, which takes or gives other tensors: open it again")
            model._handle, model._connection = now._handle, now._connection
        size = sum(map(len, parts))
        if size > self._limit:
            raise LaneError(Code.INVALID_ARGUMENT, f"{size} bytes of inputs are more than the {self._limit} that the daemon takes: send fewer rows at once")
        deadline = 0
        if end is not None:
            deadline = max(int((end - time.monotonic()) * 1e6), 1)
            deadline = deadline if deadline < 1 << 32 else 0
        id = self._send(wire.PREDICT, parts, end, model._handle, rows, deadline)
        sizes = [t.size(rows) for t in model.outputs]
        try:
            frame, answer = self._answer(id, wire.RESULT, end, sizes)
        except LaneError as error:
            if error.code == Code.DEADLINE_EXCEEDED and self._socket is not None:
                self._cancel(id)
            raise
        if frame.rows != rows or frame.payload != sum(sizes):
            self._hang_up()
            raise LaneError(Code.INTERNAL, "the daemon answered with another number of bytes than the rows have")
        return f"{self._number.hex()}-{id}" if self._number else "", answer

    def _cancel(self, id):
        try:
            self._socket.settimeout(0)
            self._socket.send(wire.header(wire.CANCEL, 0, id))
        except BlockingIOError:
            pass  # the daemon finds out at the request's deadline
        except OSError:
            self._hang_up()

    def _connect(self, end):
        if self._socket is not None and not self._leaving:
            return
        self._hang_up()
        for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            self._socket = socket.socket(socket.AF_UNIX, kind)
            try:
                self._wait(end)
                self._socket.connect(self.path)
                break
            except LaneError:
                self._hang_up()  # or the next call would take it for a connection
                raise
            except OSError as error:
                self._hang_up()
                # A socket of the other type.
                if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                    raise LaneError(Code.UNAVAILABLE, f"connecting to the lane at {self.path}: {error}") from error
        self._connection += 1
        try:
            self._write(wire.hello(), end)
            _, payload = self._answer(0, wire.WELCOME, end)
            self._limit, self._number = wire.parse_welcome(payload)
        except LaneError:
            self._hang_up()
            raise

    def _hang_up(self):
        if self._socket is not None:
            self._socket.close()
        self._socket, self._leaving, self._unwanted = None, False, 0
        self._buffer.clear()

    def _wait(self, end):
        """Lets the next operation of the socket take until end."""
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise LaneError(Code.DEADLINE_EXCEEDED, "no answer in time")
        self._socket.settimeout(left)

    def _send(self, kind, parts, end, handle=0, rows=0, deadline=0):
        """Sends a frame: a large one from where its parts lie."""
        self._id += 1
        size = sum(map(len, parts))
        header = wire.header(kind, size, self._id, handle, rows, deadline)
        if wire.HEADER_SIZE + size <= wire.MAX_MESSAGE:
            self._write(b"".join([header, *parts]), end)
            return self._id
        self._write(header, end)
        for part in parts:
            self._write(part, end, begun=True)
        return self._id

    def _write(self, data, end, begun=False):
        """Writes data; begun says that some of its frame was written before."""
        data = memoryview(data)
        try:
            while data:
                self._wait(end)
                n = self._socket.send(data[:wire.MAX_MESSAGE])
                data, begun = data[n:], True
        except (LaneError, TimeoutError, socket.timeout):
            if begun:
                self._hang_up()  # in the middle of a frame
            raise LaneError(Code.DEADLINE_EXCEEDED, "the daemon takes nothing in time") from None
        except OSError as error:
            self._lost(error)

    def _lost(self, why):
        self._hang_up()
        raise LaneError(Code.UNAVAILABLE, f"the connection to the daemon was lost: {why}") from None

    def _answer(self, id, kind, end, sizes=None):
        """The frame that answers a request, and its payload: with sizes, in a list of parts of so many bytes. Answers to requests given up are dropped."""
        while True:
            self._drop(end)
            self._fill(wire.HEADER_SIZE, end)
            try:
                frame = wire.parse_header(self._buffer)
            except LaneError:
                self._hang_up()
                raise
            wanted = frame.kind == kind and frame.id == id
            size = wire.HEADER_SIZE + frame.payload
            if wanted and sizes and size > wire.MAX_MESSAGE and frame.payload == sum(sizes):
                del self._buffer[:wire.HEADER_SIZE]
                return frame, self._take(sizes, end)
            self._fill(size, end)
            payload = bytearray(memoryview(self._buffer)[wire.HEADER_SIZE:size])
            del self._buffer[:size]
            if frame.kind == wire.GOODBYE:
                self._leaving = True
            elif frame.kind == wire.ERROR and (frame.id == id or frame.flags & 1):
                if frame.flags & 1:
                    self._hang_up()
                raise wire.parse_error(payload)
            elif wanted:
                return frame, payload if sizes is None else _cut(payload, sizes)

    def _take(self, sizes, end):
        """The parts of a payload that is larger than a message, read to where they stay."""
        parts = [room(n) for n in sizes]
        self._unwanted = sum(sizes)
        for part in parts:
            rest = memoryview(part)
            while rest:
                if self._buffer:
                    n = min(len(self._buffer), len(rest))
                    rest[:n] = memoryview(self._buffer)[:n]
                    del self._buffer[:n]
                else:
                    n = self._receive(rest, end)
                rest = rest[n:]
                self._unwanted -= n
        return parts

    def _receive(self, to, end):
        """Reads a message to memory, and what that has no room for behind what is buffered; how many bytes of the memory that are."""
        if self._spare is None:
            self._spare = memoryview(bytearray(wire.MAX_MESSAGE))
        try:
            self._wait(end)
            n = self._socket.recvmsg_into([to, self._spare])[0]
        except (TimeoutError, socket.timeout):
            raise LaneError(Code.DEADLINE_EXCEEDED, "no answer in time") from None
        except OSError as error:
            self._lost(error)
        if n == 0:
            self._lost("the daemon closed it")
        more = max(n - len(to), 0)
        self._buffer += self._spare[:more]
        return n - more

    def _drop(self, end):
        """Reads what is left of a large answer that was given up."""
        while self._unwanted:
            self._fill(1, end)
            n = min(self._unwanted, len(self._buffer))
            del self._buffer[:n]
            self._unwanted -= n

    def _fill(self, n, end):
        """Reads until n bytes are there. What has come stays when time is up."""
        while len(self._buffer) < n:
            try:
                self._wait(end)
                data = self._socket.recv(wire.MAX_MESSAGE)
            except (TimeoutError, socket.timeout):
                raise LaneError(Code.DEADLINE_EXCEEDED, "no answer in time") from None
            except OSError as error:
                self._lost(error)
            if not data:
                self._lost("the daemon closed it")
            self._buffer += data


def _cut(payload, sizes):
    """The payload in parts of these sizes; that they fit is looked at later."""
    view, parts = memoryview(payload), []
    for n in sizes:
        parts.append(view[:n])
        view = view[n:]
    return parts
