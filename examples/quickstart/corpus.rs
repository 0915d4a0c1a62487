//! The text files of a folder.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tracing::field::Empty;
use tracing::{Span, instrument};

/// Larger files are data, such as traces and dumps, rather than text that somebody wrote.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the files below `folder`, sorted, without build output and version control.
#[instrument(skip_all, fields(folder = %folder.display(), files = Empty))]
pub(crate) fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        })?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let skipped = ["target", ".git", "node_modules"]
                .iter()
                .any(|name| entry.file_name() == *name);
            if kind.is_dir() && !skipped {
                folders.push(entry.path());
            } else if kind.is_file() && entry.metadata()?.len() <= MAX_BYTES {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Span::current().record("files", files.len());
    Ok(files)
}

/// Returns the text of a file, or `None` if it holds something else.
#[instrument(err, skip_all, fields(path = %path.display(), bytes = Empty))]
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let bytes = fs::read(path)?;
    Span::current().record("bytes", bytes.len());
    if bytes.contains(&0) {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}
