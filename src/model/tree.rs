//! Whole trees of operations: what happened inside one root, span by span.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Nanos, Site, Value};

/// All operations inside one root operation, in the order of their start; the root comes first.
///
/// Statistics say how much time a site took; only a tree says what ran at the same time and what waited for what.
///
/// ```
/// use tracing_cortex::{CortexLayer, ProfilingLevel};
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().level(ProfilingLevel::Standard).build()?;
/// let subscriber = tracing_subscriber::registry().with(cortex);
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info_span!("handle").in_scope(|| tracing::info_span!("parse").in_scope(|| ()));
/// });
/// let summary = guard.finish()?;
/// let tree = &summary.profile().trees[0].kept[0].tree;
/// let names: Vec<_> = tree.spans.iter().map(|span| span.site.name).collect();
/// assert_eq!(names, ["handle", "parse"]);
/// assert_eq!(tree.spans[1].parent, Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationTree {
    /// The operations. A parent stands before its children.
    pub spans: Vec<TreeSpan>,
    /// Operations are missing: there were more than a tree may have, or records of them were lost. What is there is
    /// right, but times of parents contain those that are not.
    pub truncated: bool,
}

impl OperationTree {
    /// Builds a tree of operations that are in order already.
    pub fn new(spans: Vec<TreeSpan>) -> OperationTree {
        OperationTree {
            spans,
            truncated: false,
        }
    }

    /// Returns how long the root took.
    pub fn wall(&self) -> Nanos {
        self.spans.first().map_or(Nanos::ZERO, TreeSpan::length)
    }
}

/// One operation of a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TreeSpan {
    /// The callsite; its name in JSON.
    #[serde(serialize_with = "name_of")]
    pub site: Arc<Site>,
    /// The index of the operation around it; `None` for the root. Always smaller than the own index.
    pub parent: Option<u32>,
    /// When it began.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// When it ended; never before `start`. An operation may end after its parent.
    #[serde(rename = "end_ns")]
    pub end: Nanos,
    /// What it is.
    pub kind: TreeKind,
    /// The thread that ran it, as in [`Thread::index`](crate::Thread::index); of an async span the thread that closed it.
    pub thread: u32,
    /// The sum of all its activations.
    #[serde(rename = "busy_ns")]
    pub busy: Nanos,
    /// The CPU time of the threads inside it; `None` where it was not measured.
    #[serde(rename = "cpu_ns")]
    pub cpu: Option<Nanos>,
    /// How often it was entered.
    pub activation_count: u32,
    /// The polls of an async span, in order; at most 32, beyond which neighbours are one. Empty for all others, which
    /// were entered from start to end.
    pub activations: Vec<Activation>,
    /// An error was recorded in it.
    pub error: bool,
    /// It was open when the capture ended; `end` is that time.
    pub unfinished: bool,
    /// The fields with a meaning that is known, such as `db.query.text`; at most 16.
    pub fields: Vec<TreeField>,
}

impl TreeSpan {
    /// Builds a plain operation without fields.
    pub fn new(site: Arc<Site>, parent: Option<u32>, start: Nanos, end: Nanos) -> TreeSpan {
        TreeSpan {
            site,
            parent,
            start,
            end: end.max(start),
            kind: TreeKind::Plain,
            thread: 0,
            busy: end.saturating_sub(start),
            cpu: None,
            activation_count: 1,
            activations: Vec::new(),
            error: false,
            unfinished: false,
            fields: Vec::new(),
        }
    }

    /// Returns `end - start`.
    pub fn length(&self) -> Nanos {
        self.end.saturating_sub(self.start)
    }
}

/// What an operation of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TreeKind {
    /// A span with one activation.
    Plain,
    /// A span with several, as a future has.
    Async,
    /// One call through a held span.
    Call,
}

/// One activation of an async span, or several with little between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Activation {
    /// When it was entered.
    #[serde(rename = "begin_ns")]
    pub begin: Nanos,
    /// When it was left.
    #[serde(rename = "end_ns")]
    pub end: Nanos,
    /// The thread, as in [`Thread::index`](crate::Thread::index); of several the first one's.
    pub thread: u32,
}

impl Activation {
    /// Describes an activation.
    pub fn new(begin: Nanos, end: Nanos, thread: u32) -> Activation {
        Activation { begin, end, thread }
    }
}

/// A field of an operation in a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TreeField {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: TreeValue,
}

/// The value of a field in a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum TreeValue {
    /// A truth value.
    Bool(bool),
    /// A number without a fraction that fits.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text, at most 256 bytes of it.
    Text(Box<str>),
}

/// How much of a text is kept: a query's shape, a route, a host.
const TEXT_BYTES: usize = 256;

