//! What each kind of row says, and which file it is in.

use serde_json::json;

use super::*;

#[test]
fn work_and_calls_are_rows_as_the_analysis_wants_them() {
    let copy = call("cuMemcpyHtoDAsync", GpuApi::CopyAsync, 100, 1_020, 1_025);
    let gemm = launch(101, 1_030);
    let to_device = GpuCopy::new(GpuMemoryKind::Pageable, GpuMemoryKind::Device, 500);
    let folder = written(|sink| {
        let done = [
            started_by(
                &copy,
                work(GpuKind::Copy(to_device), (0, 1, 7), 1_040, 1_090),
            ),
            started_by(&gemm, kernel("gemm", (0, 1, 7), 1_091, 1_191)),
        ];
        sink.gpu(&GpuBatch::new(&done, &[copy, gemm])).unwrap();
    });
    let object = read(folder.path(), 0);
    assert_eq!(
        bars(&object, "cuda_runtime"),
        [
            json!({"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "pid": 4242, "tid": 4242,
                "ts": 1.02, "dur": 0.005,
                "args": {"correlation": 100, "context": 1, "driver_api": "cuMemcpyHtoDAsync"}}),
            json!({"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 4242, "tid": 4242,
                "ts": 1.03, "dur": 0.005,
                "args": {"correlation": 101, "context": 1, "driver_api": "cuLaunchKernel"}}),
        ]
    );
    assert_eq!(
        bars(&object, "gpu_memcpy"),
        [
            json!({"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "pid": 0, "tid": 7,
                "ts": 1.04, "dur": 0.05,
                "args": {"device": 0, "context": 1, "stream": 7, "correlation": 100, "bytes": 500,
                    "memory bandwidth (GB/s)": 10.0}})
        ]
    );
    assert_eq!(
        bars(&object, "kernel"),
        [
            json!({"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 1.091, "dur": 0.1,
                "args": {"device": 0, "context": 1, "stream": 7, "correlation": 101,
                    "registers per thread": 0, "shared memory": 0, "grid": [1, 1, 1], "block": [1, 1, 1]}})
        ]
    );
    let arrows: Vec<_> = object["traceEvents"].as_array().unwrap().clone();
    let ends = |phase| arrows.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!((ends("s"), ends("f")), (2, 2));
}

