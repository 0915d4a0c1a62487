#!/usr/bin/env python3
"""Sends a handful of spans made by hand, as a program under test would, and writes what it sent.

Reads OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL and EXPECTED_SPANS. The spans have what goes wrong most
easily on the way: nanoseconds, numbers past 2^53, empty and false values, other scripts, links, events, failures.

With `--spill` nothing is sent; SPILL_FILE gets one request a line, as what could not be sent is written down.
With `--duplicate` the first span is sent twice, with `--unannounced` a trace that EXPECTED_SPANS does not tell of.
The check of the check needs both.
"""

import json
import os
import secrets
import subprocess
import struct
import sys
import tempfile
import time
import urllib.request

# OTLP's protobuf, as far as spans need it.


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field_varint(field, number):
    return varint(field << 3) + varint(number)


def field_fixed64(field, number):
    return varint(field << 3 | 1) + struct.pack("<Q", number)


def field_bytes(field, value):
    if isinstance(value, str):
        value = value.encode()
    return varint(field << 3 | 2) + varint(len(value)) + value


def proto_value(value):
    ((kind, inner),) = value.items()
    if kind == "stringValue":
        return field_bytes(1, inner)
    if kind == "boolValue":
        return field_varint(2, int(inner))
    if kind == "intValue":
        return field_varint(3, int(inner))
    if kind == "doubleValue":
        return varint(4 << 3 | 1) + struct.pack("<d", float(inner))
    if kind == "arrayValue":
        return field_bytes(5, b"".join(field_bytes(1, proto_value(one)) for one in inner["values"]))
    raise ValueError(kind)


def proto_attributes(field, pairs):
    return b"".join(
        field_bytes(field, field_bytes(1, pair["key"]) + field_bytes(2, proto_value(pair["value"]))) for pair in pairs
    )


def proto_span(span):
    out = field_bytes(1, bytes.fromhex(span["traceId"])) + field_bytes(2, bytes.fromhex(span["spanId"]))
    out += field_bytes(3, span["traceState"])
    if span["parentSpanId"]:
        out += field_bytes(4, bytes.fromhex(span["parentSpanId"]))
    out += field_bytes(5, span["name"]) + field_varint(6, span["kind"])
    out += field_fixed64(7, int(span["startTimeUnixNano"])) + field_fixed64(8, int(span["endTimeUnixNano"]))
    out += proto_attributes(9, span["attributes"]) + field_varint(10, span["droppedAttributesCount"])
    for event in span["events"]:
        body = field_fixed64(1, int(event["timeUnixNano"])) + field_bytes(2, event["name"])
        out += field_bytes(11, body + proto_attributes(3, event["attributes"]))
    for link in span["links"]:
        body = field_bytes(1, bytes.fromhex(link["traceId"])) + field_bytes(2, bytes.fromhex(link["spanId"]))
        out += field_bytes(13, body + proto_attributes(4, link["attributes"]))
    out += field_bytes(15, field_bytes(2, span["status"]["message"]) + field_varint(3, span["status"]["code"]))
    return out + varint(16 << 3 | 5) + struct.pack("<I", span["flags"])


def proto_request(by_service):
    out = b""
    for service, spans in by_service.items():
        resource = proto_attributes(1, [text("service.name", service)])
        scope = field_bytes(1, field_bytes(1, "hand-made"))
        scoped = scope + b"".join(field_bytes(2, proto_span(span)) for span in spans)
        out += field_bytes(1, field_bytes(1, resource) + field_bytes(2, scoped))
    return out


def json_request(by_service):
    own = ("service", "scope")
    return json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [text("service.name", service)]},
                    "scopeSpans": [
                        {
                            "scope": {"name": "hand-made"},
                            "spans": [{key: span[key] for key in span if key not in own} for span in spans],
                        }
                    ],
                }
                for service, spans in by_service.items()
            ]
        }
    ).encode()


# The spans.


def text(key, value):
    return {"key": key, "value": {"stringValue": value}}


def whole(key, value):
    return {"key": key, "value": {"intValue": str(value)}}


def span(trace_id, parent, name, start, end, service="hand-made", **others):
    return {
        "service": service,
        "scope": "hand-made",
        "traceId": trace_id,
        "spanId": others.pop("span_id", None) or secrets.token_hex(8),
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": [],
        "events": [],
        "links": [],
        "status": {"code": 0, "message": ""},
        "traceState": "",
        "flags": 1,
        "droppedAttributesCount": 0,
        **others,
    }


