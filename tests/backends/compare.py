#!/usr/bin/env python3
"""Compares the spans that a backend gives out with the spans that the program under test knows of.

    compare.py --backend jaeger|tempo|embedded --url http://127.0.0.1:16686 EXPECTED

EXPECTED has one span a line, in the JSON form of an OTLP span, and the name of its service:

    {"service": "shop", "traceId": "<32 hex digits>", "spanId": "<16 hex digits>", "parentSpanId": "<16 hex digits>" or "",
     "name": "pay", "kind": 1, "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "1700000000000000002",
     "attributes": [{"key": "items", "value": {"intValue": "3"}}],
     "events": [{"timeUnixNano": "...", "name": "...", "attributes": [...]}],
     "links": [{"traceId": "...", "spanId": "...", "attributes": [...]}],
     "status": {"code": 2, "message": "declined"}}

What is not there has the default of OTLP (nothing, 0, ""). "traceState", "flags", "droppedAttributesCount",
"droppedEventsCount", "droppedLinksCount", "scope" (the name of the instrumentation scope) and "resource" (attributes
that the resource must have among others) are compared where a line has them.

Waits until the backend has every span, compares each, and then looks for traces of these services that nobody expected;
those of the --known files are no surprise. Every difference is printed. Exit status: 0 all the same, 1 differences,
2 wrong use.
"""

import argparse
import base64
import json
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

COMPARED = ("service", "parentSpanId", "name", "kind", "start", "end", "attributes", "events", "links", "status")
OPTIONAL = ("traceState", "flags", "droppedAttributesCount", "droppedEventsCount", "droppedLinksCount", "scope")
LINE_KEYS = {
    "service", "traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
    "attributes", "events", "links", "status", "resource", *OPTIONAL,
}  # fmt: skip
KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
STATUSES = ["UNSET", "OK", "ERROR"]
SHOWN_PER_FILE = 50


class WrongUse(Exception):
    pass


# One form for what the program wrote and for what the backends answer.


def hex_id(text):
    """Ids are hexadecimal in OTLP/JSON and base64 where a backend prints protobuf the usual way."""
    text = text or ""
    if len(text) in (0, 16, 32):
        text = text.lower()
    else:
        text = base64.b64decode(text).hex()
    return "" if not text.strip("0") else text


def enum(value, prefix, names):
    if isinstance(value, str) and not value.isdigit():
        return names.index(value.removeprefix(prefix))
    return int(value or 0)


def any_value(value):
    """A value with its type, so that 1, 1.0, true and "1" all differ."""
    if not value:
        return ("empty",)
    if len(value) != 1:
        raise WrongUse(f"a value with more than one type: {value}")
    ((kind, inner),) = value.items()
    if kind == "intValue":
        return ("int", int(inner))
    if kind == "doubleValue":
        # By its bits: NaN equals itself, and 0.0 is not -0.0.
        return ("double", struct.pack(">d", float(inner)).hex(), str(float(inner)))
    if kind == "boolValue":
        return ("bool", bool(inner))
    if kind == "stringValue":
        return ("string", inner)
    if kind == "bytesValue":
        return ("bytes", base64.b64decode(inner).hex())
    if kind == "arrayValue":
        return ("array", [any_value(one) for one in inner.get("values", [])])
    if kind == "kvlistValue":
        return ("map", attributes(inner.get("values", [])))
    raise WrongUse(f"unknown type of value: {kind}")


def key_of(pair):
    return pair[0]


def attributes(pairs):
    """Sorted, because their order means nothing; a list, because a key that is there twice is a fault."""
    return sorted(([pair["key"], any_value(pair.get("value"))] for pair in pairs or []), key=key_of)


def service_of(resource_attributes):
    for key, value in resource_attributes:
        if key == "service.name":
            return value[1]
    return None


