//! What makes two calls alike.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::diagnose::fields::{self, Kind};
use crate::model::{QUERY_EVENTS, Site, TreeSpan, query_shape, shortened};

/// Characters of a shape in a sentence.
const IN_WORDS: usize = 80;

/// Calls from one callsite that differ in their values only.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) site: Arc<Site>,
    /// The query, or method, host and route; the callsite's name where the fields say none of that.
    pub(crate) text: String,
}

impl Shape {
    pub(crate) fn of(span: &TreeSpan, kind: Kind) -> Shape {
        let text = match kind {
            Kind::Database => query(span),
            Kind::Http => request(span),
            Kind::Rpc => method(span),
            _ => None,
        };
        Shape {
            kind,
            site: Arc::clone(&span.site),
            text: text.unwrap_or_else(|| span.site.name.to_owned()),
        }
    }

    /// Returns the shape as a sentence names it.
    pub(crate) fn words(&self) -> String {
        shortened(&self.text, IN_WORDS)
    }

    /// Returns the first word of a query, in capitals.
    pub(crate) fn verb(&self) -> String {
        let words = self.text.split(|end: char| !end.is_ascii_alphabetic());
        let first = words.into_iter().find(|word| !word.is_empty());
        first.unwrap_or_default().to_ascii_uppercase()
    }

    fn key(&self) -> (Kind, u32, &str) {
        (self.kind, self.site.id.0, &self.text)
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Shape {}

impl PartialOrd for Shape {
    fn partial_cmp(&self, other: &Shape) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Shape {
    fn cmp(&self, other: &Shape) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Whether an operation was made out of an event: it is a part of the time of what is around it.
pub(super) fn is_event(span: &TreeSpan) -> bool {
    span.site.target == QUERY_EVENTS
}

/// Names under which OpenTelemetry's conventions and those before them have the same.
fn query(span: &TreeSpan) -> Option<String> {
    if let Some(text) = fields::first_text(span, &["db.query.text", "db.statement"]) {
        return Some(query_shape(text)).filter(|shape| !shape.is_empty());
    }
    if let Some(summary) = fields::text(span, "db.query.summary") {
        return Some(query_shape(summary));
    }
    let operation = fields::first_text(span, &["db.operation.name", "db.operation"])?;
    let target = [
        "db.collection.name",
        "db.sql.table",
        "db.mongodb.collection",
        "db.namespace",
        "db.name",
    ];
    Some(match fields::first_text(span, &target) {
        Some(target) => format!("{operation} {target}"),
        None => operation.to_owned(),
    })
}

fn request(span: &TreeSpan) -> Option<String> {
    let method = fields::first_text(span, &["http.request.method", "http.method"]);
    let url = fields::first_text(span, &["http.route", "http.url", "http.target"]).map(route);
    let host = host(span);
    let parts = [method.map(str::to_owned), host, url];
    let words: Vec<String> = parts.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn method(span: &TreeSpan) -> Option<String> {
    let method = fields::text(span, "rpc.method");
    let service = fields::text(span, "rpc.service");
    let parts = [service.map(str::to_owned), method.map(str::to_owned)];
    let mut words: Vec<String> = host(span).into_iter().collect();
    let name: Vec<String> = parts.into_iter().flatten().collect();
    if !name.is_empty() {
        words.push(name.join("/"));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// Returns the program that is asked.
pub(crate) fn host(span: &TreeSpan) -> Option<String> {
    let names = ["server.address", "net.peer.name", "http.host"];
    fields::first_text(span, &names).map(str::to_owned)
}

/// Returns a path without what differs from call to call: the query, and parts that are numbers or ids.
fn route(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let part = |part: &str| -> String {
        let ids = part.len() >= 16 && part.bytes().all(|at| at.is_ascii_hexdigit() || at == b'-');
        let number = !part.is_empty() && part.bytes().all(|at| at.is_ascii_digit());
        match ids || number {
            true => "{id}".to_owned(),
            false => part.to_owned(),
        }
    };
    let parts: Vec<String> = path.split('/').map(part).collect();
    parts.join("/")
}
