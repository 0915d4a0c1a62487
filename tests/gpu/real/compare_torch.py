#!/usr/bin/env python3
"""Compares the kernels and copies of gpu-check with what PyTorch's profiler says of the same ones.

    compare_torch.py FOLDER     with the gpu-check.json and kernels.ptx that gpu-check has left there
    compare_torch.py --self-test

Repeats each piece of work in this process, on PyTorch's stream: the kernels from the same PTX with the same shapes, the
copies with the same bytes. Their times must agree within 2 % or 2 us, the bytes and directions exactly. Says so and ends
well where there is no PyTorch or no GPU.

Exit status: 0 all agree, or there is nothing to compare; 1 something does not; 2 wrong use.
"""

import ctypes
import json
import os
import statistics
import sys
import tempfile

SHARE = 0.02
NS = 2000
RUNS = 20
# As in the records of CUPTI.
TO_DEVICE, TO_HOST = "HtoD", "DtoH"


def skip(why):
    print(f"!!! SKIPPED the comparison with PyTorch: {why}")
    sys.exit(0)


def agrees(ours_ns, theirs_ns):
    return abs(ours_ns - theirs_ns) <= max(NS, SHARE * theirs_ns)


class Kernels:
    """The kernels of gpu-check, launched through the driver on PyTorch's stream."""

    def __init__(self, path):
        self.driver = ctypes.CDLL("libcuda.so.1")
        module = ctypes.c_void_p()
        with open(path, "rb") as ptx:
            self.check("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.read()))
        self.module = module

    def check(self, name, *arguments):
        code = getattr(self.driver, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name} fails with {code}")

    def launch(self, name, blocks, threads, stream, *arguments):
        function = ctypes.c_void_p()
        self.check("cuModuleGetFunction", ctypes.byref(function), self.module, name.encode())
        addresses = [ctypes.cast(ctypes.byref(argument), ctypes.c_void_p) for argument in arguments]
        parameters = (ctypes.c_void_p * len(arguments))(*addresses)
        shape = [ctypes.c_uint(number) for number in (blocks, 1, 1, threads, 1, 1, 0)]
        self.check("cuLaunchKernel", function, *shape, ctypes.c_void_p(stream), parameters, None)


def repeat(torch, kernels, case, work):
    """Returns a function that does one piece of the work of a case."""
    address = lambda tensor: ctypes.c_uint64(tensor.data_ptr())
    kind = work["kind"]
    if kind == "compute":
        blocks, threads = work["blocks"], work["threads"]
        out = torch.zeros(blocks * threads, device="cuda")
        rounds = ctypes.c_uint(work["rounds"])
        return lambda stream: kernels.launch("compute_bound", blocks, threads, stream, address(out), rounds)
    if kind == "memory":
        n, threads = work["n"], work["threads"]
        out, x, y = (torch.zeros(n, device="cuda") for _ in range(3))
        blocks = -(-n // threads)
        arguments = (address(out), address(x), address(y), ctypes.c_uint(n))
        return lambda stream: kernels.launch("memory_bound", blocks, threads, stream, *arguments)
    if kind == "copy":
        device = torch.zeros(work["bytes"], dtype=torch.uint8, device="cuda")
        host = torch.ones(work["bytes"], dtype=torch.uint8, pin_memory=work["pinned"])
        if work["to_device"]:
            return lambda stream: device.copy_(host, non_blocking=True)
        return lambda stream: host.copy_(device, non_blocking=True)
    if kind == "multiply":
        a, b = (torch.zeros(work["n"], work["n"], device="cuda") for _ in range(2))
        return lambda stream: torch.mm(a, b)
    raise ValueError(f"{case}: nobody knows how to repeat {kind}")


def profile(torch, run):
    """Returns the rows on the device of a trace of RUNS pieces of work."""
    stream = torch.cuda.current_stream().cuda_stream
    for _ in range(3):
        run(stream)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiled:
        for _ in range(RUNS):
            run(stream)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        profiled.export_chrome_trace(path)
        with open(path, encoding="utf-8") as trace:
            return on_device(json.load(trace))


def on_device(trace):
    """Returns name, nanoseconds and bytes of the kernels and copies of a trace."""
    rows = []
    for event in trace["traceEvents"]:
        if event.get("ph") == "X" and event.get("cat") in ("kernel", "gpu_memcpy"):
            rows.append((event["name"], round(event["dur"] * 1000), event.get("args", {}).get("bytes")))
    return rows


def compare(case, rows):
    """Returns what is wrong between a case of gpu-check and PyTorch's rows, and rows of the table."""
    problems, table = [], []
    name, work = case["name"], case["work"]
    if work["kind"] == "copy":
        direction = TO_DEVICE if work["to_device"] else TO_HOST
        ours = {direction: case["median_ns"].get(direction)}
        theirs = [row for row in rows if f"Memcpy {direction}" in row[0]]
        memory = "Pinned" if work["pinned"] else "Pageable"
        if not all(memory in row[0] for row in theirs):
            problems.append(f"{name}: PyTorch's copies are not {memory.lower()}: {theirs[0][0]}")
        if any(row[2] != work["bytes"] for row in theirs):
            problems.append(f"{name}: PyTorch copies {sorted({row[2] for row in theirs})} bytes, we {work['bytes']}")
        copies = case["copies"]
        if copies and (case["to_device_bytes"] + case["to_host_bytes"]) != copies * work["bytes"]:
            problems.append(f"{name}: our bytes are not those of {copies} copies of {work['bytes']}")
    else:
        ours = case["median_ns"]
        wanted = {"compute": "compute_bound", "memory": "memory_bound"}.get(work["kind"])
        if wanted is not None:
            ours = {wanted: ours.get(wanted)}
        theirs = [row for row in rows if wanted is None or row[0] == wanted]
        if wanted is None:
            # A library may pick another kernel for another caller; then there is nothing to compare.
            theirs = [row for row in rows if row[0] in ours]
            if not theirs:
                return problems, [(name, "-", None, None, f"other kernels: {sorted({row[0] for row in rows})[:2]}")]
            ours = {key: ours[key] for key in {row[0] for row in theirs}}
    if not theirs:
        return problems + [f"{name}: PyTorch's profiler has nothing of it"], table
    for what, ours_ns in ours.items():
        matching = theirs if work["kind"] == "copy" else [row for row in theirs if row[0] == what]
        theirs_ns = statistics.median_low([row[1] for row in matching])
        well = ours_ns is not None and agrees(ours_ns, theirs_ns)
        if not well:
            problems.append(f"{name}: one {what} takes {ours_ns} ns by tracing-cortex, {theirs_ns} ns by PyTorch's profiler")
        table.append((name, what, ours_ns, theirs_ns, "yes" if well else "**no**"))
    return problems, table


def markdown(table):
    lines = [
        "| case | one | tracing-cortex, median | PyTorch's profiler, median | agree |",
        "|---|---|---|---|---|",
    ]
    time = lambda ns: "-" if ns is None else f"{ns / 1000:.2f} us"
    lines += [f"| {name} | {what} | {time(ours)} | {time(theirs)} | {well} |" for name, what, ours, theirs, well in table]
    return "\n".join(lines)


def self_test():
    trace = {
        "traceEvents": [
            {"ph": "X", "cat": "kernel", "name": "compute_bound", "dur": 2000.5, "args": {}},
            {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 100, "args": {"bytes": 64}},
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 3, "args": {}},
            {"ph": "s", "cat": "ac2g", "name": "ac2g"},
        ]
    }
    rows = on_device(trace)
    assert rows == [("compute_bound", 2000500, None), ("Memcpy HtoD (Pinned -> Device)", 100000, 64)], rows
    compute = {"name": "compute", "work": {"kind": "compute"}, "median_ns": {"compute_bound": 2030000}}
    assert compare(compute, rows)[0] == []
    compute["median_ns"] = {"compute_bound": 2050000}
    assert len(compare(compute, rows)[0]) == 1
    copy = {
        "name": "copy",
        "work": {"kind": "copy", "bytes": 64, "to_device": True, "pinned": True},
        "median_ns": {"HtoD": 101000},
        "copies": 2,
        "to_device_bytes": 128,
        "to_host_bytes": 0,
    }
    assert compare(copy, rows) == ([], [("copy", "HtoD", 101000, 100000, "yes")])
    for key, value in [("bytes", 65), ("pinned", False), ("to_device", False)]:
        changed = dict(copy, work=dict(copy["work"], **{key: value}))
        assert compare(changed, rows)[0], key
    multiply = {"name": "multiply", "work": {"kind": "multiply"}, "median_ns": {"sgemm": 5}}
    assert compare(multiply, rows)[0] == []
    assert agrees(12000, 10000) and not agrees(12001, 10000)
    assert markdown([("a", "b", None, 1000, "**no**")]).splitlines()[2] == "| a | b | - | 1.00 us | **no** |"
    print("compare_torch.py: self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = sys.argv[1]
    with open(os.path.join(folder, "gpu-check.json"), encoding="utf-8") as report:
        report = json.load(report)
    if report["simulated"]:
        skip("the report is of simulated GPUs")
    try:
        import torch
    except ImportError as why:
        skip(f"PyTorch is not installed for {sys.executable} ({why})")
    if not torch.cuda.is_available():
        skip("PyTorch sees no GPU")
    # Makes the context that the kernels are loaded into.
    torch.zeros(1, device="cuda")
    kernels = Kernels(os.path.join(folder, "kernels.ptx"))
    problems, table = [], []
    for case in report["cases"]:
        if case["work"] is None or case["skipped"] is not None:
            continue
        rows = profile(torch, repeat(torch, kernels, case["name"], case["work"]))
        wrong, of_case = compare(case, rows)
        problems += wrong
        table += of_case
        torch.cuda.empty_cache()
    text = f"PyTorch {torch.__version__}, {torch.cuda.get_device_name(0)}:\n\n{markdown(table)}\n"
    print("\n" + text)
    with open(os.path.join(folder, "gpu-check.md"), "a", encoding="utf-8") as report:
        report.write("\n" + text)
    for problem in problems:
        print(f"FAILED {problem}")
    print(f"{len(table)} compared with PyTorch's profiler, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
