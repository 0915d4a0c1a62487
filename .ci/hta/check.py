"""Compares what Holistic Trace Analysis makes of a Kineto export with the report of the same run.

    check.py FOLDER REPORT.json

Compared are the temporal breakdown of each device, the idle time of each stream by cause, and the kernels by name. Two
times are equal that differ by at most a microsecond or a thousandth.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

from hta.trace_analysis import TraceAnalysis
from hta.utils.utils import get_kernel_type

# The report has no more rows than this.
MOST_KERNELS = 100
GRAPH = "CUDA graph"
# What the analysis takes for a kernel; it leaves out names with "Sync" or "Memset" in them.
KERNEL_TYPES = ("COMPUTATION", "COMMUNICATION")


class Comparison:
    def __init__(self):
        self.compared = 0
        self.wrong = []

    def times(self, what, theirs_us, ours_ns):
        ours_us = ours_ns / 1e3
        self.compared += 1
        if not abs(theirs_us - ours_us) <= max(1.0, abs(ours_us) * 1e-3):
            self.wrong.append(f"{what}: {theirs_us:.3f} us there, {ours_us:.3f} us in the report")

    def equal(self, what, theirs, ours):
        self.compared += 1
        if theirs != ours:
            self.wrong.append(f"{what}: {theirs} there, {ours} in the report")


def has_trace(device):
    if device["kernels"] + device["copies"] + device["sets"] > 0:
        return True
    return device["ranges"] == 0 and device["busy_ns"] > 0


def streams_in(path):
    """Returns context and stream of each stream number of a file."""
    streams = {}
    for event in json.loads(path.read_text())["traceEvents"]:
        args = event.get("args", {})
        if "stream" in args:
            number = args.get("driver_stream", args["stream"])
            streams[args["stream"]] = (args["context"], number)
    return streams


def compare_temporal(comparison, analysis, devices):
    rows = analysis.get_temporal_breakdown(visualize=False).set_index("rank")
    comparison.equal("devices", sorted(rows.index), sorted(devices))
    for rank, row in rows.iterrows():
        device = devices.get(rank)
        if device is None:
            continue
        name = f"device {rank}"
        window, busy = device["window_ns"], device["busy_ns"]
        comparison.times(f"{name}, window", row["kernel_time(us)"], window)
        comparison.times(f"{name}, idle", row["idle_time(us)"], window - busy)
        computing = row["compute_time(us)"] + row["non_compute_time(us)"]
        comparison.times(f"{name}, busy", computing, busy)


def compare_idle(comparison, analysis, rank, device, streams):
    rows, _ = analysis.get_idle_time_breakdown(ranks=[rank], visualize=False)
    theirs = {}
    for row in rows.itertuples():
        theirs[streams[int(row.stream)], row.idle_category] = row.idle_time
    ours = {(row["context"], row["stream"]): row["idle"] for row in device["streams"]}
    comparison.equal(
        f"device {rank}, streams", sorted({queue for queue, _ in theirs}), sorted(ours)
    )
    for queue, idle in ours.items():
        for category, key in [
            ("host_wait", "host_ns"),
            ("kernel_wait", "kernel_ns"),
            ("other", "other_ns"),
        ]:
            what = f"device {rank}, context {queue[0]}, stream {queue[1]}, {category}"
            # A stream with one piece of work has a gap of nothing.
            comparison.times(what, theirs.get((queue, category), 0.0), idle[key])


def compare_kernels(comparison, analysis, ours):
    # All of them by name, none added up as "others".
    _, rows = analysis.get_gpu_kernel_breakdown(
        visualize=False, duration_ratio=1.0, num_kernels=1_000_000, include_memory_kernels=False
    )
    rows = rows[~rows["name"].str.startswith(GRAPH)]
    rows = rows.assign(runs=(rows["sum (us)"] / rows["mean (us)"]).round())
    theirs = rows.groupby("name").agg(
        {"sum (us)": "sum", "min (us)": "min", "max (us)": "max", "runs": "sum"}
    )
    for kernel in ours:
        name = kernel["name"]
        if name not in theirs.index:
            if get_kernel_type(name) in KERNEL_TYPES:
                comparison.wrong.append(f"kernel {name}: not there")
            continue
        row = theirs.loc[name]
        comparison.times(f"kernel {name}, sum", row["sum (us)"], kernel["time_ns"])
        comparison.times(f"kernel {name}, shortest", row["min (us)"], kernel["min_ns"])
        comparison.times(f"kernel {name}, longest", row["max (us)"], kernel["max_ns"])
        # Runs without a length have no mean to divide by.
        if row["sum (us)"] > 0:
            comparison.equal(f"kernel {name}, runs", int(row["runs"]), kernel["runs"])
    if len(ours) < MOST_KERNELS:
        extra = sorted(set(theirs.index) - {kernel["name"] for kernel in ours})
        comparison.equal("kernels that the report lacks", extra, [])


def compare_launches(comparison, analysis, rank, path):
    """Launches must be there under a name that the analysis knows."""
    names = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cudaMemcpyAsync", "cudaMemsetAsync")
    events = json.loads(path.read_text())["traceEvents"]
    started = {e["args"]["correlation"] for e in events if "stream" in e.get("args", {}) and "correlation" in e["args"]}
    launches = {e["args"]["correlation"] for e in events if e["ph"] == "X" and e["name"] in names}
    if not launches & started:
        return
    rows = analysis.get_cuda_kernel_launch_stats(ranks=[rank], visualize=False)[rank]
    comparison.equal(
        f"device {rank}, launches", len(set(rows["correlation"])), len(launches & started)
    )


def main(folder, report):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    gpu = json.loads(Path(report).read_text()).get("gpu")
    files = sorted(Path(folder).glob("device-*.json"))
    devices = {row["ordinal"]: row for row in (gpu or {}).get("devices", []) if has_trace(row)}
    if not files and not devices:
        sys.exit(f"{folder} has no trace and {report} no device: there is nothing to compare")
    if not files:
        sys.exit(f"{folder} has no trace, but {report} has devices {sorted(devices)}")

    comparison = Comparison()
    analysis = TraceAnalysis(trace_dir=str(folder))
    compare_temporal(comparison, analysis, devices)
    for rank, device in devices.items():
        path = Path(folder) / f"device-{rank}.json"
        if path in files:
            compare_idle(comparison, analysis, rank, device, streams_in(path))
            compare_launches(comparison, analysis, rank, path)
    compare_kernels(comparison, analysis, (gpu or {}).get("kernels", []))

    for wrong in comparison.wrong:
        print(f"FAIL {wrong}")
    if comparison.wrong:
        sys.exit(1)
    print(f"ok   {comparison.compared} numbers of {len(files)} devices are those of the analysis")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: check.py FOLDER REPORT.json")
    main(sys.argv[1], sys.argv[2])
