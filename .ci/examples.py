"""Checks what the examples printed and wrote: python3 .ci/examples.py FOLDER"""

import json
import sys
from collections import Counter
from pathlib import Path

folder = Path(sys.argv[1])
failures = []


def check(holds, what):
    if not holds:
        failures.append(what)


def text(name):
    return (folder / name).read_text(encoding="utf-8")


def spans_of(path):
    """Returns how often each name occurs among the complete (X) and the async (b) events of a trace."""
    trace = json.loads(text(path))
    events = trace["traceEvents"]
    for event in events:
        if event["ph"] == "X":
            check(event["ts"] >= 0 and event["dur"] >= 0, f"{path}: negative time in {event}")
    check(any(e["ph"] == "M" and e["name"] == "thread_name" for e in events), f"{path}: no thread is named")
    complete = Counter(e["name"] for e in events if e["ph"] == "X")
    lanes = Counter(e["name"] for e in events if e["ph"] == "b")
    counters = {e["name"] for e in events if e["ph"] == "C"}
    return complete, lanes, counters


def report_of(name):
    """Checks that the report on stderr names the site that took the most time."""
    report = json.loads(text(f"{name}-report.json"))
    check(report["schema"] == "tracing-cortex/1", f"{name}: schema {report['schema']}")
    losses = report["losses"]
    check(losses["dropped_spans"] == 0, f"{name}: lost {losses['dropped_spans']} span records")
    check(not losses["failures"], f"{name}: {losses['failures']}")
    hottest = report["sites"][0]["name"]
    check(hottest in text(f"{name}.err"), f"{name}: the report does not show {hottest}")
    return report, {site["name"]: site for site in report["sites"]}


# quickstart: tokenise is the bottleneck, below the searches and not below the indexing.
report, sites = report_of("quickstart")
check(report["sites"][0]["name"] == "tokenise", f"quickstart: {report['sites'][0]['name']} leads, not tokenise")
busy = Counter()
for path in report["paths"]:
    if path["path"][-1] == "tokenise":
        busy["excerpt" in path["path"]] += path["busy_ns"]
check(busy[True] > 10 * busy[False], f"quickstart: tokenise took {busy}")
chain = ["serve", "client", "search", "excerpt", "tokenise"]
check(chain in [path["path"] for path in report["paths"]], f"quickstart: no path {' > '.join(chain)}")
complete, lanes, counters = spans_of("quickstart.json")
check(complete["tokenise"] == sites["tokenise"]["calls"], f"quickstart: {complete['tokenise']} tokenise in the trace")
check(lanes["client"] == sites["client"]["calls"] == 12, f"quickstart: {lanes['client']} lanes of clients")
check(len(counters) > 0, "quickstart: no counters")
answers = [line for line in text("quickstart.out").splitlines() if line.startswith("  ")]
check(len(answers) >= 3, "quickstart: fewer than three answers")

# candle checks its own counts; here that the trace agrees.
report, sites = report_of("candle")
complete, _, _ = spans_of("candle.json")
for name, calls in {"batch": 10, "model": 10, "encoder": 10, "layer": 40, "attn": 40, "linear": 240}.items():
    check(sites[name]["calls"] == calls, f"candle: {sites[name]['calls']} calls of {name}")
    check(complete[name] == calls, f"candle: {complete[name]} bars of {name} in the trace")

# compose: two pictures of 32 x 32 tiles.
tiles = 2 * 32 * 32
complete, lanes, counters = spans_of("compose/trace.json")
for name in "render", "tile":
    check(complete[name] == tiles, f"compose: {complete[name]} bars of {name} in the trace")
check(lanes["render"] == 0, "compose: render is drawn as an async task")
rows = Counter(row.split(",")[0] for row in text("compose/spans.csv").splitlines())
check(rows == {"render": tiles, "tile": tiles}, f"compose: the table has {dict(rows)}")
check(any("queue.tiles" in name for name in counters), f"compose: counters {sorted(counters)}")
check("render" in text("compose.err"), "compose: no report")
check("sketched" in text("compose.err"), "compose: the fmt layer printed nothing")

for failure in failures:
    print(failure, file=sys.stderr)
print(f"examples: {len(failures)} failures")
sys.exit(bool(failures))
