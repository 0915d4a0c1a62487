//! Devices, their streams, the calls that feed them and the arrows in between.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::model::{
    GpuApi, GpuBatch, GpuCall, GpuCaller, GpuCopy, GpuDeviceStats, GpuKernel, GpuKind, GpuMemory,
    GpuMemoryKind, GpuProfile, GpuQueue, GpuSource, GpuWork, Ids, PathId, SpanId, TraceId,
};

const FIRST_DEVICE: u64 = 1_000_000_000;

fn call(
    function: &'static str,
    api: GpuApi,
    correlation: u32,
    start: u64,
    end: u64,
) -> Arc<GpuCall> {
    let site = site(7, "forward");
    let ids = Ids::root(TraceId(0xabc), SpanId(0xdef));
    Arc::new(GpuCall {
        api,
        function,
        correlation,
        context: 1,
        thread: thread(0, "main"),
        start: Nanos(start),
        end: Some(Nanos(end)),
        caller: Some(GpuCaller::new(
            SpanSeq(9),
            Arc::new(site),
            PathId(1),
            Some(ids),
        )),
        memory: None,
        error: None,
    })
}

fn launch(correlation: u32, start: u64, end: u64) -> Arc<GpuCall> {
    call("cuLaunchKernel", GpuApi::Launch, correlation, start, end)
}

fn work(kind: GpuKind, queue: (u32, u32, u32), start: u64, end: u64) -> GpuWork {
    let queue = GpuQueue::new(queue.0, queue.1, queue.2);
    GpuWork::new(kind, queue, Nanos(start), Nanos(end), GpuSource::Cupti)
}

fn kernel(name: &str) -> GpuKind {
    GpuKind::Kernel(GpuKernel::new(name))
}

fn started_by(call: &Arc<GpuCall>, work: GpuWork) -> GpuWork {
    GpuWork {
        call: Some(Arc::clone(call)),
        caller: call.caller.clone(),
        ..work
    }
}

fn bars(events: &[Json]) -> Vec<&Json> {
    events.iter().filter(|event| event["ph"] == "X").collect()
}

fn all(fill: impl FnOnce(&mut ChromeSink)) -> Vec<Json> {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    fill(&mut sink);
    finish(&mut sink);
    array(&out.text())
}

fn names_of(events: &[Json], what: &str) -> Vec<(u64, u64, String)> {
    let events = events.iter().filter(|event| event["name"] == what);
    let number = |event: &Json, key: &str| event[key].as_u64().unwrap();
    events
        .map(|event| {
            let name = event["args"]["name"].as_str().unwrap().to_owned();
            (number(event, "pid"), number(event, "tid"), name)
        })
        .collect()
}

#[test]
fn a_kernel_is_a_bar_of_its_stream_with_what_is_known_of_it() {
    let launch = launch(41, 1_000, 1_500);
    let details = GpuKernel {
        grid: [4, 2, 1],
        block: [128, 1, 1],
        registers: 32,
        shared_bytes: 2_048,
        ..GpuKernel::new("gemm")
    };
    let done = started_by(
        &launch,
        work(GpuKind::Kernel(details), (0, 1, 7), 2_001, 3_003),
    );
    let events = written(|sink| {
        sink.gpu(&GpuBatch::new(&[done], &[launch])).unwrap();
    });
    assert_eq!(
        *bars(&events)[0],
        json!({"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernel", "pid": 4321, "tid": 4321, "ts": 1.0, "dur": 0.5,
            "args": {"correlation": 41, "context": 1, "span": "forward",
                "trace_id": "00000000000000000000000000000abc", "span_id": "0000000000000def"}})
    );
    assert_eq!(
        *bars(&events)[1],
        json!({"ph": "X", "cat": "kernel", "name": "gemm", "pid": FIRST_DEVICE, "tid": 7, "ts": 2.001, "dur": 1.002,
            "args": {"device": 0, "context": 1, "stream": 7, "correlation": 41,
                "registers per thread": 32, "shared memory": 2_048, "grid": [4, 2, 1], "block": [128, 1, 1],
                "span": "forward",
                "trace_id": "00000000000000000000000000000abc", "span_id": "0000000000000def"}})
    );
}