def span_of(raw, service, scope, resource):
    status = raw.get("status") or {}
    return {
        "traceId": hex_id(raw.get("traceId")),
        "spanId": hex_id(raw.get("spanId")),
        "parentSpanId": hex_id(raw.get("parentSpanId")),
        "name": raw.get("name", ""),
        "kind": enum(raw.get("kind"), "SPAN_KIND_", KINDS),
        "start": int(raw.get("startTimeUnixNano", 0)),
        "end": int(raw.get("endTimeUnixNano", 0)),
        "attributes": attributes(raw.get("attributes")),
        "events": [
            [int(event.get("timeUnixNano", 0)), event.get("name", ""), attributes(event.get("attributes"))]
            for event in raw.get("events") or []
        ],
        "links": [
            [hex_id(link.get("traceId")), hex_id(link.get("spanId")), attributes(link.get("attributes"))]
            for link in raw.get("links") or []
        ],
        "status": [enum(status.get("code"), "STATUS_CODE_", STATUSES), status.get("message", "")],
        "service": service,
        "scope": scope,
        "resource": resource,
        "traceState": raw.get("traceState", ""),
        "flags": int(raw.get("flags", 0)),
        "droppedAttributesCount": int(raw.get("droppedAttributesCount", 0)),
        "droppedEventsCount": int(raw.get("droppedEventsCount", 0)),
        "droppedLinksCount": int(raw.get("droppedLinksCount", 0)),
    }


def otlp_spans(resource_spans):
    for one in resource_spans or []:
        resource = attributes((one.get("resource") or {}).get("attributes"))
        for scoped in one.get("scopeSpans") or one.get("instrumentationLibrarySpans") or []:
            scope = (scoped.get("scope") or {}).get("name", "")
            for raw in scoped.get("spans") or []:
                yield span_of(raw, service_of(resource), scope, resource)


def read_expected(path):
    """The spans of a file, with the optional keys that each line has."""
    spans = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                raw = json.loads(line)
                unknown = set(raw) - LINE_KEYS
                if unknown:
                    raise WrongUse(f"unknown keys {sorted(unknown)}")
                span = span_of(raw, raw.get("service"), raw.get("scope", ""), attributes(raw.get("resource")))
            except (AttributeError, KeyError, TypeError, ValueError, WrongUse) as error:
                raise WrongUse(f"{where}: {error!r}") from error
            if len(span["traceId"]) != 32 or len(span["spanId"]) != 16:
                raise WrongUse(f"{where}: a span needs a traceId of 32 and a spanId of 16 hexadecimal digits")
            if not span["service"]:
                raise WrongUse(f"{where}: a span needs the name of its service")
            spans.append((span, [key for key in OPTIONAL if key in raw]))
    return spans


# The backends.


