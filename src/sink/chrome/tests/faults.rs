//! Full disks, vanished files and closed pipes: an error that names the file, and a file that still loads.

use std::path::PathBuf;

use super::super::Target;
use super::*;
use crate::sink::SinkError;
use crate::sink::trace_events::{Destination, Rewrite};

/// A file on a disk with so many bytes left.
#[derive(Clone)]
struct SmallDisk {
    content: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content.lock().unwrap();
        let taken = bytes.len().min(self.room - content.len());
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rewrite for SmallDisk {
    fn cut_to(&mut self, length: u64) -> io::Result<()> {
        self.content.lock().unwrap().truncate(length as usize);
        Ok(())
    }

    fn replace_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.content.lock().unwrap()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Writes spans until the disk is full, then some more, and returns what is on the disk in the end.
fn fill_disk(room: usize) -> String {
    let disk = SmallDisk {
        content: Arc::default(),
        room,
    };
    let target = Target::Device {
        path: PathBuf::from("small/trace.json"),
    };
    let destination = Destination::File(Box::new(disk.clone()));
    let mut sink = ChromeSink::new(destination, target, &process(), ANCHOR);
    let (site, main) = (site(1, "read"), thread(0, "main"));
    let mut errors = 0;
    for round in 0..40 {
        sink.spans(&[span(&site, &main, SpanKind::Whole, round, round + 1)])
            .unwrap();
        errors += u32::from(sink.flush().is_err());
    }
    assert_eq!(errors, 1, "told once while streaming");
    let told = sink.finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO);
    match told {
        Err(SinkError::File { path, source }) => {
            assert_eq!(path, PathBuf::from("small/trace.json"));
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    let content = disk.content.lock().unwrap().clone();
    String::from_utf8(content).unwrap()
}

#[test]
fn a_file_on_a_full_disk_loads_up_to_its_last_whole_line() {
    let mut cut = 0;
    // Every place in a line where the disk can end.
    for room in 400..1_600 {
        let text = fill_disk(room);
        if text.starts_with('{') {
            let object: Json = serde_json::from_str(&text).unwrap();
            assert!(object["traceEvents"].as_array().unwrap().len() > 2);
        } else {
            cut += 1;
            assert!(room - text.len() < 3, "there was room for the end");
            assert!(array(&(text + "]")).len() > 2);
        }
    }
    assert!(cut > 0, "no disk ended right after a line");
}

#[test]
fn a_disk_without_room_for_anything_is_an_error_and_an_empty_file() {
    assert_eq!(fill_disk(10), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    let mut sink = ChromeSink::create("/dev/full".into(), &process(), ANCHOR).unwrap();
    let (site, main) = (site(1, "read"), thread(0, "main"));
    sink.spans(&[span(&site, &main, SpanKind::Whole, 1, 2)])
        .unwrap();
    let flushed = sink.flush().unwrap_err();
    assert!(flushed.to_string().contains("/dev/full"), "{flushed}");
    sink.spans(&[span(&site, &main, SpanKind::Whole, 3, 4)])
        .unwrap();
    let finished = sink
        .finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO)
        .unwrap_err();
    match finished {
        SinkError::File { source, .. } => assert_eq!(source.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn a_device_takes_a_closed_array() {
    let mut sink = ChromeSink::create("/dev/null".into(), &process(), ANCHOR).unwrap();
    finish(&mut sink);
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("trace.json");
    match ChromeSink::create(path.clone(), &process(), ANCHOR) {
        Err(SinkError::File { path: told, source }) => {
            assert_eq!(told, path);
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("created in a folder that is not there"),
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_vanished_is_an_error_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut sink = ChromeSink::create(path.clone(), &process(), ANCHOR).unwrap();
    std::fs::remove_file(&path).unwrap();
    let told = sink
        .finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO)
        .unwrap_err();
    assert!(told.to_string().contains("trace.json"), "{told}");
}

/// Takes so many bytes and then fails for good, as a pipe whose reader is gone.
struct Pipe {
    content: Shared,
    left: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.left);
        if taken == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.left -= taken;
        self.content.write(&bytes[..taken])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_failed_write_nothing_more_goes_out() {
    let content = Shared::default();
    let pipe = Pipe {
        content: content.clone(),
        left: 60,
    };
    let mut sink = ChromeSink::to_writer(pipe, &process(), ANCHOR);
    assert!(matches!(sink.flush(), Err(SinkError::Other(_))));
    let (site, main) = (site(1, "read"), thread(0, "main"));
    sink.spans(&[span(&site, &main, SpanKind::Whole, 1, 2)])
        .unwrap();
    let told = sink.finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO);
    assert!(matches!(told, Err(SinkError::Other(_))));
    assert_eq!(content.text().len(), 60);
}
