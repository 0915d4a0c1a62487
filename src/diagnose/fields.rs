//! What the fields of an operation in a tree say: texts, numbers, and what kind of work it is.
#![allow(dead_code, reason = "each family of rules reads some of these")]

use crate::model::{TreeSpan, TreeValue};

/// What an operation does or waits for, as far as its fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// It computes.
    Cpu,
    /// A query, whatever its `otel.kind`.
    Database,
    /// A request to another program.
    Http,
    /// A call of another program in another way than HTTP.
    Rpc,
    /// Reads or writes files.
    File,
    /// Waits until data is on disk: an fsync, the commit of a transaction.
    Sync,
    /// Waits for a lock.
    Lock,
    /// Waits for a queue.
    Queue,
    /// Has a device work.
    Gpu,
    /// Fetches the input for a device.
    Load,
    /// The program says that it is none of these; or it waits for a place in a pool.
    Other,
}

/// Returns a text that is not empty.
pub(crate) fn text<'a>(span: &'a TreeSpan, name: &str) -> Option<&'a str> {
    match value(span, name)? {
        TreeValue::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// Returns the first of several names that has a text.
pub(crate) fn first_text<'a>(span: &'a TreeSpan, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| text(span, name))
}

/// Returns a number; also one that was printed, as `%` and `?` do. Never NaN or infinite.
pub(crate) fn number(span: &TreeSpan, name: &str) -> Option<f64> {
    let number = match value(span, name)? {
        TreeValue::Bool(_) => return None,
        TreeValue::Integer(value) => *value as f64,
        TreeValue::Number(value) => *value,
        TreeValue::Text(text) => text.trim().parse().ok()?,
    };
    number.is_finite().then_some(number)
}

/// Returns the first of several names that has a number.
pub(crate) fn first_number(span: &TreeSpan, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| number(span, name))
}

/// Returns a number that cannot be below zero, such as a count, a size or a time.
pub(crate) fn amount(span: &TreeSpan, name: &str) -> Option<f64> {
    number(span, name).filter(|number| *number >= 0.0)
}

/// Returns a truth value; also one that was printed.
pub(crate) fn flag(span: &TreeSpan, name: &str) -> Option<bool> {
    match value(span, name)? {
        TreeValue::Bool(value) => Some(*value),
        TreeValue::Text(text) => text.trim().parse().ok(),
        TreeValue::Integer(_) | TreeValue::Number(_) => None,
    }
}

/// Returns how much an operation had to do, and the name of the field that says so.
pub(crate) fn size(span: &TreeSpan) -> Option<(&'static str, f64)> {
    const NAMES: [&str; 7] = ["n", "len", "size", "count", "rows", "bytes", "io.bytes"];
    let mut sizes = NAMES.into_iter();
    sizes.find_map(|name| Some((name, amount(span, name)?)))
}

/// Whether any field's name begins so.
pub(crate) fn has_prefix(span: &TreeSpan, prefix: &str) -> bool {
    span.fields
        .iter()
        .any(|field| field.name.starts_with(prefix))
}

/// Returns what kind of work the fields say this is; `None` where they say nothing, and for the serving side of a
/// request, which is a program's own work.
///
/// What the program says itself (`cortex.kind`) counts most. A figure such as `queue.wait_ns` is about what went before
/// and makes nothing a wait.
pub(crate) fn kind(span: &TreeSpan) -> Option<Kind> {
    if let Some(kind) = text(span, "cortex.kind") {
        return Some(said(kind));
    }
    if has_prefix(span, "db.") {
        return Some(match is_commit(span) {
            true => Kind::Sync,
            false => Kind::Database,
        });
    }
    let side = text(span, "otel.kind").unwrap_or_default();
    let is = |name: &str| side.eq_ignore_ascii_case(name);
    let serves = is("server") || is("consumer") || (side.is_empty() && span.parent.is_none());
    if !serves && has_prefix(span, "http.") {
        return Some(Kind::Http);
    }
    if !serves && has_prefix(span, "rpc.") {
        return Some(Kind::Rpc);
    }
    if says(span, "lock.") {
        return Some(Kind::Lock);
    }
    if says(span, "queue.") {
        return Some(Kind::Queue);
    }
    if value(span, "io.bytes").is_some() {
        return Some(Kind::File);
    }
    if says(span, "pool.") {
        return Some(Kind::Other);
    }
    is("client").then_some(Kind::Rpc)
}

