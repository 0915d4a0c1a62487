//! Operations as protobuf bytes.
//!
//! Written by hand into one buffer, without an allocation for a span: on a busy program this is most of what exporting
//! costs. The bytes are those that the generated types of `opentelemetry-proto` read back.

mod attributes;
mod event;
mod gpu;
mod protobuf;
mod status;

#[cfg(test)]
mod tests;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use self::attributes::Attributes;
use self::protobuf::{bytes, fixed64_field, message, number, sized_field, sized_len, varint_field};
use self::status::Status;
use crate::model::{Entry, FOLLOWS_FROM, Operation, Site, SiteId, Thread, Value, WallAnchor};
use crate::model::{GpuWork, Ids, Nanos};

/// `ScopeSpans.spans`.
const SPAN: u8 = sized_field(2);
const TRACE_ID: u8 = sized_field(1);
const SPAN_ID: u8 = sized_field(2);
const TRACE_STATE: u8 = sized_field(3);
const PARENT_SPAN_ID: u8 = sized_field(4);
const NAME: u8 = sized_field(5);
const KIND: u8 = varint_field(6);
const START: u8 = fixed64_field(7);
const END: u8 = fixed64_field(8);
const ATTRIBUTES: u8 = sized_field(9);
const DROPPED_EVENTS: u8 = varint_field(12);
const LINK: u8 = sized_field(13);
/// Field 16 with four bytes for value needs two bytes.
const FLAGS: [u8; 2] = [0x85, 0x01];

const INTERNAL: u8 = 1;

/// The field that sets the kind of a span.
pub(super) const OTEL_KIND: &str = "otel.kind";

/// The trace is sampled, as W3C has it.
const SAMPLED: u32 = 1;
/// It is known whether the parent is in another process.
const HAS_IS_REMOTE: u32 = 1 << 8;
/// The parent is in another process.
const IS_REMOTE: u32 = 1 << 9;

/// Sites beyond are encoded anew each time.
const MAX_KNOWN_SITES: usize = 1 << 16;

/// Appends operations to a batch.
#[derive(Debug)]
pub(super) struct SpanEncoder {
    anchor: WallAnchor,
    attributes: Attributes,
    /// What all spans of a site have in common, by [`SiteId`]; empty where none was seen yet.
    sites: Vec<Box<[u8]>>,
    /// The thread of the last span, which is mostly that of the next, and its attributes.
    thread: Option<Thread>,
    thread_bytes: Vec<u8>,
}

impl SpanEncoder {
    pub(super) fn new(anchor: WallAnchor) -> SpanEncoder {
        SpanEncoder {
            anchor,
            attributes: Attributes::default(),
            sites: Vec::new(),
            thread: None,
            thread_bytes: Vec::new(),
        }
    }

    /// Appends one entry of `ScopeSpans.spans`; returns whether its status is an error.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, operation: &Operation<'_>) -> bool {
        let mut failed = false;
        message(out, SPAN, |out| failed = self.span(out, operation));
        failed
    }

    /// Appends what a device did for an operation, as a child of it; nothing where the operation is unknown.
    pub(super) fn append_gpu(&mut self, out: &mut Vec<u8>, work: &GpuWork, ids: &Ids) {
        message(out, SPAN, |out| {
            gpu::span(out, self.anchor, &mut self.attributes, work, ids)
        });
    }

    #[inline]
    fn span(&mut self, out: &mut Vec<u8>, operation: &Operation<'_>) -> bool {
        self.head(out, operation);
        let mut status = Status::default();
        let kind = self.fields(out, operation, &mut status);
        out.extend_from_slice(&[KIND, kind]);
        self.own_attributes(out, operation);
        for occurred in operation.events {
            let error = event::append(out, &mut self.attributes, self.anchor, occurred);
            status.event = error.or(status.event);
        }
        if operation.dropped_events > 0 {
            number(out, DROPPED_EVENTS, operation.dropped_events.into());
        }
        status.append(out);
        status.is_error()
    }

    /// Appends what every span has.
    #[inline]
    fn head(&self, out: &mut Vec<u8>, operation: &Operation<'_>) {
        head(
            out,
            self.anchor,
            &operation.ids,
            operation.start,
            operation.end,
        );
        bytes(out, NAME, operation.display_name().as_bytes());
    }

    /// Appends the program's fields, but for those that say something of the span itself, and what came with them;
    /// returns the kind.
    #[inline]
    fn fields<'a>(
        &mut self,
        out: &mut Vec<u8>,
        operation: &Operation<'a>,
        status: &mut Status<'a>,
    ) -> u8 {
        self.attributes.begin(ATTRIBUTES);
        let mut kind = INTERNAL;
        for entry in operation.fields.entries() {
            match entry {
                Entry::Field(key, value) => {
                    if !said(key, value, &mut kind, status) {
                        self.attributes.field(out, key, value);
                    }
                }
                Entry::Link(link) => message(out, LINK, |out| {
                    bytes(out, TRACE_ID, &link.trace.0.to_be_bytes());
                    bytes(out, SPAN_ID, &link.span.0.to_be_bytes());
                }),
                Entry::TraceState(state) => bytes(out, TRACE_STATE, state.as_bytes()),
            }
        }
        kind
    }

    #[inline]
    fn own_attributes(&mut self, out: &mut Vec<u8>, operation: &Operation<'_>) {
        if self.attributes.may_have_ours() {
            site_attributes(out, &self.attributes, operation.site);
            thread_attributes(out, &self.attributes, operation.thread);
        } else {
            let known = self.sites.get(operation.site.id.0 as usize);
            match known.filter(|known| !known.is_empty()) {
                Some(known) => out.extend_from_slice(known),
                None => self.learn_site(out, operation.site),
            }
            if self.thread.as_ref() != Some(operation.thread) {
                self.thread = Some(operation.thread.clone());
                self.thread_bytes.clear();
                thread_attributes(&mut self.thread_bytes, &self.attributes, operation.thread);
            }
            out.extend_from_slice(&self.thread_bytes);
        }
        let own = &self.attributes;
        own.own(out, "busy_ns", Value::U64(operation.busy.0));
        own.own(out, "idle_ns", Value::U64(operation.idle().0));
        if operation.activations != 1 {
            let activations = Value::U64(operation.activations.into());
            own.own(out, "cortex.activations", activations);
        }
        if operation.unfinished {
            own.own(out, "cortex.unfinished", Value::Bool(true));
        }
    }

    #[cold]
    fn learn_site(&mut self, out: &mut Vec<u8>, site: &Site) {
        let start = out.len();
        site_attributes(out, &self.attributes, site);
        let index = site.id.0 as usize;
        if site.id == SiteId::OTHER || index >= MAX_KNOWN_SITES {
            return;
        }
        if self.sites.len() <= index {
            self.sites.resize(index + 1, Box::default());
        }
        self.sites[index] = out[start..].into();
    }
}

