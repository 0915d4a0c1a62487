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


def expected_spans(prefix):
    """Reads what the processes of a program wrote down as their spans, by the name of the service."""
    spans = {}
    for path in folder.glob(f"{prefix}.*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            span = json.loads(line)
            spans.setdefault(span["service"], []).append(span)
    ids = [span["spanId"] for one in spans.values() for span in one]
    check(len(ids) == len(set(ids)), f"{prefix}: a span id is there twice")
    return spans


def check_nothing_sent(name, report, spans):
    """Nobody listened: each span must have been given up, and said so."""
    (account,) = report["exports"]
    check(account["exported"] == account["pending"] == 0, f"{name}: sent to nobody: {account}")
    check(account["dropped"] == len(spans), f"{name}: {len(spans)} spans, but {account}")
    check(account["last_error"], f"{name}: no reason why nothing was sent")


# otlp: one trace; its spans by name, and the links between them.
spans = expected_spans("otlp-spans")["post-office"]
names = Counter(span["name"] for span in spans)
check(
    names == {"day": 1, "accept": 5, "weigh": 9, "deliver all": 1, "route": 4},
    f"otlp: {dict(names)}",
)
check(len({span["traceId"] for span in spans}) == 1, "otlp: more than one trace")
by_id = {span["spanId"]: span for span in spans}
parents = Counter(
    (span["name"], by_id[span["parentSpanId"]]["name"]) for span in spans if span["parentSpanId"]
)
check(parents["weigh", "accept"] == 5 and parents["weigh", "route"] == 4, f"otlp: {dict(parents)}")
for span in spans:
    if span["name"] == "deliver all":
        linked = Counter(by_id[link["spanId"]]["name"] for link in span["links"])
        check(linked == {"accept": 4}, f"otlp: linked with {dict(linked)}")
failed = [span for span in spans if span["status"].get("code") == 2]
check([span["name"] for span in failed] == ["accept"], f"otlp: {len(failed)} spans failed")
check(f"trace {spans[0]['traceId']}" in text("otlp.out"), "otlp: its trace is not named")
check(f"{len(spans)} dropped" in text("otlp.out"), f"otlp: the loss is not named: {text('otlp.out')}")

# service: two processes, a trace for each visit, and one query or 51.
visits = 3
queries = {"good": {"orders_with_items": 1}, "n_plus_1": {"orders": 1, "items_of": 50}}
reports = {
    name: json.loads(text(f"service/{name}.report.json")) for name in ("shop-client", "shop-server")
}
paths = {tuple(path["path"]): path["calls"] for path in reports["shop-server"]["paths"]}
for route, expected in queries.items():
    check(paths.get(("request", route)) == visits, f"service: {paths.get(('request', route))} requests of {route}")
    found = {path[2]: calls / visits for path, calls in paths.items() if path[:2] == ("request", route) and path[2:]}
    check(found == expected, f"service: {route} asks the database {found} times a request")
spans = expected_spans("service/spans")
for name, report in reports.items():
    check(report["losses"]["dropped_spans"] == 0, f"{name}: lost {report['losses']}")
    check_nothing_sent(name, report, spans.get(name, []))
spans = [span for one in spans.values() for span in one]
by_id = {span["spanId"]: span for span in spans}
requests = [span for span in spans if span["kind"] == 2]
check(len(requests) == 2 * visits, f"service: {len(requests)} requests")
for span in requests:
    client = by_id.get(span["parentSpanId"], {})
    check(
        client.get("service") == "shop-client" and client.get("traceId") == span["traceId"],
        f"service: {span['name']} is not under the client's span",
    )
printed = [line.split()[-1] for line in text("service.out").splitlines() if line.startswith("visit ")]
check(len(printed) == visits, f"service: {len(printed)} visits")
for trace in printed:
    in_trace = Counter((span["service"], span["name"]) for span in spans if span["traceId"] == trace)
    check(
        in_trace == {
            ("shop-client", "visit"): 1,
            ("shop-client", "GET"): 2,
            ("shop-server", "GET /orders/good"): 1,
            ("shop-server", "GET /orders/n-plus-1"): 1,
            ("shop-server", "good"): 1,
            ("shop-server", "n_plus_1"): 1,
            ("shop-server", "SELECT orders items"): 1,
            ("shop-server", "SELECT orders"): 1,
            ("shop-server", "SELECT items"): 50,
        },
        f"service: trace {trace} has {dict(in_trace)}",
    )

for failure in failures:
    print(failure, file=sys.stderr)
print(f"examples: {len(failures)} failures")
sys.exit(bool(failures))
