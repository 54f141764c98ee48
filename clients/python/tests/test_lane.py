"""Tests picket_lane against a running daemon; clients/test.sh starts one and says where."""

import array
import os
import random
import socket
import struct
import tempfile
import threading
import unittest

from picket_lane import Code, Lane, LaneError, wire

try:
    import numpy
except ImportError:
    numpy = None

SOCKETS = os.environ["PICKET_SOCKETS"]
NAME = os.environ["PICKET_MODEL"]
FEATURES = int(os.environ["PICKET_FEATURES"])

with open(os.environ["PICKET_VALUES"], "rb") as file:
    VALUES = array.array("f", file.read())
COUNT = len(VALUES) // (FEATURES + 1)
ROWS = [VALUES[i * FEATURES:(i + 1) * FEATURES].tolist() for i in range(COUNT)]
WANT = VALUES[COUNT * FEATURES:].tolist()


class TestLane(unittest.TestCase):
    def lane(self, name="lane.sock", **options):
        lane = Lane(os.path.join(SOCKETS, name), **options)
        self.addCleanup(lane.close)
        return lane

    def check(self, model, rows=ROWS, want=WANT):
        scores, = model.predict(rows)
        self.assertEqual([score for row in scores for score in row], want)

    def fails(self, code, call, *args, **options):
        with self.assertRaises(LaneError) as caught:
            call(*args, **options)
        self.assertEqual(caught.exception.code, code, str(caught.exception))
        return str(caught.exception)

    def test_answers(self):
        for name in "lane.sock", "lane-stream.sock":
            model = self.lane(name).model(NAME)
            self.assertEqual((model.inputs[0].type, model.inputs[0].shape), ("float32", (-1, FEATURES)))
            self.check(model)
            for row, want in zip(ROWS[:50], WANT):
                self.check(model, [row], [want])
            data = array.array("f", [value for row in ROWS for value in row])
            self.check(model, data.tobytes())
            self.check(model, data)

    def test_names(self):
        for name in "lane.sock", "lane-stream.sock":
            model = self.lane(name).model(NAME)
            names = []
            for _ in range(2):
                called, (scores,) = model.predict_named(ROWS[:3])
                self.assertEqual([score for row in scores for score in row], WANT[:3])
                self.assertRegex(called, "^[0-9a-f]{32}-[0-9]+$")
                names.append(called)
            self.assertNotEqual(*names)
            with open(os.environ["PICKET_NAMES"], "a") as file:  # test.sh looks for them among what was captured
                file.writelines(called + "\n" for called in names)

    def test_many_rows(self):
        self.check(self.lane().model(NAME), ROWS * 20, WANT * 20)

    @unittest.skipIf(numpy is None, "numpy is optional, and not here")
    def test_arrays(self):
        model = self.lane().model(NAME)
        for kind in numpy.float32, numpy.float64:
            scores, = model.predict(numpy.array(ROWS, kind))
            self.assertEqual((scores.dtype, scores.shape), (numpy.float32, (COUNT, 1)))
            self.assertEqual(scores[:, 0].tolist(), WANT)

    def test_mistakes(self):
        lane = self.lane()
        self.assertIn("no-such-model", self.fails(Code.NOT_FOUND, lane.model, "no-such-model"))
        model = lane.model(NAME)
        self.fails(Code.INVALID_ARGUMENT, model.predict)
        self.fails(Code.INVALID_ARGUMENT, model.predict, ROWS, ROWS)
        self.fails(Code.INVALID_ARGUMENT, model.predict, [])
        self.fails(Code.INVALID_ARGUMENT, model.predict, [ROWS[0][1:]])
        self.fails(Code.INVALID_ARGUMENT, model.predict, [["a"] * FEATURES])
        self.fails(Code.DEADLINE_EXCEEDED, model.predict, ROWS, timeout=0)
        self.check(model)

    def test_connects_again(self):
        lane = self.lane()
        model = lane.model(NAME)
        lane._socket.shutdown(socket.SHUT_RDWR)
        self.check(model)
        lane.close()
        self.check(model)
        lane._leaving = True
        self.check(model)

    def test_threads(self):
        lane = self.lane()
        model, failed = lane.model(NAME), []

        def work(start):
            try:
                for i in range(start, COUNT, 4):
                    self.check(model, [ROWS[i]], [WANT[i]])
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_nobody(self):
        self.fails(Code.UNAVAILABLE, Lane("/nowhere/lane.sock").model, NAME)

    def test_servers_that_are_none(self):
        """Whatever a server says, the client ends with a LaneError."""
        header = wire.header(wire.WELCOME, 24)
        welcome = header + struct.pack("<HHIIIII", 1, 0, 0, 65536, 1 << 20, 10, 10)

        def model(payload):
            return welcome + wire.header(wire.MODEL, len(payload), 1, 1) + payload

        for said in (
            b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, b"PK\x01", header, header + b"\0" * 24, welcome, welcome + b"\xff" * 99,
            model(b""), model(b"\xff" * 10), model(b"\x01\0\x01\0" + b"\x0b\x09\0\0" * 40), model(b"\x01\0\0\0\x63\0\0\0"), model(b"\x01\0\0\0\x0b\0\xff\xff"),
            welcome + wire.header(wire.ERROR, 2, 1) + b"xx", welcome + wire.header(wire.ERROR, 9, 1) + b"\x63\0\0\0\0\0\0\0\xff",
        ):
            with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
                path = os.path.join(folder, "s")
                server.bind(path)
                server.listen()

                def serve():
                    conn, _ = server.accept()
                    with conn:
                        conn.sendall(said)
                        conn.shutdown(socket.SHUT_WR)
                        while conn.recv(1000):
                            pass

                thread = threading.Thread(target=serve)
                thread.start()
                with self.subTest(said=said[:60]), Lane(path, timeout=10) as lane:
                    with self.assertRaises(LaneError):
                        lane.model(NAME)
                thread.join()

    def test_large_answers(self):
        """Outputs get their bytes however an answer is cut, and the rest of one that was given up is dropped."""
        sizes = [300_001, 0, 7, 65_536, 200_000]
        signature = struct.pack("<HHBBHqq", 1, len(sizes), 2, 2, 0, -1, 1) + b"".join(struct.pack("<BBHqq", 2, 2, 0, -1, n) for n in sizes)
        for kind in socket.SOCK_SEQPACKET, socket.SOCK_STREAM:
            with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, kind) as server:
                path = os.path.join(folder, "s")
                server.bind(path)
                server.listen()
                go_on, answer = threading.Event(), os.urandom(sum(sizes))

                def serve():
                    conn, _ = server.accept()
                    unread = bytearray()

                    def hear():
                        while len(unread) < wire.HEADER_SIZE or len(unread) < wire.HEADER_SIZE + wire.parse_header(unread).payload:
                            unread.extend(conn.recv(wire.MAX_MESSAGE))
                        frame = wire.parse_header(unread)
                        del unread[:wire.HEADER_SIZE + frame.payload]
                        return frame

                    def say(said):
                        while said:
                            n = random.randint(1, wire.MAX_MESSAGE)
                            conn.sendall(said[:n])
                            said = said[n:]

                    with conn:
                        hear()
                        say(wire.header(wire.WELCOME, 24) + struct.pack("<HHIIIII", 1, 0, 0, 65536, 1 << 20, 10, 10))
                        say(wire.header(wire.MODEL, len(signature), hear().id, 1) + signature)
                        result = wire.header(wire.RESULT, len(answer), hear().id, 0, 1) + answer
                        say(result[:100_000])
                        if hear().kind != wire.CANCEL:
                            return
                        go_on.wait(30)
                        say(result[100_000:])
                        for behind in [70_000] * 9 + [0]:
                            # Others come before and behind it.
                            nobody = wire.header(wire.RESULT, behind, 1 << 40, 0, 1) + bytes(behind)
                            say(nobody + wire.header(wire.RESULT, len(answer), hear().id, 0, 1) + answer + nobody)
                        while conn.recv(1000):
                            pass

                thread = threading.Thread(target=serve)
                thread.start()
                with Lane(path, timeout=30) as lane:
                    model = lane.model("m")
                    self.fails(Code.DEADLINE_EXCEEDED, model.predict, b"x", timeout=0.2)
                    go_on.set()
                    for _ in range(10):
                        _, parts = lane._predict(model, 1, [memoryview(b"x")], None)
                        self.assertEqual([len(part) for part in parts], sizes)
                        self.assertEqual(b"".join(parts), answer)
                thread.join()


if __name__ == "__main__":
    unittest.main()
