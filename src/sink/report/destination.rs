//! A file that appears whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sink::SinkError;

/// Where a report goes in the end. Checked when it is named, written once when the program ends.
#[derive(Debug)]
pub(super) struct Destination {
    /// As the user wrote it, for error messages.
    named: PathBuf,
    /// Absolute, because the program may change its folder before the end.
    target: PathBuf,
    /// Devices and pipes are written directly: nothing can be renamed over them.
    special: bool,
}

/// Keeps the neighbours of two reports in one process apart.
static NEIGHBOURS: AtomicU64 = AtomicU64::new(0);

impl Destination {
    /// Makes sure that `path` can be written now, and leaves what it holds as it is.
    pub(super) fn create(path: &Path) -> Result<Destination, SinkError> {
        Destination::check(path).map_err(|source| SinkError::File {
            path: path.to_owned(),
            source,
        })
    }

    fn check(path: &Path) -> io::Result<Destination> {
        let mut target = std::path::absolute(path)?;
        let mut special = false;
        match fs::metadata(path) {
            Ok(found) => {
                special = !found.is_file() && !found.is_dir();
                if !special {
                    OpenOptions::new().write(true).open(path)?;
                    // A symbolic link keeps pointing at the file, which is the one to be replaced.
                    target = fs::canonicalize(path)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let destination = Destination {
            named: path.to_owned(),
            target,
            special,
        };
        if !special {
            let (neighbour, _) = destination.neighbour()?;
            fs::remove_file(neighbour)?;
        }
        Ok(destination)
    }

    /// Writes everything. On an error the file holds what it held before, and no other file is left.
    pub(super) fn write(&self, content: &[u8]) -> Result<(), SinkError> {
        self.replace(content).map_err(|source| SinkError::File {
            path: self.named.clone(),
            source,
        })
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        if self.special {
            let mut file = OpenOptions::new().write(true).open(&self.target)?;
            return file.write_all(content);
        }
        let (neighbour, mut file) = self.neighbour()?;
        let written = file
            .write_all(content)
            .and_then(|()| fs::rename(&neighbour, &self.target));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&neighbour);
        }
        written
    }

    /// Creates an empty file beside the target, on the same file system, so that it can be renamed.
    fn neighbour(&self) -> io::Result<(PathBuf, File)> {
        let name = self.target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        loop {
            let number = NEIGHBOURS.fetch_add(1, Ordering::Relaxed);
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = self.target.with_file_name(hidden);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                // Left over by a killed process with the same id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_appears_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        fs::write(&path, "old").unwrap();
        let destination = Destination::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        destination.write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(files(folder.path()), ["out.json"]);
    }

    #[test]
    fn a_bad_path_is_an_early_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().join("missing/out.json"),
            folder.path().to_owned(),
            PathBuf::from(""),
        ] {
            match Destination::create(&path) {
                Err(SinkError::File { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{path:?} gave {other:?}"),
            }
        }
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn a_folder_that_vanishes_is_a_late_error() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::create(&folder.path().join("out.json")).unwrap();
        drop(folder);
        assert!(matches!(
            destination.write(b"x"),
            Err(SinkError::File { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_keeps_pointing_at_the_file_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Destination::create(&link).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let destination = Destination::create(Path::new("/dev/full")).unwrap();
        match destination.write(b"x") {
            Err(SinkError::File { path, source }) => {
                assert_eq!(path, Path::new("/dev/full"));
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        let null = Destination::create(Path::new("/dev/null")).unwrap();
        null.write(b"x").unwrap();
    }
}
