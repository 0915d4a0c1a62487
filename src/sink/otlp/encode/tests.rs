//! What was encoded, read back with the generated types of `opentelemetry-proto`.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span, status};
use proptest::prelude::*;
use prost::Message;

use super::event::MAX_NAME_BYTES;
use super::*;
use crate::model::{
    FOLLOWS_FROM_INDEX, FieldWriter, Fields, Ids, Level, Link, Nanos, OperationEvent, SpanId,
    SpanSeq, TraceId,
};

const ANCHOR: WallAnchor = WallAnchor {
    unix_ns: 1_763_700_000_123_456_789,
};

/// An operation that owns what it is made of.
struct Made {
    site: Site,
    thread: Thread,
    ids: Ids,
    name: Option<String>,
    fields: Vec<u8>,
    events: Vec<(Site, u64, Level, Vec<u8>)>,
    dropped_events: u32,
    start: u64,
    end: u64,
    busy: u64,
    activations: u32,
    unfinished: bool,
}

type Named<'a> = (&'static str, Value<'a>);

fn text(text: &str) -> Value<'_> {
    Value::Str { text, cut: false }
}

fn names<'a>(fields: &'a [Named<'a>]) -> impl Iterator<Item = &'static str> + 'a {
    fields.iter().map(|(name, _)| *name)
}