/// Appends what every span has but its name.
#[inline]
fn head(out: &mut Vec<u8>, anchor: WallAnchor, ids: &Ids, start: Nanos, end: Nanos) {
    let mut flags = HAS_IS_REMOTE;
    if ids.sampled {
        flags |= SAMPLED;
    }
    if ids.parent_is_remote {
        flags |= IS_REMOTE;
    }
    // One piece of fixed length is faster than several.
    let mut head = [0; 52];
    head[..2].copy_from_slice(&[TRACE_ID, 16]);
    head[2..18].copy_from_slice(&ids.trace.0.to_be_bytes());
    head[18..20].copy_from_slice(&[SPAN_ID, 8]);
    head[20..28].copy_from_slice(&ids.span.0.to_be_bytes());
    head[28..30].copy_from_slice(&FLAGS);
    head[30..34].copy_from_slice(&flags.to_le_bytes());
    head[34] = START;
    head[35..43].copy_from_slice(&anchor.unix_ns_at(start).to_le_bytes());
    head[43] = END;
    head[44..].copy_from_slice(&anchor.unix_ns_at(end).to_le_bytes());
    out.extend_from_slice(&head);
    if let Some(parent) = ids.parent {
        let mut bytes = [PARENT_SPAN_ID, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&parent.0.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// Returns the kind that the program gave an operation, if it gave one.
pub(super) fn kind(operation: &Operation<'_>) -> Option<SpanKind> {
    let kind = status::kind(operation.fields.get(OTEL_KIND)?)?;
    SpanKind::try_from(i32::from(kind)).ok()
}

/// Takes a field that says something of the span itself; returns whether that is all it is good for.
#[inline]
fn said<'a>(key: &'static str, value: Value<'a>, kind: &mut u8, status: &mut Status<'a>) -> bool {
    // Of all others the first letter says enough.
    if !matches!(key.as_bytes(), [b'e' | b'f' | b'o', ..]) {
        return false;
    }
    match key {
        "error" => {
            status.error = Some(value);
            false
        }
        // The links say that with ids that others know.
        FOLLOWS_FROM => true,
        _ if !key.starts_with("otel.") => false,
        "otel.name" => true,
        OTEL_KIND => status::kind(value).map(|known| *kind = known).is_some(),
        "otel.status_code" => status.declare(value),
        "otel.status_description" | "otel.status_message" => {
            status.description = Some(value);
            true
        }
        _ => false,
    }
}

fn site_attributes(out: &mut Vec<u8>, attributes: &Attributes, site: &Site) {
    if let Some(file) = site.file_in_package() {
        attributes.own_text(out, "code.file.path", file);
    }
    if let Some(line) = site.line {
        attributes.own(out, "code.line.number", Value::U64(line.into()));
    }
    if !site.target.is_empty() {
        attributes.own_text(out, "code.module.name", site.target);
    }
}

fn thread_attributes(out: &mut Vec<u8>, attributes: &Attributes, thread: &Thread) {
    let id = thread.os_id.unwrap_or(thread.index);
    attributes.own(out, "thread.id", Value::U64(id.into()));
    if let Some(name) = &thread.name {
        attributes.own_text(out, "thread.name", name);
    }
}

/// Puts a request around `spans`, which [`SpanEncoder::append`] wrote; `resource` is an encoded `Resource`.
pub(super) fn request(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    const RESOURCE_SPANS: u8 = sized_field(1);
    const RESOURCE: u8 = sized_field(1);
    const SCOPE_SPANS: u8 = sized_field(2);
    const SCOPE: u8 = sized_field(1);
    const SCOPE_NAME: u8 = sized_field(1);
    const SCOPE_VERSION: u8 = sized_field(2);

    let mut scope = Vec::with_capacity(64);
    bytes(&mut scope, SCOPE_NAME, env!("CARGO_PKG_NAME").as_bytes());
    bytes(
        &mut scope,
        SCOPE_VERSION,
        env!("CARGO_PKG_VERSION").as_bytes(),
    );
    let scope_spans = sized_len(scope.len()) + spans.len();
    let resource_spans = sized_len(resource.len()) + sized_len(scope_spans);

    let mut out = Vec::with_capacity(sized_len(resource_spans));
    number(&mut out, RESOURCE_SPANS, resource_spans as u64);
    bytes(&mut out, RESOURCE, resource);
    number(&mut out, SCOPE_SPANS, scope_spans as u64);
    bytes(&mut out, SCOPE, &scope);
    out.extend_from_slice(spans);
    out
}
