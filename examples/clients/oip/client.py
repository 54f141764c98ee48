"""Calls a running Picket daemon with NVIDIA's tritonclient, as any of its users would.

Asks for everything that the client can ask a server of one model over gRPC and over
HTTP, sends the same rows in every way that there is (raw, as JSON numbers, in shared
memory, as a stream, compressed), and compares the answers with --expected and with
each other. Exits with 1 at the first thing that is not as it should be.
"""

import argparse
import queue
import sys

import numpy
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--socket", required=True, help="the daemon's oip socket")
    parser.add_argument("--http", required=True, help="host:port of the daemon's TCP listener")
    parser.add_argument("--name", required=True, help="the name of a loaded model")
    parser.add_argument("--rows", required=True, help="CSV without header; empty fields are missing values")
    parser.add_argument("--expected", required=True, help="CSV without header: what the model must answer, row by row")
    return parser.parse_args()


def read(path):
    """A float32 matrix of a CSV file; an empty field becomes NaN, which means missing."""
    with open(path, encoding="utf-8") as file:
        rows = [[float(field) if field.strip() else float("nan") for field in line.split(",")] for line in file if line.strip()]
    return numpy.array(rows, dtype=numpy.float32)


def check(what, good):
    if not good:
        sys.exit(f"FAILED: {what}")
    print(f"  {what}")


def refused(call, *words):
    """Tells whether the call fails with an error that has the words."""
    try:
        call()
    except InferenceServerException as error:
        return all(word in str(error) for word in words)
    return False


class Both:
    """What both clients are asked alike."""

    def __init__(self, label, module, client, arguments):
        self.label = label
        self.module = module
        self.client = client
        self.name = arguments.name
        self.rows = read(arguments.rows)
        self.expected = read(arguments.expected)[:, :1]

    def check(self, what, good):
        check(f"{self.label}: {what}", good)

    def field(self, answer, *path):
        """A field of an answer, which is a message over gRPC and a dictionary over HTTP."""
        for key in path:
            if isinstance(key, int):
                answer = answer[key]
            elif isinstance(answer, dict):
                answer = answer[key]
            else:
                answer = getattr(answer, key)
        return answer

    def input(self, rows, **options):
        tensor = self.module.InferInput("data", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, **options)
        return tensor

    def same(self, answer):
        return numpy.array_equal(answer, self.reference)

    def metadata(self):
        client = self.client
        self.check("live, ready, model ready", client.is_server_live() and client.is_server_ready() and client.is_model_ready(self.name))
        self.check("another model is not ready", not client.is_model_ready("nobody"))
        server = client.get_server_metadata()
        self.check("server metadata", self.field(server, "name") == "picket" and "statistics" in self.field(server, "extensions"))
        model = client.get_model_metadata(self.name)
        self.check("model metadata", list(self.field(model, "inputs", 0, "shape")) in ([-1, self.rows.shape[1]], ["-1", str(self.rows.shape[1])]))
        config = client.get_model_config(self.name)
        if self.label.startswith("gRPC"):
            config = config.config
        self.check("model config", self.field(config, "max_batch_size") >= len(self.rows) and list(self.field(config, "input", 0, "dims")) == [self.rows.shape[1]])
        index = client.get_model_repository_index()
        entries = index.models if hasattr(index, "models") else index
        self.check("repository index", [(self.field(e, "name"), self.field(e, "state")) for e in entries] == [(self.name, "READY")])
        self.check("unknown models are refused", refused(lambda: client.get_model_metadata("nobody"), "nobody"))

    def infer(self):
        outputs = [self.module.InferRequestedOutput("output")]
        answer = self.client.infer(self.name, [self.input(self.rows)], outputs=outputs, request_id="first")
        self.reference = answer.as_numpy("output")
        response = answer.get_response()
        self.check("the id comes back", self.field(response, "id") == "first")
        self.check(
            "rows as the trainer predicts them",
            self.reference.shape == self.expected.shape and numpy.allclose(self.reference, self.expected, atol=1e-6, rtol=0),
        )
        self.check("one row", numpy.array_equal(self.client.infer(self.name, [self.input(self.rows[:1])]).as_numpy("output"), self.reference[:1]))
        self.check("a version", self.same(self.client.infer(self.name, [self.input(self.rows)], model_version=self.field(response, "model_version")).as_numpy("output")))
        self.check("a timeout that is long enough", self.same(self.client.infer(self.name, [self.input(self.rows)], timeout=60_000_000).as_numpy("output")))
        wrong = self.module.InferInput("data", [1, 3], "FP32")
        wrong.set_data_from_numpy(numpy.zeros((1, 3), dtype=numpy.float32))
        self.check("a wrong shape is refused", refused(lambda: self.client.infer(self.name, [wrong]), "shape"))
        self.check("a wrong version is refused", refused(lambda: self.client.infer(self.name, [self.input(self.rows)], model_version="99"), "version"))

    def statistics(self):
        stats = self.client.get_inference_statistics(self.name)
        one = stats.model_stats[0] if hasattr(stats, "model_stats") else stats["model_stats"][0]
        self.check(
            "statistics",
            int(self.field(one, "inference_count")) >= len(self.rows) and int(self.field(one, "inference_stats", "success", "count")) > 0,
        )

    def reload(self):
        self.client.unload_model(self.name)
        self.check("unloaded", not self.client.is_model_ready(self.name))
        self.client.load_model(self.name)
        self.check("loaded again by its name", self.client.is_model_ready(self.name))
        self.check("models that nobody declared are refused", refused(lambda: self.client.load_model("nobody"), "nobody"))
        self.check("a configuration is refused by name", refused(lambda: self.client.load_model(self.name, config="{}"), "config"))

    def shared_memory(self):
        client = self.client
        client.unregister_system_shared_memory()
        regions = []
        try:
            inside = shared_memory.create_shared_memory_region("in", "/picket-clients-in", self.rows.nbytes)
            regions.append(inside)
            outside = shared_memory.create_shared_memory_region("out", "/picket-clients-out", self.reference.nbytes)
            regions.append(outside)
            shared_memory.set_shared_memory_region(inside, [self.rows])
            client.register_system_shared_memory("in", "/picket-clients-in", self.rows.nbytes)
            client.register_system_shared_memory("out", "/picket-clients-out", self.reference.nbytes)
            status = client.get_system_shared_memory_status()
            self.check("shared memory is listed", len(status.regions if hasattr(status, "regions") else status) == 2)
            tensor = self.module.InferInput("data", list(self.rows.shape), "FP32")
            tensor.set_shared_memory("in", self.rows.nbytes)
            output = self.module.InferRequestedOutput("output")
            output.set_shared_memory("out", self.reference.nbytes)
            client.infer(self.name, [tensor], outputs=[output])
            answer = shared_memory.get_contents_as_numpy(outside, numpy.float32, list(self.reference.shape))
            self.check("rows in shared memory, answers in shared memory", self.same(answer))
            self.check("a region beyond the object is refused", refused(lambda: client.register_system_shared_memory("more", "/picket-clients-in", 1 << 30), "small"))
            self.check("a region that is no object is refused", refused(lambda: client.register_system_shared_memory("none", "/../etc/passwd", 8), "name"))
            client.unregister_system_shared_memory("in")
            self.check("a region that was unregistered is refused", refused(lambda: client.infer(self.name, [tensor], outputs=[output]), "registered"))
        finally:
            client.unregister_system_shared_memory()
            for region in regions:
                shared_memory.destroy_shared_memory_region(region)