def make_spans():
    # A few seconds ago, with all nine digits in use.
    t = time.time_ns() // 1_000_000_000 * 1_000_000_000 - 5_000_000_000 + 123_456_789
    first, second, third = (secrets.token_hex(16) for _ in range(3))
    # Ids are numbers to some backends: leading zeros must stay.
    second = "0000000000000000" + second[16:]
    root = span(first, "", "request", t, t + 1_000_000_001, kind=2, traceState="vendor=1,other=two", flags=257)
    child = span(
        first,
        root["spanId"],
        "child",
        t + 1,
        t + 999,
        span_id="00" + secrets.token_hex(7),
        attributes=[
            whole("largest", 2**63 - 1),
            whole("smallest", -(2**63)),
            whole("past the doubles", 2**53 + 1),
            whole("zero", 0),
            text("empty", ""),
            text("digits", "17"),
            {"key": "no", "value": {"boolValue": False}},
            {"key": "yes", "value": {"boolValue": True}},
            {"key": "third", "value": {"doubleValue": 1 / 3}},
            {"key": "whole", "value": {"doubleValue": 2.0}},
            {"key": "tiny", "value": {"doubleValue": 5e-324}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}},
        ],
        droppedAttributesCount=3,
    )
    grandchild = span(
        first,
        child["spanId"],
        "größer: 計測 🕰 \"quoted\" <&> \\",
        t + 2,
        t + 2,
        kind=3,
        attributes=[text("ключ", "zwei\nZeilen\tund ein \u0001"), text("long", "x" * 1500)],
        events=[
            {"timeUnixNano": str(t + 2), "name": "first", "attributes": []},
            {"timeUnixNano": str(t + 3), "name": "段階", "attributes": [whole("n", -5), text("level", "WARN")]},
            {"timeUnixNano": str(t + 3), "name": "", "attributes": []},
        ],
        status={"code": 2, "message": "déclined: «no»"},
    )
    linked = span(
        second,
        "",
        "linked",
        t + 10,
        t + 20,
        kind=5,
        links=[
            {"traceId": first, "spanId": grandchild["spanId"], "attributes": [text("why", "follows")]},
            {"traceId": third, "spanId": "00000000000000ab", "attributes": []},
        ],
        status={"code": 1, "message": ""},
    )
    orphan = span(third, "00000000000000cd", "its parent is elsewhere", t + 30, t + 31, kind=4)
    other = span(third, orphan["spanId"], "of another service", t + 30, t + 31, service="hand-made-two", kind=2)
    return [root, child, grandchild, linked, orphan, other]


def send(spans):
    endpoint = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"].rstrip("/")
    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    by_service = {}
    for one in spans:
        by_service.setdefault(one["service"], []).append(one)
    if protocol == "grpc":
        send_grpc(endpoint, proto_request(by_service))
        return
    kind, body = {
        "http/protobuf": ("application/x-protobuf", proto_request),
        "http/json": ("application/json", json_request),
    }[protocol]
    request = urllib.request.Request(f"{endpoint}/v1/traces", body(by_service), {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def send_grpc(endpoint, message):
    """One call is one HTTP/2 request, which curl can make; the outcome is in a trailer."""
    with tempfile.NamedTemporaryFile() as frame, tempfile.NamedTemporaryFile("r") as headers:
        frame.write(b"\0" + struct.pack(">I", len(message)) + message)
        frame.flush()
        command = ["curl", "--silent", "--show-error", "--max-time", "10", "--http2-prior-knowledge"]
        command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
        command += ["--data-binary", f"@{frame.name}", "--dump-header", headers.name, "--output", os.devnull]
        subprocess.run(
            [*command, f"{endpoint}/opentelemetry.proto.collector.trace.v1.TraceService/Export"], check=True
        )
        answer = headers.read()
    if "grpc-status: 0" not in answer:
        sys.exit(f"the call failed:\n{answer}")


def main():
    spans = make_spans()
    with open(os.environ["EXPECTED_SPANS"], "w", encoding="utf-8") as file:
        for one in spans:
            print(json.dumps(one, ensure_ascii=False), file=file)
    if "--duplicate" in sys.argv:
        spans.append(spans[0])
    if "--unannounced" in sys.argv:
        now = time.time_ns()
        spans.append(span(secrets.token_hex(16), "", "unannounced", now - 5_000_000_000, now - 4_999_000_000))
    if "--spill" in sys.argv:
        with open(os.environ["SPILL_FILE"], "wb") as file:
            for one in spans:
                file.write(json_request({one["service"]: [one]}) + b"\n")
        return
    send(spans)


if __name__ == "__main__":
    main()