impl TreeValue {
    pub(crate) fn of(value: Value<'_>) -> TreeValue {
        match value {
            Value::Bool(value) => TreeValue::Bool(value),
            Value::I64(value) => TreeValue::Integer(value),
            Value::U64(value) => match i64::try_from(value) {
                Ok(value) => TreeValue::Integer(value),
                Err(_) => TreeValue::Number(value as f64),
            },
            Value::I128(value) => TreeValue::Number(value as f64),
            Value::U128(value) => TreeValue::Number(value as f64),
            Value::F64(value) => TreeValue::Number(value),
            Value::Str { text, .. } => {
                let end = (0..=text.len().min(TEXT_BYTES))
                    .rev()
                    .find(|&at| text.is_char_boundary(at));
                TreeValue::Text(text[..end.unwrap_or(0)].into())
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            TreeValue::Text(text) => text.len(),
            _ => 0,
        }
    }
}

/// Names of which everything that begins so is kept, and whole names.
const PREFIXES: [&str; 8] = [
    "db.", "http.", "rpc.", "cortex.", "queue.", "lock.", "net.", "pool.",
];
const NAMES: [&str; 10] = [
    "server.address",
    "otel.kind",
    "id",
    "n",
    "len",
    "size",
    "count",
    "rows",
    "bytes",
    "io.bytes",
];

/// How names of ids end: what one operation found and the next one needs.
const ID_ENDINGS: [&str; 2] = ["_id", ".id"];

/// Whether trees keep fields of this name.
pub(crate) fn is_semantic(name: &str) -> bool {
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || ID_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The trees that were kept of the roots of one callsite.
///
/// In JSON each tree is only summed up; the whole of them would dwarf the rest of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RootTrees {
    /// The callsite of the roots.
    #[serde(serialize_with = "name_of")]
    pub site: Arc<Site>,
    /// How many root operations there were in all.
    pub roots: u64,
    /// How long all of them took together.
    #[serde(rename = "wall_ns")]
    pub wall: Nanos,
    /// Of how many the tree was seen; the others were not sampled.
    pub seen: u64,
    /// The trees, in the order of their start.
    pub kept: Vec<KeptTree>,
}

impl RootTrees {
    /// Builds a group of trees of roots that all were seen.
    pub fn new(site: Arc<Site>, kept: Vec<KeptTree>) -> RootTrees {
        RootTrees {
            site,
            roots: kept.len() as u64,
            wall: kept.iter().map(|kept| kept.tree.wall()).sum(),
            seen: kept.len() as u64,
            kept,
        }
    }
}

/// A tree and why it was kept.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KeptTree {
    /// The tree.
    pub tree: OperationTree,
    /// How long the root was open, as the statistics count it: more than the tree says where a child outlived it, because
    /// a subscriber keeps a span open as long as its children are.
    pub open: Nanos,
    /// It was drawn at random out of those that were seen, and stands for the usual.
    pub sampled: bool,
    /// It is one of the slowest that were seen.
    pub slowest: bool,
}

impl KeptTree {
    /// Marks a tree as drawn at random.
    pub fn sampled(tree: OperationTree) -> KeptTree {
        KeptTree {
            open: tree.wall(),
            tree,
            sampled: true,
            slowest: false,
        }
    }
}

impl Serialize for KeptTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Summary {
            start_ns: Nanos,
            wall_ns: Nanos,
            spans: usize,
            truncated: bool,
            unfinished: bool,
            sampled: bool,
            slowest: bool,
        }
        let root = self.tree.spans.first();
        let summary = Summary {
            start_ns: root.map_or(Nanos::ZERO, |root| root.start),
            wall_ns: self.tree.wall(),
            spans: self.tree.spans.len(),
            truncated: self.tree.truncated,
            unfinished: root.is_some_and(|root| root.unfinished),
            sampled: self.sampled,
            slowest: self.slowest,
        };
        summary.serialize(serializer)
    }
}

fn name_of<S: Serializer>(site: &Arc<Site>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(site.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_look_at_is_kept_and_what_only_the_program_understands_is_not() {
        for name in [
            "db.query.text",
            "http.route",
            "server.address",
            "rows",
            "user_id",
        ] {
            assert!(is_semantic(name), "{name}");
        }
        for name in ["user", "dbname", "message", "error", "valid"] {
            assert!(!is_semantic(name), "{name}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "ä".repeat(200);
        let TreeValue::Text(kept) = TreeValue::of(Value::Str {
            text: &text,
            cut: false,
        }) else {
            panic!("a text");
        };
        assert_eq!(kept.len(), TEXT_BYTES);
        assert_eq!(
            TreeValue::of(Value::U64(u64::MAX)),
            TreeValue::Number(u64::MAX as f64)
        );
    }
}
