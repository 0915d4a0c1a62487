//! Writes down which spans a tracing backend should have, to compare them with those that it has.
//!
//! One line for each operation, in the JSON form of an OTLP span. Nothing of the crate's own exporter is used for it, so
//! that a mistake of the exporter does not appear on both sides.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing_cortex::{
    Diagnosis, Level, Nanos, Operation, OperationEvent, Profile, Sink, SinkError, Value, Wants,
};

/// A sink that writes the operations it was given when the capture ends: only then is the wall-clock time known.
#[derive(Debug)]
pub(crate) struct ExpectedSpans {
    file: BufWriter<File>,
    service: String,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    json: Json,
    start: Nanos,
    end: Nanos,
    events: Vec<(Nanos, Json)>,
}

impl ExpectedSpans {
    /// Writes to `PATH.PID`, so that the processes of one run can share the setting.
    pub(crate) fn create(path: &Path, service: &str) -> Result<ExpectedSpans, SinkError> {
        let mut name = OsString::from(path);
        name.push(format!(".{}", std::process::id()));
        let file = File::create(&name).map_err(|source| SinkError::File {
            path: name.into(),
            source,
        })?;
        Ok(ExpectedSpans {
            file: BufWriter::new(file),
            service: service.to_owned(),
            spans: Vec::new(),
        })
    }
}

impl Sink for ExpectedSpans {
    fn name(&self) -> &str {
        "expected spans"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.operations = true;
        wants.fields = true;
        wants
    }

    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        // What nobody sampled is not sent, and what another layer exports is not sent twice.
        let sent = batch
            .iter()
            .filter(|operation| operation.ids.sampled && !operation.ids.adopted);
        self.spans.extend(sent.map(|operation| {
            Span {
                json: span(operation, &self.service),
                start: operation.start,
                end: operation.end,
                events: operation
                    .events
                    .iter()
                    .map(|event| (event.at, happened(event)))
                    .collect(),
            }
        }));
        Ok(())
    }

    fn finish(&mut self, profile: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        let time = |at| Json::from(profile.started.unix_ns_at(at).to_string());
        for mut span in self.spans.drain(..) {
            span.json["startTimeUnixNano"] = time(span.start);
            span.json["endTimeUnixNano"] = time(span.end);
            let events = span.events.into_iter().map(|(at, mut event)| {
                event["timeUnixNano"] = time(at);
                event
            });
            span.json["events"] = events.collect();
            writeln!(self.file, "{}", span.json).map_err(SinkError::other)?;
        }
        self.file.flush().map_err(SinkError::other)
    }
}

fn span(operation: &Operation<'_>, service: &str) -> Json {
    let fields: BTreeMap<&str, Value<'_>> = operation.fields.iter().collect();
    let (mut kind, mut declared, mut description) = (1, None, None);
    let mut attributes = BTreeMap::new();
    for (&name, &value) in &fields {
        match (name, &*text(value).to_ascii_lowercase()) {
            ("otel.name" | "follows_from", _) => {}
            ("otel.kind", "internal") => kind = 1,
            ("otel.kind", "server") => kind = 2,
            ("otel.kind", "client") => kind = 3,
            ("otel.kind", "producer") => kind = 4,
            ("otel.kind", "consumer") => kind = 5,
            ("otel.status_code", "ok") => declared = Some(1),
            ("otel.status_code", "error") => declared = Some(2),
            ("otel.status_description" | "otel.status_message", _) => {
                description = Some(text(value));
            }
            _ => drop(attributes.insert(name, any(value))),
        }
    }
    let site = operation.site;
    own(
        &mut attributes,
        "code.file.path",
        site.file_in_package().map(string),
    );
    own(&mut attributes, "code.line.number", site.line.map(integer));
    let target = Some(site.target).filter(|target| !target.is_empty());
    own(&mut attributes, "code.module.name", target.map(string));
    let thread = operation.thread;
    let id = thread.os_id.unwrap_or(thread.index);
    own(&mut attributes, "thread.id", Some(integer(id)));
    let name = thread.name.as_deref();
    own(&mut attributes, "thread.name", name.map(string));
    let busy = integer(operation.busy.0);
    own(&mut attributes, "busy_ns", Some(busy));
    let idle = integer(operation.idle().0);
    own(&mut attributes, "idle_ns", Some(idle));
    let activations = Some(operation.activations).filter(|&number| number != 1);
    let activations = activations.map(integer);
    own(&mut attributes, "cortex.activations", activations);
    let unfinished = operation.unfinished.then(|| json!({"boolValue": true}));
    own(&mut attributes, "cortex.unfinished", unfinished);

    let links = operation.fields.links();
    let links = links
        .map(|link| json!({"traceId": link.trace.to_string(), "spanId": link.span.to_string()}));
    let parent = operation.ids.parent.map(|parent| parent.to_string());
    let mut json = json!({
        "service": service,
        "traceId": operation.ids.trace.to_string(),
        "spanId": operation.ids.span.to_string(),
        "parentSpanId": parent.unwrap_or_default(),
        "name": operation.display_name(),
        "kind": kind,
        "attributes": pairs(attributes),
        "links": links.collect::<Vec<_>>(),
        "status": status(operation, fields.get("error").copied(), declared, description),
    });
    if let Some(state) = operation.fields.trace_state() {
        json["traceState"] = state.into();
    }
    json
}

