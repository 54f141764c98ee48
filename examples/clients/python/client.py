"""Calls a running Picket daemon the way programs for the Edge Manager agent do.

Loads a model, lists the models, sends the same rows once as bytes and once
through System V shared memory, unloads the model, and prints what came back.
Exits with 1 when the two answers differ, or differ from --expected.

The daemon matches the client's user to the owner of the shared memory, and reads
it, so both must share an IPC namespace, and the daemon must run as the same user
or as root.
"""

import argparse
import contextlib
import sys
import time

import grpc
import numpy
import sysv_ipc

import agent_pb2
import agent_pb2_grpc

# The agent's types and what they are in numpy; every tensor is little-endian.
DTYPES = {
    agent_pb2.UINT8: "<u1",
    agent_pb2.INT16: "<i2",
    agent_pb2.INT32: "<i4",
    agent_pb2.INT64: "<i8",
    agent_pb2.FLOAT16: "<f2",
    agent_pb2.FLOAT32: "<f4",
    agent_pb2.FLOAT64: "<f8",
}

# A message may carry tensors of many megabytes; grpc's own limit is 4 MiB.
MAX_MESSAGE = 80 * 1024 * 1024


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--socket", required=True, help="the daemon's agent socket")
    parser.add_argument("--name", required=True, help="the name to load the model under")
    parser.add_argument("--model", required=True, help="the model's directory")
    parser.add_argument("--rows", required=True, help="CSV without header; empty fields are missing values")
    parser.add_argument("--expected", help="CSV without header: what the model must answer, row by row")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="largest difference from --expected")
    return parser.parse_args()


def read_rows(path):
    """A float64 matrix of a CSV file; an empty field becomes NaN, which means missing."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                rows.append([float(field) if field.strip() else float("nan") for field in line.split(",")])
    if not rows:
        raise SystemExit(f"{path} has no rows")
    if len({len(row) for row in rows}) != 1:
        raise SystemExit(f"{path} has rows of different lengths")
    return numpy.array(rows)


@contextlib.contextmanager
def shared_memory(data):
    """A System V segment that holds data: written, made read-only, removed at the end."""
    segment = sysv_ipc.SharedMemory(None, flags=sysv_ipc.IPC_CREX, mode=0o600, size=len(data))
    try:
        segment.write(data)
        segment.mode = 0o400
        yield segment
    finally:
        segment.detach()
        segment.remove()


def input_metadata(model, shape):
    """The model's own description of its first input, with the shape of these rows."""
    if not model.input_tensor_metadatas:
        raise SystemExit("the model does not say what its input is")
    described = model.input_tensor_metadatas[0]
    return agent_pb2.TensorMetadata(name=described.name, data_type=described.data_type, shape=shape)


def answer(response):
    """The output tensors of a prediction as (name, array) pairs, in the model's order."""
    outputs = []
    for tensor in response.tensors:
        metadata = tensor.tensor_metadata
        array = numpy.frombuffer(tensor.byte_data, DTYPES[metadata.data_type]).reshape(metadata.shape)
        outputs.append((metadata.name.decode(), array))
    return outputs


def timed(what, call, request):
    start = time.perf_counter()
    response = call(request)
    print(f"{what:<28} {(time.perf_counter() - start) * 1e3:8.2f} ms")
    return response


def same(left, right):
    return len(left) == len(right) and all(
        a_name == b_name and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for (a_name, a), (b_name, b) in zip(left, right)
    )


def describe(metadata):
    return f"{metadata.name.decode()} {agent_pb2.DataType.Name(metadata.data_type)} {list(metadata.shape)}"


def predict_both_ways(agent, name, model, rows):
    """The answers to the same rows, sent as bytes and through shared memory."""
    metadata = input_metadata(model, rows.shape)
    data = rows.astype(DTYPES[metadata.data_type]).tobytes()

    tensor = agent_pb2.Tensor(tensor_metadata=metadata, byte_data=data)
    by_bytes = answer(timed("Predict (bytes)", agent.Predict, agent_pb2.PredictRequest(name=name, tensors=[tensor])))

    with shared_memory(data) as segment:
        # Size and offset stay 0: from the start, as many bytes as the tensor needs.
        handle = agent_pb2.SharedMemoryHandle(segment_id=segment.id)
        tensor = agent_pb2.Tensor(tensor_metadata=metadata, shared_memory_handle=handle)
        request = agent_pb2.PredictRequest(name=name, tensors=[tensor])
        by_memory = answer(timed("Predict (shared memory)", agent.Predict, request))
    return by_bytes, by_memory


def print_outputs(outputs):
    for name, array in outputs:
        print(f"\n{name} {array.dtype} {list(array.shape)}")
        for i, row in enumerate(array.reshape(array.shape[0], -1)[:5]):
            print(f"  row {i}: {' '.join(f'{value:.6g}' for value in row[:8])}")
        if array.shape[0] > 5:
            print(f"  and {array.shape[0] - 5} more")


def check(by_bytes, by_memory, arguments):
    """Prints and returns whether the answers are as they should be."""
    good = same(by_bytes, by_memory)
    print("\nbytes and shared memory answer " + ("the same, bit for bit" if good else "DIFFERENTLY"))
    if arguments.expected:
        expected = read_rows(arguments.expected)
        if not by_bytes or by_bytes[0][1].size != expected.size:
            print(f"{arguments.expected} has another number of values than the first output")
            return False
        # A NaN on either side is a difference, so the comparison must come out true.
        difference = float(numpy.abs(by_bytes[0][1].reshape(-1).astype(float) - expected.reshape(-1)).max())
        close = difference <= arguments.tolerance
        print(f"largest difference from the expected values: {difference:.3g}" + ("" if close else ", which is TOO MUCH"))
        good = good and close
    return good


def main():
    arguments = parse_arguments()
    rows = read_rows(arguments.rows)
    options = [("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.max_receive_message_length", MAX_MESSAGE)]
    with grpc.insecure_channel("unix:" + arguments.socket, options=options) as channel:
        agent = agent_pb2_grpc.AgentStub(channel)
        load = agent_pb2.LoadModelRequest(url=arguments.model, name=arguments.name)
        timed("LoadModel", agent.LoadModel, load)
        try:
            models = timed("ListModels", agent.ListModels, agent_pb2.ListModelsRequest()).models
            model = next((m for m in models if m.name == arguments.name), None)
            if model is None:
                print("ListModels does not show the model that was just loaded")
                return 1
            by_bytes, by_memory = predict_both_ways(agent, arguments.name, model, rows)
        finally:
            timed("UnLoadModel", agent.UnLoadModel, agent_pb2.UnLoadModelRequest(name=arguments.name))
        if any(m.name == arguments.name for m in agent.ListModels(agent_pb2.ListModelsRequest()).models):
            print("ListModels still shows the model that was unloaded")
            return 1

    print(f"\n{rows.shape[0]} rows for {arguments.name}")
    print("  inputs:  " + ", ".join(describe(m) for m in model.input_tensor_metadatas))
    print("  outputs: " + ", ".join(describe(m) for m in model.output_tensor_metadatas))
    print_outputs(by_bytes)
    return 0 if check(by_bytes, by_memory, arguments) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