fn said(kind: &str) -> Kind {
    match kind.to_ascii_lowercase().as_str() {
        "cpu" => Kind::Cpu,
        "db" | "database" => Kind::Database,
        "http" => Kind::Http,
        "rpc" => Kind::Rpc,
        "io" | "fs" | "file" => Kind::File,
        "fsync" | "commit" | "sync" => Kind::Sync,
        "lock" => Kind::Lock,
        "queue" => Kind::Queue,
        "gpu" => Kind::Gpu,
        "load" => Kind::Load,
        _ => Kind::Other,
    }
}

fn is_commit(span: &TreeSpan) -> bool {
    let names = [
        "db.operation.name",
        "db.operation",
        "db.query.text",
        "db.statement",
    ];
    let first_word = first_text(span, &names).and_then(|text| {
        let mut words = text.split(|end: char| !end.is_ascii_alphabetic());
        words.next()
    });
    first_word.is_some_and(|word| word.eq_ignore_ascii_case("commit"))
}

/// Whether a field of this family says more than a figure.
fn says(span: &TreeSpan, prefix: &str) -> bool {
    let mut names = span.fields.iter().map(|field| field.name);
    names.any(|name| name.starts_with(prefix) && !name.ends_with("_ns"))
}

fn value<'a>(span: &'a TreeSpan, name: &str) -> Option<&'a TreeValue> {
    let mut fields = span.fields.iter();
    fields
        .find(|field| field.name == name)
        .map(|field| &field.value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Nanos, Site, SiteId, TreeField};

    fn span(parent: Option<u32>, fields: &[(&'static str, TreeValue)]) -> TreeSpan {
        let site = Arc::new(Site::new(SiteId(1), "span", "app", None, None));
        let mut span = TreeSpan::new(site, parent, Nanos(0), Nanos(1));
        let fields = fields.iter().cloned();
        span.fields = fields
            .map(|(name, value)| TreeField { name, value })
            .collect();
        span
    }

    fn said(name: &'static str, text: &str) -> (&'static str, TreeValue) {
        (name, TreeValue::Text(text.into()))
    }

    #[test]
    fn what_is_printed_is_a_number_too_and_nonsense_is_none() {
        let span = span(
            None,
            &[
                said("rows", " 12 "),
                ("n", TreeValue::Number(f64::NAN)),
                ("len", TreeValue::Integer(-4)),
                said("size", "many"),
                ("cortex.independent", TreeValue::Bool(true)),
            ],
        );
        assert_eq!(number(&span, "rows"), Some(12.0));
        assert_eq!(number(&span, "n"), None);
        assert_eq!(
            (number(&span, "len"), amount(&span, "len")),
            (Some(-4.0), None)
        );
        assert_eq!(number(&span, "size"), None);
        assert_eq!(size(&span), Some(("rows", 12.0)));
        assert_eq!(flag(&span, "cortex.independent"), Some(true));
    }

    #[test]
    fn the_kind_is_what_the_program_says_then_what_the_fields_mean() {
        let of = |fields: &[(&'static str, TreeValue)]| kind(&span(Some(0), fields));
        let select = said("db.query.text", "SELECT 1");
        let client = said("otel.kind", "client");
        let get = said("http.request.method", "GET");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[select.clone(), client.clone()]), Some(Kind::Database));
        assert_eq!(
            of(&[select.clone(), said("cortex.kind", "cpu")]),
            Some(Kind::Cpu)
        );
        assert_eq!(of(&[said("db.query.text", "commit;")]), Some(Kind::Sync));
        assert_eq!(of(&[get.clone(), client.clone()]), Some(Kind::Http));
        assert_eq!(of(&[get.clone(), said("otel.kind", "Server")]), None);
        assert_eq!(of(&[client]), Some(Kind::Rpc));
        assert_eq!(of(&[said("lock.name", "cache")]), Some(Kind::Lock));
        assert_eq!(of(&[("queue.wait_ns", TreeValue::Integer(5))]), None);
        assert_eq!(of(&[("io.bytes", TreeValue::Integer(5))]), Some(Kind::File));
        assert_eq!(kind(&span(None, &[get])), None, "a root serves");
    }
}