def get(url, accept="application/json"):
    """The JSON that is at an address; None where there is nothing (yet)."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise RuntimeError(f"{url} answers {error.code}: {error.read(500)!r}") from error
    return json.loads(body) if body else None


class Jaeger:
    """The third version of Jaeger's API: OTLP/JSON, in nanoseconds."""

    WARNINGS = "@jaeger@warnings"

    def __init__(self, url):
        self.url = url

    def trace(self, trace_id):
        # Raw, or Jaeger merges spans that are there twice.
        answer = get(f"{self.url}/api/v3/traces/{trace_id}?raw_traces=true")
        spans = otlp_spans(answer["result"].get("resourceSpans")) if answer else ()
        return [self.unrepaired(span) for span in spans]

    def unrepaired(self, span):
        """Jaeger makes a span that takes no time 1 ns long and says so in an attribute; this takes both back."""
        repairs = [pair for pair in span["attributes"] if pair[0] == self.WARNINGS]
        if len(repairs) != 1 or span["end"] - span["start"] != 1:
            return span
        kind, texts = repairs[0][1]
        if kind != "array" or len(texts) != 1 or not texts[0][1].startswith("Negative duration detected"):
            return span
        others = [pair for pair in span["attributes"] if pair[0] != self.WARNINGS]
        return {**span, "end": span["start"], "attributes": others}

    def kept(self, span):
        return span

    def trace_ids(self, service, start, end, limit):
        query = urllib.parse.urlencode(
            {"service": service, "start": start // 1000 - 1, "end": end // 1000 + 1, "limit": limit}
        )
        answer = get(f"{self.url}/api/traces?{query}")
        return {trace["traceID"].zfill(32) for trace in (answer or {}).get("data") or []}


class Tempo:
    """Tempo's blocks have no place for the flags of a span; before a trace is in a block it still has them."""

    def __init__(self, url):
        self.url = url

    def trace(self, trace_id):
        answer = get(f"{self.url}/api/traces/{trace_id}")
        return list(otlp_spans(answer.get("batches"))) if answer else []

    def kept(self, span):
        return {key: value for key, value in span.items() if key != "flags"}

    def trace_ids(self, service, start, end, limit):
        query = urllib.parse.urlencode(
            {
                "q": "{resource.service.name = %s}" % json.dumps(service, ensure_ascii=False),
                "start": start // 10**9 - 1,
                "end": end // 10**9 + 2,
                "limit": limit,
            }
        )
        answer = get(f"{self.url}/api/search?{query}")
        # Leading zeros are left out.
        return {trace["traceID"].zfill(32) for trace in (answer or {}).get("traces") or []}


class Embedded:
    """The crate otlp-embedded: the first version of Jaeger's API, and less of a span than came in.

    It keeps no kind, status, scope or attributes of links, counts microseconds, and turns the name of an event into an
    attribute. Without service.instance.id it cannot tell the services of one trace apart.
    """

    def __init__(self, url):
        self.url = url

    def trace(self, trace_id):
        answer = get(f"{self.url}/api/traces/{trace_id}")
        return [self.span_of(raw) for one in (answer or {}).get("data") or [] for raw in one["spans"]]

    def span_of(self, raw):
        references = raw.get("references") or []
        parents = [one["spanID"] for one in references if one["refType"] == "CHILD_OF"]
        return {
            "traceId": raw["traceID"],
            "spanId": raw["spanID"],
            "parentSpanId": parents[0] if parents else "",
            "name": raw["operationName"],
            "start": raw["startTime"],
            "end": raw["startTime"] + raw["duration"],
            "attributes": self.tags(raw["tags"]),
            "events": [[log["timestamp"], None, self.tags(log["fields"])] for log in raw["logs"]],
            "links": [[one["traceID"], one["spanID"], None] for one in references if one["refType"] == "FOLLOWS_FROM"],
        }

    def tags(self, tags):
        types = {"int64": "int", "float64": "double"}
        pairs = [[tag["key"], (types.get(tag["type"], tag["type"]), tag["value"])] for tag in tags]
        return sorted(pairs, key=key_of)

    def kept(self, span):
        start = span["start"] // 1000
        return {
            **{key: span[key] for key in ("traceId", "spanId", "parentSpanId", "name")},
            "start": start,
            "end": start + (span["end"] - span["start"]) // 1000,
            "attributes": self.kept_attributes(span["attributes"]),
            "events": [
                [time_ns // 1000, None, self.kept_attributes(sorted([*pairs, ["message", ("string", name)]], key=key_of))]
                for time_ns, name, pairs in span["events"]
            ],
            "links": [[trace_id, span_id, None] for trace_id, span_id, _ in span["links"]],
        }

    def kept_attributes(self, pairs):
        return [[key, self.kept_value(value)] for key, value in pairs]

    def kept_value(self, value):
        if value[0] == "array":
            return ("string", json.dumps([inner[-1] for inner in value[1]], separators=(",", ":"), ensure_ascii=False))
        return ("double", float(value[2])) if value[0] == "double" else value

    def trace_ids(self, service, start, end, limit):
        # Its search shows only traces whose root is of the service and whose spans all came.
        return None


BACKENDS = {"jaeger": Jaeger, "tempo": Tempo, "embedded": Embedded}


# The comparison.


def show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


def pair_differences(expected, actual):
    """Attribute by attribute, so that one among many is found quickly."""
    for pair in expected:
        if actual.count(pair) < expected.count(pair):
            others = [value for key, value in actual if key == pair[0]]
            yield f"attribute {show(pair[0])}: expected {show(pair[1])}, got {show(others) if others else 'none'}"
    for pair in actual:
        if pair[0] not in [key for key, _ in expected]:
            yield f"attribute {show(pair[0])}: nobody sent it, its value is {show(pair[1])}"
        elif actual.count(pair) > expected.count(pair) > 0:
            yield f"attribute {show(pair[0])}: there {actual.count(pair)} times"


def differences(expected, actual, compared):
    for key in compared:
        if key not in expected or expected[key] == actual[key]:
            continue
        if key == "attributes":
            yield from pair_differences(expected[key], actual[key])
        else:
            yield f"{key}: expected {show(expected[key])}, got {show(actual[key])}"
    for pair in expected.get("resource", ()):
        if pair not in actual["resource"]:
            yield f"resource: expected {show(pair)} among {show(actual['resource'])}"


def compare_trace(backend, wanted, found):
    """The differences between the expected and the actual spans of one trace."""
    by_id = {}
    for span in found:
        by_id.setdefault(span["spanId"], []).append(span)
    for span_id, (expected, optional) in wanted.items():
        there = by_id.pop(span_id, [])
        compared = (*COMPARED, *optional)
        label = f"span {expected['traceId']}/{span_id} {show(expected['name'])}"
        if not there:
            yield f"{label}: missing"
            continue
        if len(there) > 1:
            yield f"{label}: there {len(there)} times"
        for actual in there:
            for difference in differences(backend.kept(expected), actual, compared):
                yield f"{label}: {difference}"
    for span_id, there in by_id.items():
        for actual in there:
            yield f"span {actual['traceId']}/{span_id} {show(actual['name'])}: nobody sent it"


def fetch_all(backend, traces, wait_s):
    """Every trace, once the backend has all of its spans or the time is up."""
    deadline = time.monotonic() + wait_s
    found = {}
    open_ids = list(traces)
    while True:
        for trace_id in open_ids:
            found[trace_id] = backend.trace(trace_id)
        open_ids = [
            trace_id
            for trace_id in open_ids
            if not traces[trace_id].keys() <= {span["spanId"] for span in found[trace_id]}
        ]
        if not open_ids or time.monotonic() > deadline:
            return found, open_ids
        time.sleep(0.2)


def search(backend, spans, known, wait_s):
    """A search by service must find every trace that was expected and none that nobody told of."""
    for service in sorted({span["service"] for span in spans}):
        mine = [span for span in spans if span["service"] == service]
        start, end = min(span["start"] for span in mine), max(span["end"] for span in mine)
        wanted = {span["traceId"] for span in mine}
        deadline = time.monotonic() + wait_s
        while True:
            found = backend.trace_ids(service, start, end, len(known) + 100)
            if found is None:
                return
            if wanted <= found or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        for trace_id in sorted(found - known):
            yield f"trace {trace_id} of service {show(service)}: nobody expected it"
        for trace_id in sorted(wanted - found):
            yield f"trace {trace_id}: a search for service {show(service)} does not find it"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True, choices=sorted(BACKENDS))
    parser.add_argument("--url", required=True, help="address of the query API, without a path")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for spans to arrive (60)")
    parser.add_argument("--settle", type=float, default=1, metavar="SECONDS", help="for spans too many to arrive (1)")
    parser.add_argument("--known", action="append", default=[], metavar="FILE", help="expected in an earlier run")
    parser.add_argument("expected")
    options = parser.parse_args()

    expected = read_expected(options.expected)
    if not expected:
        raise WrongUse(f"{options.expected}: no spans; a comparison with nothing proves nothing")
    traces = {}
    for span, optional in expected:
        wanted = traces.setdefault(span["traceId"], {})
        if span["spanId"] in wanted:
            raise WrongUse(f"{options.expected}: span {span['traceId']}/{span['spanId']} is there twice")
        wanted[span["spanId"]] = (span, optional)
    known = set(traces)
    for path in options.known:
        known.update(span["traceId"] for span, _ in read_expected(path))

    backend = BACKENDS[options.backend](options.url.rstrip("/"))
    begun = time.monotonic()
    found, late = fetch_all(backend, traces, options.wait)
    waited_s = time.monotonic() - begun
    lost = list(search(backend, [span for span, _ in expected], known, max(0, options.wait - waited_s)))
    # What is there twice can come after what completes the trace; and Tempo stores a trace anew to make it searchable.
    time.sleep(options.settle)
    found.update((trace_id, backend.trace(trace_id)) for trace_id in traces)

    problems = []
    for trace_id, wanted in traces.items():
        problems += compare_trace(backend, wanted, found[trace_id])
    problems += lost
    for problem in problems[:SHOWN_PER_FILE]:
        print(f"{options.backend}: {problem}")
    if len(problems) > SHOWN_PER_FILE:
        print(f"{options.backend}: and {len(problems) - SHOWN_PER_FILE} more")
    if late:
        print(f"{options.backend}: {len(late)} of {len(traces)} traces were not complete after {options.wait:g} s")
    got = sum(len(spans) for spans in found.values())
    print(
        f"{options.backend}: {len(expected)} spans in {len(traces)} traces expected, {got} spans found after "
        f"{waited_s:.1f} s, {len(problems)} differences"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError, WrongUse) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        sys.exit(2)
