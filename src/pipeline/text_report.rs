//! Where the text report goes.

use std::path::{Path, PathBuf};

/// Where the text report goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TextReport {
    /// Nowhere.
    #[default]
    Off,
    /// Standard error, with colours if it is a terminal.
    Stderr,
    /// A file, which is replaced.
    File(PathBuf),
}

impl From<&str> for TextReport {
    fn from(path: &str) -> TextReport {
        TextReport::File(path.into())
    }
}

impl From<&Path> for TextReport {
    fn from(path: &Path) -> TextReport {
        TextReport::File(path.into())
    }
}

impl From<PathBuf> for TextReport {
    fn from(path: PathBuf) -> TextReport {
        TextReport::File(path)
    }
}