#[test]
fn an_arrow_goes_from_the_call_to_the_work() {
    let launch = launch(41, 1_000, 1_500);
    let done = started_by(&launch, work(kernel("gemm"), (0, 1, 7), 2_000, 3_000));
    let events = written(|sink| {
        sink.gpu(&GpuBatch::new(&[done], &[launch])).unwrap();
    });
    let arrows: Vec<_> = events
        .iter()
        .filter(|event| event["cat"] == "ac2g")
        .collect();
    assert_eq!(
        *arrows[0],
        json!({"ph": "s", "cat": "ac2g", "name": "ac2g", "id": 41, "pid": 4321, "tid": 4321, "ts": 1.0})
    );
    assert_eq!(
        *arrows[1],
        json!({"ph": "f", "bp": "e", "cat": "ac2g", "name": "ac2g", "id": 41, "pid": FIRST_DEVICE, "tid": 7, "ts": 2.0})
    );
    let at = |phase: &str, pid: u64| {
        let found = |event: &Json| event["ph"] == phase && event["pid"] == pid;
        events.iter().position(found).unwrap()
    };
    assert!(
        at("X", 4321) < at("s", 4321),
        "an arrow leaves from a bar that is there"
    );
    assert!(at("X", FIRST_DEVICE) < at("f", FIRST_DEVICE));
}

#[test]
fn a_graph_has_one_arrow_to_its_first_node_and_work_of_unknown_origin_none() {
    let launch = call("cuGraphLaunch", GpuApi::GraphLaunch, 5, 10, 20);
    let node = |start| {
        let node = work(kernel("node"), (0, 1, 7), start, start + 5);
        GpuWork {
            graph: Some(3),
            ..started_by(&launch, node)
        }
    };
    let orphan = work(kernel("orphan"), (0, 1, 7), 80, 90);
    let events = written(|sink| {
        let calls = [Arc::clone(&launch)];
        let nodes = [node(30), node(40), orphan];
        sink.gpu(&GpuBatch::new(&nodes, &calls)).unwrap();
    });
    let ends = |phase| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!((ends("s"), ends("f")), (1, 1));
    assert_eq!(bars(&events)[1]["args"]["graph id"], 3);
    assert!(bars(&events)[3]["args"].get("correlation").is_none());
}

#[test]
fn copies_and_fills_say_direction_memory_size_and_bandwidth() {
    use GpuMemoryKind::{Array, Device, Managed, Pageable, Pinned, Unknown};
    let copy = |from, to| GpuKind::Copy(GpuCopy::new(from, to, 1_000));
    let peer = GpuKind::Copy(GpuCopy {
        peer: Some(1),
        ..GpuCopy::new(Device, Device, 1_000)
    });
    let kinds = [
        (
            copy(Pageable, Device),
            "Memcpy HtoD (Pageable -> Device)",
            "gpu_memcpy",
        ),
        (
            copy(Device, Pinned),
            "Memcpy DtoH (Device -> Pinned)",
            "gpu_memcpy",
        ),
        (
            copy(Array, Device),
            "Memcpy AtoD (Array -> Device)",
            "gpu_memcpy",
        ),
        (
            copy(Managed, Device),
            "Memcpy MtoD (Managed -> Device)",
            "gpu_memcpy",
        ),
        (
            copy(Unknown, Device),
            "Memcpy (Unknown -> Device)",
            "gpu_memcpy",
        ),
        (peer, "Memcpy PtoP (Device -> Device)", "gpu_memcpy"),
        (GpuKind::Set { bytes: 1_000 }, "Memset", "gpu_memset"),
    ];
    for (kind, name, category) in kinds {
        let events = written(|sink| {
            let done = work(kind, (0, 1, 7), 100, 350);
            sink.gpu(&GpuBatch::new(&[done], &[])).unwrap();
        });
        let bar = bars(&events)[0];
        assert_eq!(
            (&bar["name"], &bar["cat"]),
            (&json!(name), &json!(category))
        );
        assert_eq!(bar["args"]["bytes"], 1_000);
        assert_eq!(bar["args"]["memory bandwidth (GB/s)"], 4.0);
    }
    let events = written(|sink| {
        let done = work(copy(Pageable, Device), (0, 1, 7), 100, 100);
        sink.gpu(&GpuBatch::new(&[done], &[])).unwrap();
    });
    let args = &bars(&events)[0]["args"];
    assert!(args.get("memory bandwidth (GB/s)").is_none(), "{args}");
}

