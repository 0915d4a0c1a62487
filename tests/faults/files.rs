//! Files that cannot be written, from the start or any more.

use std::fs;
use std::path::Path;

use tracing_cortex::{BuildError, CortexBuilder, CortexLayer};

use crate::support::{assert_complete, assert_reports_complete, bars, failed, within};

fn all_outputs(folder: &Path) -> CortexBuilder {
    CortexLayer::builder()
        .no_resources()
        .chrome(folder.join("trace.json"))
        .report_json(folder.join("report.json"))
        .report_text(folder.join("report.txt"))
}

fn ten_spans() {
    (0..10).for_each(|_| tracing::info_span!("work").in_scope(|| ()));
}

#[test]
fn a_path_that_cannot_be_written_is_a_build_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for wrong in ["missing/out", "file/out", "."] {
        let path = folder.path().join(wrong);
        let builder = || CortexLayer::builder().no_resources();
        for builder in [
            builder().chrome(&path),
            builder().report_json(&path),
            builder().report_text(path.as_path()),
        ] {
            let error = builder.build().unwrap_err();
            assert!(matches!(error, BuildError::Output(_)), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }
}

#[test]
fn a_trace_whose_folder_vanishes_is_named_and_the_reports_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let vanishing = tempfile::tempdir().unwrap();
    let trace = vanishing.path().join("trace.json");
    let (layer, guard) = all_outputs(folder.path()).chrome(&trace).build().unwrap();
    within(layer, ten_spans);
    vanishing.close().unwrap();
    let error = guard.finish().unwrap_err();
    assert_eq!(failed(&error), ["chrome"]);
    assert!(
        error.to_string().contains(trace.to_str().unwrap()),
        "{error}"
    );
    assert_reports_complete(folder.path(), "work", 10);
}

#[test]
fn reports_whose_folder_vanishes_are_named_and_the_trace_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let vanishing = tempfile::tempdir().unwrap();
    let (layer, guard) = all_outputs(vanishing.path())
        .chrome(folder.path().join("trace.json"))
        .build()
        .unwrap();
    within(layer, ten_spans);
    vanishing.close().unwrap();
    let error = guard.finish().unwrap_err();
    assert_eq!(failed(&error), ["report_json", "report_text"]);
    assert_eq!(error.summary().unwrap().profile().sites[0].stats.calls, 10);
    assert_eq!(bars(&folder.path().join("trace.json"), "work").len(), 10);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_the_trace_is_named_and_the_reports_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, guard) = all_outputs(folder.path())
        .chrome("/dev/full")
        .build()
        .unwrap();
    within(layer, ten_spans);
    let error = guard.finish().unwrap_err();
    assert_eq!(failed(&error), ["chrome"]);
    assert!(error.to_string().contains("/dev/full"), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_reports_complete(folder.path(), "work", 10);
    for report in ["report.json", "report.txt"] {
        let report = fs::read_to_string(folder.path().join(report)).unwrap();
        assert!(report.contains("/dev/full"), "{report}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_each_report_is_named_and_all_else_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, guard) = all_outputs(folder.path())
        .report_json("/dev/full")
        .build()
        .unwrap();
    within(layer, ten_spans);
    assert_eq!(failed(&guard.finish().unwrap_err()), ["report_json"]);
    assert_eq!(bars(&folder.path().join("trace.json"), "work").len(), 10);
    let text = fs::read_to_string(folder.path().join("report.txt")).unwrap();
    assert!(text.contains("work"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let (layer, guard) = all_outputs(folder.path())
        .report_text("/dev/full")
        .build()
        .unwrap();
    within(layer, ten_spans);
    assert_eq!(failed(&guard.finish().unwrap_err()), ["report_text"]);
    fs::write(folder.path().join("report.txt"), "work").unwrap();
    assert_complete(folder.path(), "work", 10);
}

#[cfg(target_os = "linux")]
#[test]
fn where_everything_is_full_everything_is_named_and_the_results_are_returned() {
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .chrome("/dev/full")
        .report_json("/dev/full")
        .report_text("/dev/full")
        .build()
        .unwrap();
    within(layer, ten_spans);
    let error = guard.finish().unwrap_err();
    assert_eq!(failed(&error), ["chrome", "report_json", "report_text"]);
    assert!(
        format!("{error:?}").len() < 2_000,
        "what `main` prints of it"
    );
    assert_eq!(error.summary().unwrap().profile().sites[0].stats.calls, 10);
}