/// What the program says counts; else a field `error` or an event of that level makes it an error.
fn status(
    operation: &Operation<'_>,
    error: Option<Value<'_>>,
    declared: Option<u8>,
    description: Option<String>,
) -> Json {
    let error = error.filter(|&error| error != Value::Bool(false));
    let event = operation
        .events
        .iter()
        .rfind(|event| event.level == Level::Error);
    let concluded = error.is_some() || event.is_some();
    match declared {
        Some(1) => json!({"code": 1}),
        None if !concluded => json!({}),
        _ => {
            let said = |event: &OperationEvent<'_>| {
                let fields = event.fields;
                fields
                    .get("message")
                    .or_else(|| fields.get("error"))
                    .map(text)
            };
            let error = error.filter(|error| !matches!(error, Value::Bool(_)));
            let message = description.or(error.map(text)).or(event.and_then(said));
            json!({"code": 2, "message": message.unwrap_or_default()})
        }
    }
}

fn happened(event: &OperationEvent<'_>) -> Json {
    let mut fields: BTreeMap<&str, Value<'_>> = event.fields.iter().collect();
    let error = fields.get("error").copied();
    let error = error.filter(|_| event.level == Level::Error);
    let name = match (error, fields.get("message").copied()) {
        (Some(_), _) => "exception".to_owned(),
        (None, Some(message)) => {
            fields.remove("message");
            text(message)
        }
        (None, None) => event.site.name.to_owned(),
    };
    if error.is_some() {
        fields.remove("error");
    }
    let mut attributes: BTreeMap<&str, Json> = fields
        .into_iter()
        .map(|(name, value)| (name, any(value)))
        .collect();
    let message = error.map(|error| string(&text(error)));
    own(&mut attributes, "exception.message", message);
    let level = string(event.level.as_str());
    own(&mut attributes, "level", Some(level));
    own(&mut attributes, "target", Some(string(event.site.target)));
    let (file, line) = (event.site.file_in_package(), event.site.line);
    own(&mut attributes, "code.file.path", file.map(string));
    own(&mut attributes, "code.line.number", line.map(integer));
    json!({"name": name, "attributes": pairs(attributes)})
}

/// Adds what the layer knows where it knows it; a field of the program with that name counts more.
fn own(attributes: &mut BTreeMap<&str, Json>, name: &'static str, value: Option<Json>) {
    if let Some(value) = value {
        attributes.entry(name).or_insert(value);
    }
}

fn pairs(attributes: BTreeMap<&str, Json>) -> Json {
    let pair = |(key, value)| json!({"key": key, "value": value});
    attributes.into_iter().map(pair).collect()
}

fn string(text: &str) -> Json {
    json!({"stringValue": text})
}

/// 64-bit integers are strings in proto3's JSON.
fn integer(number: impl Into<u64>) -> Json {
    json!({"intValue": number.into().to_string()})
}

fn any(value: Value<'_>) -> Json {
    match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::F64(value) if value.is_finite() => json!({"doubleValue": value}),
        Value::F64(value) if value.is_nan() => json!({"doubleValue": "NaN"}),
        Value::F64(value) if value > 0.0 => json!({"doubleValue": "Infinity"}),
        Value::F64(_) => json!({"doubleValue": "-Infinity"}),
        Value::Str { text, .. } => string(text),
        // OTLP has signed integers of 64 bits; larger ones are text.
        number => match text(number).parse::<i64>() {
            Ok(number) => json!({"intValue": number.to_string()}),
            Err(_) => string(&text(number)),
        },
    }
}

fn text(value: Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::I128(value) => value.to_string(),
        Value::U128(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Str { text, .. } => text.to_owned(),
        _ => String::new(),
    }
}
