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
BATCH = 512  # rows of a sample of scenario Offline, which is one request: Python takes longer for a sample than the lane for a row


class Target:
    """What both generators call: one row, or many."""

    def __init__(self, model):
        self.model = model
        columns = model.inputs[0].shape[-1]
        self.rows = numpy.random.default_rng(1).random((ROWS, columns), numpy.float32)

    def one(self, i):
        return self.model.predict(self.rows[i : i + 1])[0]

    def many(self, n):
        """n requests, one after the other."""
        for i in range(n):
            at = i * BATCH % ROWS
            self.model.predict(self.rows[at : at + BATCH])


class Nothing:
    """What the generators take themselves."""

    def one(self, i):
        pass


def by_loadgen(target, scenario, seconds):
    """The figures in MLPerf's summary."""

    def issue(samples):
        if scenario == loadgen.TestScenario.Offline:
            target.many(len(samples))
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
    if scenario == loadgen.TestScenario.Offline:
        settings.offline_expected_qps = target.expected
    loadgen.StartTest(sut, library, settings)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)
    with open("mlperf_log_summary.txt") as f:
        text = f.read()
    names = ("50.00 percentile latency (ns)", "90.00 percentile latency (ns)")
    if scenario == loadgen.TestScenario.Offline:
        names = ("Samples per second",)
    figures = []
    for name in names:
        found = re.search(rf"^{re.escape(name)}\s*:\s*([0-9.e+]+)", text, re.M)
        if not found:
            sys.exit(f"the load generator's summary has no {name}:\n{text}")
        figures.append(float(found.group(1)))
    return [figures[0] * BATCH] if scenario == loadgen.TestScenario.Offline else figures


def by_ours(target, scenario, seconds):
    """The same scenario as picket bench run defines it."""
    random = numpy.random.default_rng(2)
    if scenario == loadgen.TestScenario.Offline:
        n = int(target.expected * seconds)
        start = time.perf_counter()
        target.many(n)
        return [n * BATCH / (time.perf_counter() - start)]
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
    return [float(q) for q in numpy.quantile(took, (0.5, 0.9))]


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
        target.many(100)
        target.expected = 100 / (time.perf_counter() - start)
        both = (
            (loadgen.TestScenario.SingleStream, ("SingleStream, median, ns", "SingleStream, 90th percentile, ns")),
            (loadgen.TestScenario.Offline, ("Offline, rows/s",)),
        )
        empty = by_loadgen(Nothing(), both[0][0], options.seconds)[0], by_ours(Nothing(), both[0][0], options.seconds)[0]
        print(f"SingleStream, median, ns, with nothing to ask: loadgen {empty[0]:.0f}, ours {empty[1]:.0f}")
        for scenario, names in both:
            theirs, ours = [], []
            for turn in range(options.turns):
                sides = [(theirs, by_loadgen), (ours, by_ours)]
                for into, measure in sides if turn % 2 else reversed(sides):
                    into.append(measure(target, scenario, options.seconds))
            for i, name in enumerate(names):
                a, b = (statistics.median(figures[i] for figures in side) for side in (theirs, ours))
                print(f"{name}: loadgen {a:.0f}, ours {b:.0f}, ratio {b / a:.3f}")


main()