#[test]
fn the_object_begins_with_its_rank_and_ends_with_schema_and_start() {
    let folder = written(|sink| {
        let done = [kernel("k", (3, 1, 7), 1, 2)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let text = text(folder.path(), 3);
    let first = text.lines().next().unwrap();
    assert_eq!(
        first.trim_end(),
        r#"{"distributedInfo":{"rank": 3},"traceEvents":["#
    );
    let object = read(folder.path(), 3);
    assert_eq!(object["schemaVersion"], 1);
    assert_eq!(object["displayTimeUnit"], "ms");
    assert_eq!(object["baseTimeNanoseconds"], 1_763_700_000_123_456_789_u64);
    assert_eq!(object["otherData"]["rows_left_out"], 0);
    assert_eq!(
        object["traceEvents"][0]["ph"], "M",
        "the analysis takes row 0 for none at all"
    );
}

#[test]
fn the_longest_start_fits() {
    let folder = tempfile::tempdir().unwrap();
    let anchor = WallAnchor { unix_ns: u64::MAX };
    let mut sink = KinetoSink::create(folder.path(), &process(), anchor).unwrap();
    let done = [kernel("k", (u32::MAX, 1, 7), 1, 2)];
    sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    finish(&mut sink);
    let object = read(folder.path(), u32::MAX);
    assert_eq!(object["distributedInfo"]["rank"], u32::MAX);
    assert_eq!(bars(&object, "kernel").len(), 1);
}

#[test]
fn no_row_of_a_thread_has_a_stream() {
    let folder = written(|sink| {
        let mut site = site("forward");
        site.fields = vec!["stream"];
        let main = thread(0);
        let bytes = encode(Value::U64(7));
        let launch = launch(1, 20);
        let done = [started_by(&launch, kernel("k", (0, 1, 7), 30, 40))];
        sink.gpu(&GpuBatch::new(&done, &[launch])).unwrap();
        let record = SpanRecord {
            fields: Fields::new(&site, &bytes),
            ..span(&site, &main, 10, 50)
        };
        sink.spans(&[record]).unwrap();
    });
    let object = read(folder.path(), 0);
    let rows = ["user_annotation", "cuda_runtime"].map(|category| bars(&object, category));
    assert_eq!(rows.each_ref().map(Vec::len), [1, 1]);
    for row in rows.concat() {
        assert!(row["args"].get("stream").is_none(), "{row}");
    }
}

#[test]
fn each_device_has_its_work_its_calls_and_the_spans_of_who_called() {
    let of = |context, thread_index, start| {
        let mut call = (*launch(start as u32, start)).clone();
        call.context = context;
        call.thread = thread(thread_index);
        Arc::new(call)
    };
    let calls = [of(1, 0, 100), of(2, 1, 110)];
    let folder = written(|sink| {
        let (early, late, idle) = (site("early"), site("late"), site("idle"));
        let threads = [thread(0), thread(1), thread(2)];
        sink.spans(&[
            span(&early, &threads[0], 0, 50),
            span(&early, &threads[1], 0, 60),
            span(&idle, &threads[2], 0, 70),
        ])
        .unwrap();
        let done = [
            started_by(&calls[0], kernel("a", (0, 1, 7), 200, 300)),
            started_by(&calls[1], kernel("b", (1, 2, 7), 200, 300)),
        ];
        sink.gpu(&GpuBatch::new(&done, &calls)).unwrap();
        sink.spans(&[
            span(&late, &threads[0], 90, 400),
            span(&late, &threads[1], 90, 410),
            span(&idle, &threads[2], 90, 420),
        ])
        .unwrap();
    });
    for (device, kernel, ends) in [(0, "a", [50, 400]), (1, "b", [60, 410])] {
        let object = read(folder.path(), device);
        assert_eq!(names(&bars(&object, "kernel")), [kernel]);
        assert_eq!(bars(&object, "cuda_runtime").len(), 1);
        let spans = bars(&object, "user_annotation");
        assert_eq!(names(&spans), ["early", "late"]);
        let end = |bar: &Json| {
            let nanos = |key: &str| (bar[key].as_f64().unwrap() * 1e3).round() as u64;
            nanos("ts") + nanos("dur")
        };
        assert_eq!([end(&spans[0]), end(&spans[1])], ends);
    }
}

#[test]
fn a_call_waits_until_its_context_has_done_something() {
    let allocation = call("cuMemAlloc", GpuApi::Allocate, 1, 10, 20);
    let mut elsewhere = (*allocation).clone();
    elsewhere.context = 9;
    let folder = written(|sink| {
        let calls = [allocation, Arc::new(elsewhere)];
        sink.gpu(&GpuBatch::new(&[], &calls)).unwrap();
        let done = [kernel("k", (0, 1, 7), 30, 40)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let calls = bars(&read(folder.path(), 0), "cuda_runtime");
    assert_eq!(names(&calls), ["cudaMalloc"]);
}

#[test]
fn a_row_covers_what_a_span_had_a_stream_do_until_another_span_follows() {
    let folder = written(|sink| {
        let done = [
            in_span(1, "forward", kernel("a", (0, 1, 7), 10, 20)),
            in_span(1, "forward", kernel("b", (0, 1, 7), 30, 40)),
            in_span(1, "forward", kernel("c", (0, 1, 13), 15, 60)),
            in_span(2, "backward", kernel("d", (0, 1, 7), 50, 70)),
            kernel("outside", (0, 1, 7), 80, 90),
            in_span(1, "forward", kernel("e", (0, 1, 7), 100, 110)),
        ];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let object = read(folder.path(), 0);
    let rows = bars(&object, "gpu_user_annotation");
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            assert!(
                row["args"].get("stream").is_none(),
                "it would count as busy"
            );
            let nanos = |key: &str| (row[key].as_f64().unwrap() * 1e3).round() as u64;
            let name = row["name"].as_str().unwrap();
            (
                row["tid"].as_u64().unwrap(),
                name,
                nanos("ts"),
                nanos("dur"),
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            (7, "backward", 50, 20),
            (7, "forward", 10, 30),
            (7, "forward", 100, 10),
            (13, "forward", 15, 45),
        ]
    );
}

#[test]
fn only_a_whole_number_in_the_step_field_makes_a_step() {
    let step = |value| {
        let folder = written(|sink| {
            let mut site = site("iteration");
            site.fields = vec!["cortex.step"];
            let main = thread(0);
            let bytes = encode(value);
            let launch = launch(1, 20);
            let done = [started_by(&launch, kernel("k", (0, 1, 7), 30, 40))];
            sink.spans(&[SpanRecord {
                fields: Fields::new(&site, &bytes),
                ..span(&site, &main, 10, 50)
            }])
            .unwrap();
            sink.gpu(&GpuBatch::new(&done, &[launch])).unwrap();
        });
        let rows = bars(&read(folder.path(), 0), "user_annotation");
        rows[0]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(step(Value::U64(12)), "ProfilerStep#12");
    assert_eq!(step(Value::I64(3)), "ProfilerStep#3");
    for other in [
        Value::I64(-1),
        Value::Bool(true),
        Value::F64(2.0),
        Value::Str {
            text: "4",
            cut: false,
        },
    ] {
        assert_eq!(step(other), "iteration", "{other:?}");
    }
}

#[test]
fn what_does_not_nest_on_its_thread_is_left_out() {
    let folder = written(|sink| {
        let (site, main) = (site("query"), thread(0));
        let launch = launch(1, 20);
        let done = [started_by(&launch, kernel("k", (0, 1, 7), 30, 40))];
        sink.gpu(&GpuBatch::new(&done, &[launch])).unwrap();
        let whole = SpanKind::Async {
            busy: Nanos(1),
            activations: 2,
        };
        let of_kind = |kind, start, end| SpanRecord {
            kind,
            ..span(&site, &main, start, end)
        };
        sink.spans(&[
            of_kind(SpanKind::Poll, 1, 2),
            of_kind(whole, 1, 9),
            SpanRecord {
                overlapping: true,
                ..span(&site, &main, 3, 7)
            },
        ])
        .unwrap();
    });
    assert_eq!(bars(&read(folder.path(), 0), "user_annotation").len(), 1);
}

#[test]
fn streams_of_two_contexts_have_different_numbers() {
    let folder = written(|sink| {
        let done = [
            kernel("a", (0, 1, 7), 10, 20),
            kernel("b", (0, 2, 7), 10, 20),
            kernel("c", (0, 2, 7), 30, 40),
        ];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
    });
    let rows = bars(&read(folder.path(), 0), "kernel");
    let streams: Vec<_> = rows.iter().map(|row| &row["args"]["stream"]).collect();
    assert_eq!(streams, [7, 1_000_000, 1_000_000]);
    assert!(rows[0]["args"].get("driver_stream").is_none());
    assert_eq!(rows[1]["args"]["driver_stream"], 7);
    assert_eq!(rows[1]["tid"], rows[1]["args"]["stream"]);
}

#[test]
fn every_call_has_the_name_of_a_function_of_the_runtime() {
    for (function, api, expected) in [
        ("cuLaunchKernelEx", GpuApi::Launch, "cudaLaunchKernelExC"),
        (
            "cuLaunchCooperativeKernel",
            GpuApi::Launch,
            "cudaLaunchKernel",
        ),
        ("cuGraphLaunch", GpuApi::GraphLaunch, "cudaGraphLaunch"),
        ("cuMemcpyDtoH", GpuApi::Copy, "cudaMemcpy"),
        ("cuMemsetD8Async", GpuApi::SetAsync, "cudaMemsetAsync"),
        (
            "cuStreamSynchronize",
            GpuApi::Synchronize,
            "cudaStreamSynchronize",
        ),
        (
            "cuCtxSynchronize",
            GpuApi::Synchronize,
            "cudaDeviceSynchronize",
        ),
        (
            "cuMemAllocFromPoolAsync",
            GpuApi::Allocate,
            "cudaMallocAsync",
        ),
        ("cuMemFree", GpuApi::Free, "cudaFree"),
    ] {
        let folder = written(|sink| {
            let done = [kernel("k", (0, 1, 7), 30, 40)];
            let calls = [call(function, api, 1, 10, 20)];
            sink.gpu(&GpuBatch::new(&done, &calls)).unwrap();
        });
        let calls = bars(&read(folder.path(), 0), "cuda_runtime");
        assert_eq!(names(&calls), [expected]);
        assert_eq!(calls[0]["args"]["driver_api"], function);
    }
}

#[test]
fn a_call_that_never_returned_ends_with_what_is_known_of_the_threads() {
    let folder = written(|sink| {
        let (site, main) = (site("wait"), thread(0));
        let mut open = (*call("cuCtxSynchronize", GpuApi::Synchronize, 4, 100, 100)).clone();
        open.end = None;
        let done = [kernel("k", (0, 1, 7), 30, 40)];
        sink.gpu(&GpuBatch::new(&done, &[Arc::new(open)])).unwrap();
        sink.spans(&[span(&site, &main, 50, 900)]).unwrap();
    });
    let calls = bars(&read(folder.path(), 0), "cuda_runtime");
    assert_eq!(calls[0]["dur"], 0.8);
    assert_eq!(calls[0]["args"]["unfinished"], true);
}

proptest::proptest! {
    #[test]
    fn any_name_comes_back(
        kernel_name in proptest::prelude::any::<String>(),
        repeated in 1..400_usize,
        program in "[\\x00-\\x1f\"\\\\\u{7f}\u{2028}</>é]{0,40}",
    ) {
        let long = kernel_name.repeat(repeated);
        let folder = tempfile::tempdir().unwrap();
        let process = Process { name: Some(program.clone()), ..process() };
        let mut sink = KinetoSink::create(folder.path(), &process, ANCHOR).unwrap();
        let done = [kernel(&long, (0, 1, 7), 1, 2)];
        sink.gpu(&GpuBatch::new(&done, &[])).unwrap();
        finish(&mut sink);
        let object = read(folder.path(), 0);
        let kernels = bars(&object, "kernel");
        proptest::prop_assert_eq!(names(&kernels), [long.as_str()]);
        proptest::prop_assert_eq!(
            object["traceEvents"][0]["args"]["name"].as_str(),
            Some(program.as_str())
        );
    }
}
