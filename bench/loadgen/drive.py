"""Drives a lane with MLPerf's load generator and with a loop of ours, in turns, and prints what each finds."""

import argparse
import re
import statistics
import sys
import time

import mlperf_loadgen as loadgen
import numpy

from picket_lane import Lane

ROWS = 4096
BATCH = 512  # rows of a request of scenario Offline


class Target:
    """What both generators call: one row, or many."""

    def __init__(self, model):
        self.model = model
        columns = model.inputs[0].shape[-1]
        self.rows = numpy.random.default_rng(1).random((ROWS, columns), numpy.float32)

    def one(self, i):
        return self.model.predict(self.rows[i : i + 1])[0]

    def many(self, indices):
        for i in range(0, len(indices), BATCH):
            self.model.predict(self.rows[indices[i : i + BATCH]])


def by_loadgen(target, scenario, seconds):
    """The figure in MLPerf's summary."""

    def issue(samples):
        if scenario == loadgen.TestScenario.Offline:
            target.many(numpy.array([s.index for s in samples]))
        else:
            for s in samples:
                target.one(s.index)
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    sut = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(ROWS, ROWS, lambda _: None, lambda _: None)
    settings = loadgen.TestSettings()
    settings.scenario = scenario
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = 64
    settings.single_stream_expected_latency_ns = 50_000
    settings.offline_expected_qps = target.expected
    loadgen.StartTest(sut, library, settings)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)
    with open("mlperf_log_summary.txt") as f:
        text = f.read()
    name = r"90\.00 percentile latency \(ns\)|90th percentile latency \(ns\)" if scenario == loadgen.TestScenario.SingleStream else "Samples per second"
    found = re.search(rf"^(?:{name})\s*:\s*([0-9.e+]+)", text, re.M)
    if not found:
        sys.exit("the load generator's summary has no figure:\n" + text)
    return float(found.group(1))


def by_ours(target, scenario, seconds):
    """The same scenario as picket bench run defines it."""
    random = numpy.random.default_rng(2)
    if scenario == loadgen.TestScenario.Offline:
        indices = random.integers(0, ROWS, int(target.expected * seconds))
        start = time.perf_counter()
        target.many(indices)
        return len(indices) / (time.perf_counter() - start)
    took = []
    order = random.integers(0, ROWS, 1 << 16)
    end = time.perf_counter_ns() + int(1e9 * seconds)
    now = 0
    while now < end:
        i = int(order[len(took) % len(order)])
        start = time.perf_counter_ns()
        target.one(i)
        now = time.perf_counter_ns()
        took.append(now - start)
    return float(numpy.quantile(took, 0.9))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    with Lane(options.socket) as lane:
        for _ in range(200):
            try:
                target = Target(lane.model(options.model))
                break
            except Exception as error:  # the daemon is still loading it
                last = error
                time.sleep(0.05)
        else:
            raise last
        start = time.perf_counter()
        target.many(numpy.arange(ROWS))
        target.expected = ROWS / (time.perf_counter() - start)
        for name, scenario, unit in (("SingleStream", loadgen.TestScenario.SingleStream, "ns, 90th percentile"), ("Offline", loadgen.TestScenario.Offline, "rows/s")):
            theirs, ours = [], []
            for turn in range(options.turns):
                sides = [(theirs, by_loadgen), (ours, by_ours)]
                for into, measure in sides if turn % 2 else reversed(sides):
                    into.append(measure(target, scenario, options.seconds))
            a, b = statistics.median(theirs), statistics.median(ours)
            print(f"{name}: loadgen {a:.0f}, ours {b:.0f} {unit}, ratio {b / a:.3f}")


main()