fn written(fields: &[Named<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FieldWriter::new(&mut bytes, usize::MAX);
    for (index, (_, value)) in fields.iter().enumerate() {
        writer.write(u8::try_from(index).unwrap(), *value);
    }
    bytes
}

fn made(fields: &[Named<'_>]) -> Made {
    let site = Site::new(SiteId(3), "load", "app::db", Some("src/db.rs"), Some(71));
    Made {
        site: site.with_fields(names(fields)),
        thread: Thread::new(2, Some(4711), Some("worker".into())),
        ids: Ids::root(TraceId(7 << 64 | 9), SpanId(5)),
        name: None,
        fields: written(fields),
        events: Vec::new(),
        dropped_events: 0,
        start: 1_000,
        end: 5_000,
        busy: 1_500,
        activations: 1,
        unfinished: false,
    }
}

impl Made {
    fn event(mut self, at: u64, level: Level, fields: &[Named<'_>]) -> Made {
        let site = Site::new(
            SiteId(9),
            "event src/db.rs:80",
            "app::log",
            Some("src/db.rs"),
            Some(80),
        );
        let site = site.with_fields(names(fields));
        self.events.push((site, at, level, written(fields)));
        self
    }

    fn with<T>(&self, read: impl FnOnce(&Operation<'_>) -> T) -> T {
        let events: Vec<_> = self
            .events
            .iter()
            .map(|(site, at, level, fields)| OperationEvent {
                site,
                at: Nanos(*at),
                level: *level,
                fields: Fields::new(site, fields),
            })
            .collect();
        read(&Operation {
            ids: self.ids,
            span: SpanSeq(1),
            site: &self.site,
            name: self.name.as_deref(),
            thread: &self.thread,
            start: Nanos(self.start),
            end: Nanos(self.end),
            busy: Nanos(self.busy),
            activations: self.activations,
            fields: Fields::new(&self.site, &self.fields),
            events: &events,
            dropped_events: self.dropped_events,
            unfinished: self.unfinished,
        })
    }

    /// Encodes twice, the second time with what the encoder has learned, and decodes both.
    fn span(&self) -> Span {
        let mut encoder = SpanEncoder::new(ANCHOR);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let failed = self.with(|operation| encoder.append(&mut first, operation));
        self.with(|operation| encoder.append(&mut second, operation));
        assert_eq!(first, second);
        let span = only_span(&first);
        let status = span.status.as_ref().map_or(0, |status| status.code);
        assert_eq!(failed, status == status::StatusCode::Error as i32);
        span
    }
}

fn spans(bytes: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(request(&[], bytes).as_slice()).unwrap();
    request.resource_spans[0].scope_spans[0].spans.clone()
}

fn only_span(bytes: &[u8]) -> Span {
    let [span] = <[Span; 1]>::try_from(spans(bytes)).unwrap();
    span
}

/// The attributes by key; no key may stand there twice.
fn by_key(attributes: &[KeyValue]) -> BTreeMap<String, any_value::Value> {
    let mut map = BTreeMap::new();
    for attribute in attributes {
        let value = attribute.value.clone().unwrap().value.unwrap();
        let earlier = map.insert(attribute.key.clone(), value);
        assert!(earlier.is_none(), "{} twice", attribute.key);
    }
    map
}

fn string(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn int(value: i64) -> any_value::Value {
    any_value::Value::IntValue(value)
}

/// What OTLP makes of a value.
fn expected(value: Value<'_>) -> any_value::Value {
    let whole = |number: Result<i64, std::num::TryFromIntError>, printed: String| {
        number.map_or(string(&printed), int)
    };
    match value {
        Value::Bool(value) => any_value::Value::BoolValue(value),
        Value::I64(value) => int(value),
        Value::U64(value) => whole(i64::try_from(value), value.to_string()),
        Value::I128(value) => whole(i64::try_from(value), value.to_string()),
        Value::U128(value) => whole(i64::try_from(value), value.to_string()),
        Value::F64(value) => any_value::Value::DoubleValue(value),
        Value::Str { text, .. } => string(text),
    }
}

fn status_of(span: &Span) -> (i32, &str) {
    let status = span.status.as_ref();
    status.map_or((0, ""), |status| (status.code, status.message.as_str()))
}

#[test]
fn a_span_carries_what_is_known_of_the_operation() {
    let mut made = made(&[("rows", Value::U64(17)), ("table", text("users"))]);
    made.ids.parent = Some(SpanId(0xfeed));
    let span = made.span();
    assert_eq!(span.trace_id, (7_u128 << 64 | 9).to_be_bytes());
    assert_eq!(span.span_id, 5_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xfeed_u64.to_be_bytes());
    assert_eq!(span.name, "load");
    assert_eq!(span.kind(), span::SpanKind::Internal);
    assert_eq!(span.start_time_unix_nano, ANCHOR.unix_ns + 1_000);
    assert_eq!(span.end_time_unix_nano, ANCHOR.unix_ns + 5_000);
    assert_eq!(span.flags, 0x101);
    assert_eq!(span.trace_state, "");
    assert_eq!(span.status, None);
    assert_eq!(span.dropped_attributes_count, 0);
    let attributes: BTreeMap<_, _> = [
        ("rows", int(17)),
        ("table", string("users")),
        ("code.file.path", string("src/db.rs")),
        ("code.line.number", int(71)),
        ("code.module.name", string("app::db")),
        ("thread.id", int(4711)),
        ("thread.name", string("worker")),
        ("busy_ns", int(1_500)),
        ("idle_ns", int(2_500)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    assert_eq!(by_key(&span.attributes), attributes);
}

#[test]
fn a_root_has_no_parent_and_a_remote_parent_is_marked() {
    let mut made = made(&[]);
    assert!(made.span().parent_span_id.is_empty());
    made.ids.parent = Some(SpanId(1));
    made.ids.parent_is_remote = true;
    assert_eq!(made.span().flags, 0x301);
    made.ids.sampled = false;
    assert_eq!(made.span().flags, 0x300);
}

#[test]
fn what_is_unusual_about_an_operation_is_said() {
    let mut made = made(&[]);
    made.activations = 12;
    made.unfinished = true;
    made.dropped_events = 300;
    made.thread = Thread::new(2, None, None);
    made.name = Some("GET /users".to_owned());
    let span = made.span();
    let attributes = by_key(&span.attributes);
    assert_eq!(span.name, "GET /users");
    assert_eq!(span.dropped_events_count, 300);
    assert_eq!(attributes["cortex.activations"], int(12));
    assert_eq!(
        attributes["cortex.unfinished"],
        any_value::Value::BoolValue(true)
    );
    assert_eq!(attributes["thread.id"], int(2));
    assert!(!attributes.contains_key("thread.name"));
}

#[test]
fn a_field_of_the_program_wins_over_ours() {
    let span = made(&[
        ("thread.name", text("mine")),
        ("busy_ns", text("little")),
        ("code.line.number", Value::I64(-1)),
    ])
    .span();
    let attributes = by_key(&span.attributes);
    assert_eq!(attributes["thread.name"], string("mine"));
    assert_eq!(attributes["busy_ns"], string("little"));
    assert_eq!(attributes["code.line.number"], int(-1));
    assert_eq!(attributes["code.file.path"], string("src/db.rs"));
}

#[test]
fn otel_fields_say_what_the_span_is_and_are_no_attributes() {
    for (said, kind) in [
        ("server", span::SpanKind::Server),
        ("CLIENT", span::SpanKind::Client),
        ("Producer", span::SpanKind::Producer),
        ("consumer", span::SpanKind::Consumer),
        ("internal", span::SpanKind::Internal),
    ] {
        let span = made(&[("otel.kind", text(said)), ("otel.name", text("x"))]).span();
        assert_eq!(span.kind(), kind);
        let attributes = by_key(&span.attributes);
        assert!(attributes.keys().all(|key| !key.starts_with("otel.")));
    }
    let span = made(&[("otel.kind", text("sevrer"))]).span();
    assert_eq!(span.kind(), span::SpanKind::Internal);
    assert_eq!(by_key(&span.attributes)["otel.kind"], string("sevrer"));
}

#[test]
fn the_status_follows_fields_and_events() {
    let failed = status::StatusCode::Error as i32;
    let fine = status::StatusCode::Ok as i32;
    let truth = Value::Bool(true);
    let code = |said| ("otel.status_code", text(said));
    let why = ("otel.status_description", text("too late"));
    let said = [("message", text("gave up"))];
    for (fields, event, expected) in [
        (vec![], None, (0, "")),
        (vec![("error", Value::Bool(false))], None, (0, "")),
        (vec![("error", truth)], None, (failed, "")),
        (
            vec![("error", text("no route"))],
            None,
            (failed, "no route"),
        ),
        (vec![("error", Value::I64(5))], None, (failed, "5")),
        (vec![code("OK")], None, (fine, "")),
        (vec![code("error")], None, (failed, "")),
        (vec![code("ERROR"), why], None, (failed, "too late")),
        (vec![why], None, (0, "")),
        (vec![why, ("error", text("no"))], None, (failed, "too late")),
        (vec![], Some(Level::Error), (failed, "gave up")),
        (vec![], Some(Level::Warn), (0, "")),
        (vec![code("ok")], Some(Level::Error), (fine, "")),
        (vec![code("ok"), ("error", truth)], None, (fine, "")),
        (
            vec![("error", truth)],
            Some(Level::Error),
            (failed, "gave up"),
        ),
    ] {
        let mut made = made(&fields);
        if let Some(level) = event {
            made = made.event(2_000, level, &said);
        }
        assert_eq!(status_of(&made.span()), expected, "{fields:?} {event:?}");
    }
    let span = made(&[("error", text("no route"))]).span();
    assert_eq!(by_key(&span.attributes)["error"], string("no route"));
}

#[test]
fn events_have_their_message_for_name_and_say_where_they_come_from() {
    let made = made(&[])
        .event(
            1_200,
            Level::Info,
            &[("message", text("read")), ("bytes", Value::U64(512))],
        )
        .event(1_300, Level::Debug, &[("level", text("mine"))]);
    let span = made.span();
    let [read, bare] = &span.events[..] else {
        panic!("{:?}", span.events)
    };
    assert_eq!(read.name, "read");
    assert_eq!(read.time_unix_nano, ANCHOR.unix_ns + 1_200);
    let attributes: BTreeMap<_, _> = [
        ("bytes", int(512)),
        ("level", string("INFO")),
        ("target", string("app::log")),
        ("code.file.path", string("src/db.rs")),
        ("code.line.number", int(80)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    assert_eq!(by_key(&read.attributes), attributes);
    assert_eq!(bare.name, "event src/db.rs:80");
    assert_eq!(by_key(&bare.attributes)["level"], string("mine"));
}

#[test]
fn a_long_message_is_whole_in_an_attribute() {
    let long = "\u{e9}".repeat(MAX_NAME_BYTES);
    let span = made(&[])
        .event(1, Level::Info, &[("message", text(&long))])
        .span();
    let event = &span.events[0];
    assert_eq!(event.name, "\u{e9}".repeat(MAX_NAME_BYTES / 2));
    assert_eq!(by_key(&event.attributes)["message"], string(&long));
}

#[test]
fn an_error_in_an_error_event_is_an_exception() {
    let error = ("error", text("disk full"));
    let said = ("message", text("cannot save"));
    let own = ("exception.message", text("mine"));
    let event = |level, fields: &[Named<'_>]| made(&[]).event(1, level, fields).span();

    let span = event(Level::Error, &[error]);
    assert_eq!(span.events[0].name, "exception");
    let attributes = by_key(&span.events[0].attributes);
    assert_eq!(attributes["exception.message"], string("disk full"));
    assert!(!attributes.contains_key("error"));
    assert_eq!(status_of(&span).1, "disk full");

    let span = event(Level::Error, &[said, error]);
    assert_eq!(span.events[0].name, "exception");
    let attributes = by_key(&span.events[0].attributes);
    assert_eq!(attributes["exception.message"], string("disk full"));
    assert_eq!(attributes["message"], string("cannot save"));
    assert_eq!(status_of(&span).1, "cannot save");

    let span = event(Level::Error, &[error, own]);
    let attributes = by_key(&span.events[0].attributes);
    assert_eq!(attributes["exception.message"], string("mine"));

    let span = event(Level::Warn, &[said, error]);
    assert_eq!(span.events[0].name, "cannot save");
    let attributes = by_key(&span.events[0].attributes);
    assert_eq!(attributes["error"], string("disk full"));
}

#[test]
fn links_and_the_trace_state_travel_with_the_span() {
    let mut made = made(&[]);
    let mut writer = FieldWriter::new(&mut made.fields, usize::MAX);
    writer.write_trace_state("vendor=1");
    writer.write(FOLLOWS_FROM_INDEX, Value::U64(12));
    for id in [4, 8] {
        writer.write_link(Link::new(TraceId(u128::from(id) << 100), SpanId(id)));
    }
    let span = made.span();
    assert_eq!(span.trace_state, "vendor=1");
    let links: Vec<_> = span.links.iter().map(|link| link.span_id.clone()).collect();
    assert_eq!(links, [4_u64.to_be_bytes(), 8_u64.to_be_bytes()]);
    assert_eq!(span.links[0].trace_id, (4_u128 << 100).to_be_bytes());
    assert!(!by_key(&span.attributes).contains_key("follows_from"));
}

#[test]
fn a_request_names_the_resource_and_the_scope() {
    let resource = Resource {
        attributes: vec![KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue {
                value: Some(string("shop")),
            }),
            ..KeyValue::default()
        }],
        ..Resource::default()
    };
    let mut batch = Vec::new();
    let mut encoder = SpanEncoder::new(ANCHOR);
    for _ in 0..300 {
        made(&[]).with(|operation| encoder.append(&mut batch, operation));
    }
    let bytes = request(&resource.encode_to_vec(), &batch);
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    let [of_resource] = &request.resource_spans[..] else {
        panic!("{} resources", request.resource_spans.len())
    };
    assert_eq!(of_resource.resource.as_ref(), Some(&resource));
    let scope = of_resource.scope_spans[0].scope.clone().unwrap();
    assert_eq!(scope.name, "tracing-cortex");
    assert_eq!(scope.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(of_resource.scope_spans[0].spans.len(), 300);
}

#[derive(Debug, Clone)]
enum Owned {
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Text(String, bool),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Bool(value) => Value::Bool(*value),
            Owned::I64(value) => Value::I64(*value),
            Owned::U64(value) => Value::U64(*value),
            Owned::I128(value) => Value::I128(*value),
            Owned::U128(value) => Value::U128(*value),
            Owned::F64(value) => Value::F64(*value),
            Owned::Text(text, cut) => Value::Str { text, cut: *cut },
        }
    }
}

fn values() -> impl Strategy<Value = Owned> {
    prop_oneof![
        any::<bool>().prop_map(Owned::Bool),
        any::<i64>().prop_map(Owned::I64),
        any::<u64>().prop_map(Owned::U64),
        any::<i128>().prop_map(Owned::I128),
        any::<i64>().prop_map(|value| Owned::I128(value.into())),
        any::<u128>().prop_map(Owned::U128),
        any::<u32>().prop_map(|value| Owned::U128(value.into())),
        proptest::num::f64::ANY.prop_map(Owned::F64),
        (".{0,200}", any::<bool>()).prop_map(|(text, cut)| Owned::Text(text, cut)),
        (0_usize..20_000).prop_map(|length| Owned::Text("\u{2713}".repeat(length), false)),
    ]
}

const KEYS: [&str; 10] = [
    "a",
    "rows",
    "error",
    "message",
    "busy_ns",
    "thread.name",
    "code.file.path",
    "\u{fc}nicode",
    "exception.type",
    "a.rather.long.key.that.nobody.would.write.but.somebody.will",
];

fn fields() -> impl Strategy<Value = Vec<(&'static str, Owned)>> {
    prop::collection::vec((prop::sample::select(&KEYS[..]), values()), 0..8)
}

/// The last value of each key, but for `except`.
fn last(fields: &[(&'static str, Owned)], except: &[&str]) -> BTreeMap<String, any_value::Value> {
    let fields = fields.iter().filter(|(key, _)| !except.contains(key));
    let pairs = fields.map(|(key, value)| ((*key).to_owned(), expected(value.value())));
    pairs.collect()
}

/// NaN is equal to itself here.
fn same(one: &any_value::Value, other: &any_value::Value) -> bool {
    match (one, other) {
        (any_value::Value::DoubleValue(one), any_value::Value::DoubleValue(other)) => {
            one.to_bits() == other.to_bits()
        }
        _ => one == other,
    }
}

fn contains(
    all: &BTreeMap<String, any_value::Value>,
    some: &BTreeMap<String, any_value::Value>,
) -> bool {
    some.iter()
        .all(|(key, value)| all.get(key).is_some_and(|found| same(found, value)))
}

fn borrowed<'a>(fields: &'a [(&'static str, Owned)]) -> Vec<Named<'a>> {
    fields
        .iter()
        .map(|(key, value)| (*key, value.value()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operation_reads_back(
        fields in fields(),
        events in prop::collection::vec((fields(), 0_u64..9, prop::sample::select(
            &[Level::Trace, Level::Info, Level::Error][..])), 0..4),
        links in prop::collection::vec((any::<u128>(), any::<u64>()), 0..4),
        (trace, span, parent) in (any::<u128>(), any::<u64>(), any::<Option<u64>>()),
        (start, length, busy) in (any::<u64>(), any::<u64>(), any::<u64>()),
        (name, state) in (any::<Option<String>>(), "[a-z=,0-9]{0,40}"),
        activations: u32,
    ) {
        let mut made = made(&borrowed(&fields));
        made.ids.trace = TraceId(trace);
        made.ids.span = SpanId(span);
        made.ids.parent = parent.map(SpanId);
        made.start = start;
        made.end = start.saturating_add(length);
        made.busy = busy;
        made.name = name.clone();
        made.activations = activations;
        let mut writer = FieldWriter::new(&mut made.fields, usize::MAX);
        writer.write_trace_state(&state);
        for (trace, span) in &links {
            writer.write_link(Link::new(TraceId(*trace), SpanId(*span)));
        }
        for (fields, at, level) in &events {
            made = made.event(*at, *level, &borrowed(fields));
        }
        let decoded = made.span();
        prop_assert_eq!(&decoded.trace_id, &trace.to_be_bytes());
        prop_assert_eq!(&decoded.span_id, &span.to_be_bytes());
        prop_assert_eq!(&decoded.parent_span_id, &parent.map_or(vec![], |id| id.to_be_bytes().into()));
        prop_assert_eq!(decoded.start_time_unix_nano, ANCHOR.unix_ns.saturating_add(start));
        prop_assert_eq!(decoded.end_time_unix_nano, ANCHOR.unix_ns.saturating_add(made.end));
        prop_assert_eq!(&decoded.name, name.as_deref().unwrap_or("load"));
        prop_assert_eq!(&decoded.trace_state, &state);
        prop_assert!(contains(&by_key(&decoded.attributes), &last(&fields, &[])));
        prop_assert_eq!(decoded.links.len(), links.len());
        for (link, (trace, span)) in decoded.links.iter().zip(&links) {
            prop_assert_eq!(&link.trace_id, &trace.to_be_bytes());
            prop_assert_eq!(&link.span_id, &span.to_be_bytes());
        }
        prop_assert_eq!(decoded.events.len(), events.len());
        for (event, (fields, at, _)) in decoded.events.iter().zip(&events) {
            prop_assert_eq!(event.time_unix_nano, ANCHOR.unix_ns.saturating_add(*at));
            let found = by_key(&event.attributes);
            let wanted = last(fields, &["message", "error"]);
            prop_assert!(contains(&found, &wanted));
        }
    }
}