def grpc_only(both):
    for compression in ("gzip", "deflate"):
        if compression == "deflate":
            both.check("deflate is refused with a sentence", refused(lambda: both.client.infer(both.name, [both.input(both.rows)], compression_algorithm="deflate"), "ompress"))
        else:
            both.check("gzip", both.same(both.client.infer(both.name, [both.input(both.rows)], compression_algorithm=compression).as_numpy("output")))
    answers = queue.Queue()
    both.client.start_stream(callback=lambda result, error: answers.put((result, error)))
    wrong = both.module.InferInput("data", [1, 3], "FP32")
    wrong.set_data_from_numpy(numpy.zeros((1, 3), dtype=numpy.float32))
    for i in range(20):
        both.client.async_stream_infer(both.name, [both.input(both.rows)], request_id=str(i))
    both.client.async_stream_infer(both.name, [wrong], request_id="wrong")
    both.client.async_stream_infer(both.name, [both.input(both.rows)], request_id="last", enable_empty_final_response=True)
    good = True
    for want in [str(i) for i in range(20)] + ["wrong", "last"]:
        result, error = answers.get(timeout=60)
        if want == "wrong":
            good = good and error is not None and "shape" in str(error)
        else:
            good = good and error is None and result.get_response().id == want and both.same(result.as_numpy("output"))
    both.client.stop_stream()
    both.check("a stream, in order, going on after an error", good)
    pending = queue.Queue()
    for _ in range(50):
        both.client.async_infer(both.name, [both.input(both.rows)], callback=lambda result, error: pending.put((result, error)))
    both.check("fifty calls at once", all(error is None and both.same(result.as_numpy("output")) for result, error in (pending.get(timeout=60) for _ in range(50))))


def http_only(both):
    client, module = both.client, both.module
    for binary_in in (True, False):
        for binary_out in (True, False):
            answer = client.infer(
                both.name, [both.input(both.rows, binary_data=binary_in)], outputs=[module.InferRequestedOutput("output", binary_data=binary_out)]
            )
            both.check(f"binary in {binary_in}, out {binary_out}: the same numbers", both.same(answer.as_numpy("output")))
    for compression in ("gzip", "deflate"):
        answer = client.infer(both.name, [both.input(both.rows)], request_compression_algorithm=compression)
        both.check(compression, both.same(answer.as_numpy("output")))


def main():
    arguments = parse_arguments()
    with tritonclient.grpc.InferenceServerClient("unix:" + arguments.socket) as client:
        both = Both("gRPC", tritonclient.grpc, client, arguments)
        both.metadata()
        both.infer()
        both.shared_memory()
        grpc_only(both)
        both.statistics()
        both.reload()
    with tritonclient.http.InferenceServerClient(arguments.http) as client:
        both = Both("HTTP", tritonclient.http, client, arguments)
        both.metadata()
        both.infer()
        both.shared_memory()
        http_only(both)
        both.statistics()
        both.reload()


if __name__ == "__main__":
    main()