#[test]
fn every_device_is_a_process_and_every_stream_a_thread() {
    let events = all(|sink| {
        let queues = [(0, 1, 7), (0, 1, 13), (1, 2, 7), (0, 3, 7), (0, 3, 0)];
        let done = queues.map(|queue| work(kernel("k"), queue, 10, 20));
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
        sink.gpu(&GpuBatch::new(&done.map(|work| later(work, 100)), &[]))
            .unwrap();
    });
    let second = FIRST_DEVICE + 1;
    assert_eq!(
        names_of(&events, "process_name")[1..],
        [
            (FIRST_DEVICE, FIRST_DEVICE, "GPU 0".to_owned()),
            (second, second, "GPU 1".to_owned()),
        ]
    );
    assert_eq!(
        names_of(&events, "thread_name"),
        [
            (FIRST_DEVICE, 7, "stream 7".to_owned()),
            (FIRST_DEVICE, 13, "stream 13".to_owned()),
            (second, 7, "stream 7".to_owned()),
            (FIRST_DEVICE, 1_000_000, "stream 7 of context 3".to_owned()),
            (FIRST_DEVICE, 1_000_001, "stream 0 of context 3".to_owned()),
        ]
    );
    let lanes: Vec<_> = bars(&events)
        .iter()
        .map(|bar| (bar["pid"].clone(), bar["tid"].clone()))
        .collect();
    assert_eq!(lanes[..5], lanes[5..], "a stream stays where it is");
    let streams: Vec<_> = bars(&events)
        .iter()
        .map(|bar| bar["args"]["stream"].as_u64().unwrap())
        .collect();
    assert_eq!(streams[..5], [7, 13, 7, 7, 0]);
}

fn later(work: GpuWork, by: u64) -> GpuWork {
    GpuWork {
        start: Nanos(work.start.0 + by),
        end: Nanos(work.end.0 + by),
        ..work
    }
}

#[test]
fn a_process_with_the_number_of_a_device_keeps_it() {
    let process = Process {
        pid: 1_000_000_001,
        ..process()
    };
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process, ANCHOR);
    let done = [0, 1].map(|device| work(kernel("k"), (device, 1, 7), 1, 2));
    sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    finish(&mut sink);
    let pids: Vec<_> = names_of(&array(&out.text()), "process_name")
        .iter()
        .map(|(pid, ..)| *pid)
        .collect();
    assert_eq!(pids, [1_000_000_001, 1, 2]);
}

fn with_devices(names: [(u32, &str); 2]) -> Profile {
    let device = |(ordinal, name): (u32, &str)| {
        let mut device = GpuDeviceStats::default();
        device.device.ordinal = ordinal;
        device.device.name = Some(name.to_owned());
        device
    };
    Profile {
        gpu: Some(GpuProfile {
            devices: names.map(device).into(),
            ..GpuProfile::default()
        }),
        ..Profile::default()
    }
}

#[test]
fn a_device_gets_its_name_in_the_end() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    sink.gpu(&GpuBatch::new(&[work(kernel("k"), (1, 1, 7), 1, 2)], &[]))
        .unwrap();
    let profile = with_devices([(0, "idle"), (1, "H200 \"x\"")]);
    sink.finish(&profile, &Diagnosis::default(), Duration::ZERO)
        .unwrap();
    let names: Vec<_> = names_of(&array(&out.text()), "process_name")
        .into_iter()
        .map(|(.., name)| name)
        .collect();
    assert_eq!(names, ["indexer", "GPU 1", "GPU 1 H200 \"x\""]);
}

