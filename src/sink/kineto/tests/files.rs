//! Which files there are, when, and what becomes of them when something goes wrong.

use super::*;
use crate::model::{GpuDeviceStats, GpuProfile};
use crate::sink::SinkError;

fn range(queue: (u32, u32, u32), start: u64, end: u64) -> GpuWork {
    let kind = GpuKind::Range {
        name: "step".into(),
    };
    work(kind, queue, start, end)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_device_without_kernels_or_copies_has_no_file() {
    let folder = written(|sink| {
        let (site, main) = (site("forward"), thread(0));
        sink.spans(&[span(&site, &main, 1, 2)]).unwrap();
        let done = [range((0, 1, 7), 10, 20), kernel("k", (1, 2, 7), 10, 20)];
        let calls = [call("cuMemAlloc", GpuApi::Allocate, 1, 1, 2)];
        sink.gpu(&GpuBatch::new(&done, &calls)).unwrap();
    });
    assert_eq!(files(folder.path()), ["device-1.json"]);
    assert_eq!(files(written(|_| {}).path()), Vec::<String>::new());
}

#[test]
fn ranges_from_before_the_first_kernel_are_there_and_are_no_busy_time() {
    let folder = written(|sink| {
        let done = [range((0, 1, 7), 10, 50)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
        let done = [kernel("k", (0, 1, 7), 20, 30)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let ranges = bars(&read(folder.path(), 0), "gpu_user_annotation");
    assert_eq!(names(&ranges), ["step"]);
    assert!(ranges[0]["args"].get("stream").is_none());
    assert_eq!(ranges[0]["tid"], 7);
}

#[test]
fn what_a_device_without_a_file_did_is_bounded_and_counted() {
    let folder = written(|sink| {
        for at in 0..40_000 {
            let done = [range((0, 1, 7), at, at + 1)];
            sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
        }
        let done = [kernel("k", (0, 1, 7), 20, 30)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let object = read(folder.path(), 0);
    let kept = bars(&object, "gpu_user_annotation").len() as u64;
    let left_out = object["otherData"]["rows_left_out"].as_u64().unwrap();
    assert_eq!(kept + left_out, 40_000);
    assert!(left_out > 0);
    assert!(text(folder.path(), 0).len() < 3 << 20);
}

#[test]
fn calls_that_wait_for_their_context_are_bounded_and_counted() {
    let folder = written(|sink| {
        let calls: Vec<_> = (0..10_000)
            .map(|at| call("cuMemAlloc", GpuApi::Allocate, at, 1, 2))
            .collect();
        sink.gpu(&GpuBatch::new(&[], &calls)).unwrap();
        let done = [kernel("k", (0, 1, 7), 20, 30)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let object = read(folder.path(), 0);
    let kept = bars(&object, "cuda_runtime");
    assert_eq!(kept.last().unwrap()["args"]["correlation"], 9_999);
    let left_out = object["otherData"]["rows_left_out"].as_u64().unwrap();
    assert_eq!(kept.len() as u64 + left_out, 10_000);
}

#[test]
fn spans_from_before_the_first_call_are_the_newest() {
    let folder = written(|sink| {
        let (site, main) = (site("forward"), thread(0));
        for at in 0..50_000 {
            let end = at + 1 + u64::from(at == 49_999);
            sink.spans(&[span(&site, &main, at, end)]).unwrap();
        }
        let launch = launch(1, 60_000);
        let done = [started_by(&launch, kernel("k", (0, 1, 7), 70_000, 80_000))];
        sink.gpu(&GpuBatch::new(&done, &[launch])).unwrap();
    });
    let spans = bars(&read(folder.path(), 0), "user_annotation");
    assert!((1_000..50_000).contains(&spans.len()), "{}", spans.len());
    assert_eq!(spans.last().unwrap()["dur"], 0.002, "the newest is there");
}

#[test]
fn every_cut_after_a_line_loads_and_the_end_is_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = KinetoSink::create(folder.path(), &process(), ANCHOR).unwrap();
    for round in 0..4 {
        let at = round * 100;
        let launch = launch(round as u32, at);
        let done = in_span(round, "forward", kernel("k", (0, 1, 7), at + 10, at + 50));
        let done = [started_by(&launch, done)];
        sink.gpu(&GpuBatch::new(&done, &[launch])).unwrap();
        sink.flush().unwrap();
        let text = text(folder.path(), 0);
        let event = text.find("{\"").unwrap();
        assert!(event + 2 <= 64, "Perfetto looks no further: {event}");
        for (cut, _) in text.match_indices('\n').skip(1) {
            let array = format!("{}]", &text[..=cut]);
            serde_json::from_str::<Vec<Json>>(&array).unwrap();
        }
    }
    finish(&mut sink);
    assert_eq!(bars(&read(folder.path(), 0), "kernel").len(), 4);
}

#[test]
fn a_large_trace_is_on_the_disk_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = KinetoSink::create(folder.path(), &process(), ANCHOR).unwrap();
    let done: Vec<_> = (0..10_000)
        .map(|at| kernel("k", (0, 1, 7), 10 * at, 10 * at + 5))
        .collect();
    sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    assert!(text(folder.path(), 0).len() > 1 << 20);
}

#[test]
fn the_folder_is_made_and_cleared_of_an_earlier_run_only() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    KinetoSink::create(&inner, &process(), ANCHOR).unwrap();
    let kept = ["device-x.json", "device-1.json.gz", "mine.json"];
    for name in kept.iter().chain(&["device-0.json", "device-12.json"]) {
        std::fs::write(inner.join(name), "{}").unwrap();
    }
    KinetoSink::create(&inner, &process(), ANCHOR).unwrap();
    let mut expected = kept.map(str::to_owned);
    expected.sort();
    assert_eq!(files(&inner), expected);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let told = KinetoSink::create(file.join("inside"), &process(), ANCHOR);
    match told {
        Err(SinkError::File { path, .. }) => assert_eq!(path, file.join("inside")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_vanished_is_an_error_and_the_others_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = KinetoSink::create(folder.path(), &process(), ANCHOR).unwrap();
    let done = [0, 1].map(|device| kernel("k", (device, device, 7), 1, 2));
    sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    let gone = folder.path().join("device-0.json");
    std::fs::remove_file(&gone).unwrap();
    match sink.finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO) {
        Err(SinkError::File { path, .. }) => {
            assert_eq!(path.file_name(), gone.file_name());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(folder.path(), 1)["distributedInfo"]["rank"], 1);
}

#[test]
fn the_end_says_what_is_known_of_the_devices() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = KinetoSink::create(folder.path(), &process(), ANCHOR).unwrap();
    let done = [kernel("k", (0, 1, 7), 1, 2)];
    sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    let mut known = GpuDeviceStats::default();
    known.device.name = Some("H200 \"x\"".to_owned());
    known.device.multiprocessors = Some(132);
    let mut unknown = GpuDeviceStats::default();
    unknown.device.ordinal = 1;
    let profile = Profile {
        gpu: Some(GpuProfile {
            devices: vec![known, unknown],
            ..GpuProfile::default()
        }),
        ..Profile::default()
    };
    sink.finish(&profile, &Diagnosis::default(), Duration::ZERO)
        .unwrap();
    let object = read(folder.path(), 0);
    assert_eq!(
        object["deviceProperties"],
        serde_json::json!([{"id": 0, "name": "H200 \"x\"", "numSms": 132}, {"id": 1}])
    );
    let events = object["traceEvents"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["args"]["name"] == "GPU 0 H200 \"x\"")
    );
}
