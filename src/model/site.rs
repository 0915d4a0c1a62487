//! Identities: callsites, threads, spans.

use std::sync::Arc;

use serde::Serialize;

/// A small number that stands for one [`Site`] of this capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Stands for what did not fit into the declared limits; shown as `(other)`.
    pub const OTHER: SiteId = SiteId(0);
}

/// One tracing callsite: the place in the source that creates spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Site {
    /// Its number in this capture.
    #[serde(skip)]
    pub id: SiteId,
    /// The span's name; a function's name under `#[instrument]`.
    pub name: &'static str,
    /// The span's target; the module path unless the program set another.
    pub target: &'static str,
    /// The source file, if the program was built with it.
    pub file: Option<&'static str>,
    /// The line in `file`.
    pub line: Option<u32>,
    /// The names of its fields, in the order of the source.
    #[serde(skip)]
    pub fields: Vec<&'static str>,
}

impl Site {
    /// Describes a callsite.
    pub fn new(
        id: SiteId,
        name: &'static str,
        target: &'static str,
        file: Option<&'static str>,
        line: Option<u32>,
    ) -> Site {
        Site {
            id,
            name,
            target,
            file,
            line,
            fields: Vec::new(),
        }
    }

    /// Returns the same site with the names of its fields.
    pub fn with_fields(mut self, names: impl IntoIterator<Item = &'static str>) -> Site {
        self.fields = names.into_iter().collect();
        self
    }

    /// Returns the stand-in for everything beyond a declared limit.
    pub fn other() -> Site {
        Site::new(SiteId::OTHER, "(other)", "", None, None)
    }

    /// Returns `file:line` if both are known.
    pub fn location(&self) -> Option<String> {
        Some(format!("{}:{}", self.file?, self.line?))
    }
}

/// One thread that entered at least one span.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// Counts up from 0 in the order in which the threads were first seen.
    pub index: u32,
    /// The operating system's id, where it can be had (Linux).
    pub os_id: Option<u32>,
    /// The thread's name; `main` for the main thread.
    pub name: Option<Arc<str>>,
}

impl Thread {
    /// Describes a thread.
    pub fn new(index: u32, os_id: Option<u32>, name: Option<Arc<str>>) -> Thread {
        Thread { index, os_id, name }
    }
}

/// One span of this capture. Unlike the subscriber's ids, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SpanSeq(pub u64);