#[test]
fn what_overlaps_on_a_stream_has_a_lane_of_its_own() {
    let range = GpuKind::Range {
        name: "step".into(),
    };
    let events = all(|sink| {
        let done = [
            work(kernel("a"), (0, 1, 7), 100, 200),
            work(kernel("b"), (0, 1, 7), 150, 250),
            work(kernel("c"), (0, 1, 7), 160, 170),
            work(kernel("d"), (0, 1, 7), 200, 300),
            work(kernel("late"), (0, 1, 7), 10, 50),
            work(range, (0, 1, 7), 90, 260),
        ];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let lanes: Vec<_> = names_of(&events, "thread_name")
        .into_iter()
        .map(|(.., name)| name)
        .collect();
    assert_eq!(
        lanes,
        [
            "stream 7",
            "stream 7 (2)",
            "stream 7 (3)",
            "stream 7 ranges"
        ]
    );
    let tids: Vec<_> = bars(&events)
        .iter()
        .map(|bar| bar["tid"].as_u64().unwrap())
        .collect();
    assert_eq!(tids, [7, 1_000_000, 1_000_001, 7, 7, 1_000_002]);
}

#[test]
fn a_call_that_never_returned_ends_within_the_span_around_it() {
    let open = Arc::new(GpuCall {
        end: None,
        ..(*call("cuStreamSynchronize", GpuApi::Synchronize, 6, 4_000, 4_000)).clone()
    });
    let (site, main) = (site(1, "wait"), thread(0, "main"));
    let unfinished = SpanRecord {
        unfinished: true,
        ..span(&site, &main, SpanKind::Whole, 3_000, 9_000)
    };
    for call_first in [true, false] {
        let events = written(|sink| {
            let calls = [Arc::clone(&open)];
            let batch = GpuBatch::new(&[], &calls);
            if call_first {
                sink.gpu(&batch).unwrap();
            }
            sink.spans(std::slice::from_ref(&unfinished)).unwrap();
            if !call_first {
                sink.gpu(&batch).unwrap();
            }
        });
        let bars = bars(&events);
        assert_eq!(bars[1]["name"], "cuStreamSynchronize");
        assert_eq!(bars[1]["args"]["unfinished"], true);
        assert_eq!(
            (&bars[1]["ts"], &bars[1]["dur"]),
            (&json!(4.0), &json!(4.999))
        );
    }
}

#[test]
fn an_allocation_says_size_and_address_and_a_failed_call_its_error() {
    let allocation = Arc::new(GpuCall {
        memory: Some(GpuMemory::new(0x7f00_0000_0000_0100, Some(4_096))),
        error: Some(2),
        ..(*call("cuMemAlloc", GpuApi::Allocate, 6, 10, 20)).clone()
    });
    let events = written(|sink| {
        sink.gpu(&GpuBatch::new(&[], &[allocation])).unwrap();
    });
    let args = &bars(&events)[0]["args"];
    assert_eq!(args["address"], "0x7f00000000000100");
    assert_eq!(args["bytes"], 4_096);
    assert_eq!(args["error"], 2);
}

proptest::proptest! {
    /// Viewers drop what overlaps without nesting; whatever the driver says, nothing does.
    #[test]
    fn no_two_bars_of_a_lane_overlap(
        work_of in proptest::collection::vec((0..3_u32, 0..2_u32, 0..400_u64, 0..60_u64), 1..400)
    ) {
        let done: Vec<_> = work_of
            .iter()
            .map(|&(stream, context, start, length)| {
                work(kernel("k"), (0, context, stream), start, start + length)
            })
            .collect();
        let events = written(|sink| sink.gpu(&GpuBatch::new(&done, &[])).unwrap());
        let mut lanes: std::collections::BTreeMap<u64, Vec<(u64, u64)>> = Default::default();
        let mut seen = std::collections::HashMap::new();
        for (bar, done) in bars(&events).iter().zip(&done) {
            let tid = bar["tid"].as_u64().unwrap();
            let of = *seen.entry(tid).or_insert(done.queue);
            proptest::prop_assert_eq!(of, done.queue, "two streams share lane {}", tid);
            proptest::prop_assert!(tid != 0);
            lanes.entry(tid).or_default().push((done.start.0, done.end.0));
        }
        for bars in lanes.values_mut() {
            bars.sort();
            for pair in bars.windows(2) {
                proptest::prop_assert!(pair[0].1 <= pair[1].0, "{:?}", pair);
            }
        }
    }

    #[test]
    fn any_kernel_name_comes_back(
        name in proptest::prelude::any::<String>(),
        range in "[\\x00-\\x1f\"\\\\\u{7f}\u{2028}</>é]{0,40}",
        repeated in 1..400_usize,
    ) {
        let long = name.repeat(repeated);
        let kinds = [kernel(&long), GpuKind::Range { name: range.as_str().into() }];
        let done = kinds.map(|kind| work(kind, (0, 1, 7), 1, 2));
        let events = written(|sink| sink.gpu(&GpuBatch::new(&done, &[])).unwrap());
        proptest::prop_assert_eq!(bars(&events)[0]["name"].as_str(), Some(long.as_str()));
        proptest::prop_assert_eq!(bars(&events)[1]["name"].as_str(), Some(range.as_str()));
    }
}

#[test]
fn names_of_four_kibibytes_with_quotes_are_whole() {
    let long = "void gemm<float, \"x\\y\", \u{1f680}>(\n)".repeat(200);
    assert!(long.len() > 4_096);
    let events = written(|sink| {
        let done = work(kernel(&long), (0, 1, 7), 1, 2);
        sink.gpu(&GpuBatch::new(&[done], &[])).unwrap();
    });
    assert_eq!(bars(&events)[0]["name"], long);
}

#[test]
fn the_trace_of_two_devices_is_as_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut sink = ChromeSink::create(path.clone(), &process(), ANCHOR).unwrap();
    fill_with_devices(&mut sink);
    let profile = with_devices([(0, "NVIDIA H200"), (1, "NVIDIA H200")]);
    sink.finish(&profile, &Diagnosis::default(), Duration::ZERO)
        .unwrap();
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    serde_json::from_str::<Json>(&text).unwrap();
    if std::env::var_os("CORTEX_BLESS").is_some() {
        std::fs::write(golden(), &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden()).unwrap();
    for (line, (expected, found)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}

#[test]
fn every_cut_after_a_line_loads_and_leaves_no_half_arrow() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    fill_with_devices(&mut sink);
    sink.flush().unwrap();
    let text = out.text();
    for (at, _) in text.match_indices('\n') {
        let events = array(&format!("{}]", &text[..=at]));
        let ends = |phase| events.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!(ends("s"), ends("f"));
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chrome_gpu.json")
}

/// Two devices, overlapping work, a range and a graph under one span; `.ci/viewers` opens the golden file.
fn fill_with_devices(sink: &mut ChromeSink) {
    const US: u64 = 1_000;
    let (forward, main) = (site(7, "forward"), thread(0, "main"));
    sink.spans(&[span(&forward, &main, SpanKind::Whole, 10 * US, 400 * US)])
        .unwrap();
    let copy = call(
        "cuMemcpyHtoDAsync",
        GpuApi::CopyAsync,
        100,
        20 * US,
        25 * US,
    );
    let gemm = launch(101, 30 * US, 35 * US);
    let graph = call("cuGraphLaunch", GpuApi::GraphLaunch, 102, 40 * US, 50 * US);
    let second = launch(103, 60 * US, 65 * US);
    let wait = call(
        "cuStreamSynchronize",
        GpuApi::Synchronize,
        104,
        70 * US,
        390 * US,
    );
    let to_device = GpuCopy::new(GpuMemoryKind::Pageable, GpuMemoryKind::Device, 1 << 20);
    let node = |start: u64, end: u64| {
        let node = work(kernel("node"), (0, 1, 7), start * US, end * US);
        GpuWork {
            graph: Some(3),
            ..started_by(&graph, node)
        }
    };
    let range = GpuKind::Range {
        name: "step \"1\"".into(),
    };
    let done = [
        started_by(
            &copy,
            work(GpuKind::Copy(to_device), (0, 1, 7), 40 * US, 90 * US),
        ),
        started_by(&gemm, work(kernel("gemm"), (0, 1, 7), 91 * US, 191 * US)),
        node(200, 260),
        node(230, 300),
        work(range, (0, 1, 7), 80 * US, 310 * US),
        work(GpuKind::Graph, (0, 1, 13), 120 * US, 220 * US),
        started_by(&second, work(kernel("relu"), (1, 2, 7), 80 * US, 95 * US)),
        work(GpuKind::Set { bytes: 64 }, (1, 2, 7), 95 * US, 96 * US),
    ];
    let calls = [copy, gemm, graph, second, wait];
    sink.gpu(&GpuBatch::new(&done, &calls)).unwrap();
}
