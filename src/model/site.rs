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

    /// Returns `file:line` if both are known, without the folder where Cargo keeps the sources of dependencies:
    /// `serde-1.0.0/src/lib.rs:7`.
    pub fn location(&self) -> Option<String> {
        Some(format!("{}:{}", self.file_in_package()?, self.line?))
    }

    /// Returns the source file as [`Site::location`] does, without the line.
    pub fn file_in_package(&self) -> Option<&'static str> {
        self.file.map(in_package)
    }
}

/// Cuts off where Cargo keeps a dependency, so that the path begins with the name of the package or the repository.
fn in_package(file: &'static str) -> &'static str {
    let split = |path: &str| path.find(['/', '\\']);
    let mut last = "";
    let mut rest = file;
    while let Some(end) = split(rest) {
        let (part, after) = (&rest[..end], &rest[end + 1..]);
        match (last, part) {
            // One more folder has the name of the index and a hash.
            ("registry", "src") => {
                if let Some(end) = split(after).filter(|&end| after[..end].contains('-')) {
                    return &after[end + 1..];
                }
            }
            ("git", "checkouts") => return after,
            _ => {}
        }
        (last, rest) = (part, after);
    }
    file
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

#[cfg(test)]
mod tests {
    use super::*;

    fn location(file: &'static str) -> Option<String> {
        Site::new(SiteId(1), "forward", "bert", Some(file), Some(123)).location()
    }

    #[test]
    fn the_place_of_a_dependency_begins_with_its_package() {
        for (file, expected) in [
            (
                "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/bert-0.11.1/src/bert.rs",
                "bert-0.11.1/src/bert.rs:123",
            ),
            (
                r"C:\Users\me\.cargo\registry\src\index.crates.io-6f17\bert-0.11.1\src\bert.rs",
                r"bert-0.11.1\src\bert.rs:123",
            ),
            (
                "/home/me/.cargo/git/checkouts/bert-1f/8ac2/src/bert.rs",
                "bert-1f/8ac2/src/bert.rs:123",
            ),
            ("src/registry/src/bert.rs", "src/registry/src/bert.rs:123"),
            ("src/bert.rs", "src/bert.rs:123"),
        ] {
            assert_eq!(location(file).as_deref(), Some(expected), "{file}");
        }
    }
}
