//! Ranges that the program marks on a stream: with CUPTI, without it, and where they cannot be.

use std::ffi::c_void;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, CudaStream};
use tracing::info_span;
use tracing_cortex::gpu::{self, Cuda, Range};
use tracing_cortex::{CortexBuilder, CortexLayer, GpuKind, GpuSource, GpuWork, ManualClock};
use tracing_subscriber::prelude::*;

use crate::capture::{Recorded, builder, on_thread, record_with, span_of};
use crate::gpu::{Context, Driver, Library, Machine, Stream, say};

pub(crate) const SCENARIOS: &[(&str, fn())] = &[
    ("range", one_range),
    ("range nested", nested),
    ("range two devices", two_devices),
    ("range threads", threads),
    ("range fork", fork),
    ("range unfinished", unfinished),
    ("range captured", captured),
    ("range exhausted", exhausted),
    ("range many", many),
    ("range lost", lost),
    ("range unsupported", unsupported),
    ("range alone", alone),
    ("range beside cupti", beside_cupti),
    ("range hour", hour),
    ("range running clock", running_clock),
    ("range errors", errors),
    ("range burst", burst),
];

/// What a clock of the device that ticks every 500 ns can be off by at both ends.
const RESOLUTION: u64 = 500;

/// Longer than a flush takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn without_cupti() -> CortexBuilder {
    let cuda = Cuda::auto().without_cupti();
    CortexLayer::builder().cuda(cuda).no_resources()
}

fn record(program: impl FnOnce(Driver)) -> Recorded {
    record_with(without_cupti(), |driver, _| program(driver))
}

fn begin(context: Context, stream: Stream) -> Range {
    unsafe { gpu::range_raw(context.0 as *mut c_void, stream.0 as *mut c_void) }
}

fn wait_until(done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "nothing happens");
        std::thread::yield_now();
    }
}

/// Keeps a stream busy, so that what follows comes without a pause however slow the host is.
fn keep_busy(driver: Driver, stream: Stream) {
    let kernel = driver.kernel("before", 400_000_000);
    driver.launch(kernel, stream).unwrap();
}

/// In the thread's context.
fn begin_here(stream: Stream) -> Range {
    begin(Context(0), stream)
}

fn handle(stream: &CudaStream) -> Stream {
    Stream(stream.cu_stream() as usize)
}

fn name_of(work: &GpuWork) -> &str {
    match &work.kind {
        GpuKind::Range { name } => name,
        other => panic!("{other:?} is no range"),
    }
}

/// Range and span of each work, by the name of the range.
fn ranges(recorded: &Recorded) -> Vec<(&str, &str)> {
    let work = recorded.work.iter();
    let mut named: Vec<_> = work.map(|work| (name_of(work), span_of(work))).collect();
    named.sort_unstable();
    named
}

/// Captured, exhausted, failed.
fn lost_ranges(recorded: &Recorded) -> [u64; 3] {
    let lost = recorded.gpu().lost_ranges;
    [lost.captured, lost.exhausted, lost.failed]
}

#[test]
fn a_range_on_a_stream_of_cudarc_is_its_spans_and_as_long_as_the_devices_work() {
    Machine::new().run("range");
}

#[test]
fn ranges_need_no_cupti() {
    Machine::new().without(Library::Cupti).run("range");
}

#[test]
fn ranges_need_no_function_that_only_newer_drivers_have() {
    for symbol in ["cuEventElapsedTime_v2", "cuStreamGetId", "cuCtxGetId"] {
        let machine = Machine::new().without_symbol(Library::Driver, symbol);
        machine.run("range");
    }
}

fn one_range() {
    let recorded = record(|driver| {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let kernel = driver.kernel("saxpy", 300_000);
        keep_busy(driver, handle(&stream));
        info_span!("forward").in_scope(|| {
            let range = gpu::range(&stream);
            driver.launch(kernel, handle(&stream)).unwrap();
            range.end();
        });
        let _outside = gpu::range(&stream);
    });
    assert_eq!(ranges(&recorded), [("forward", "forward"), ("range", "-")]);
    let range = recorded.work.iter().find(|work| span_of(work) != "-");
    let range = range.unwrap();
    assert_eq!(range.source, GpuSource::Events);
    assert_eq!(range.queue.device, 0);
    let length = range.length().0;
    assert!(length.abs_diff(300_000) <= RESOLUTION, "{length}");
    let forward = recorded.site("forward").own;
    assert_eq!((forward.ranges, forward.kernels), (1, 0));
    assert_eq!(forward.range_time.0, length);
    assert_eq!(forward.sources, [GpuSource::Events]);
    assert_eq!(recorded.gpu().outside.ranges, 1);
    assert_eq!(recorded.gpu().unfinished, 0);
    assert_eq!(lost_ranges(&recorded), [0; 3]);
}

#[test]
fn ranges_lie_in_each_other_and_have_names_of_their_own() {
    Machine::new().run("range nested");
}

fn nested() {
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("step", 100_000);
        keep_busy(driver, stream);
        info_span!("outer").in_scope(|| {
            let outer = begin_here(stream);
            driver.launch(kernel, stream).unwrap();
            info_span!("inner").in_scope(|| {
                let _upload = begin_here(stream).named("upload");
                driver.launch(kernel, stream).unwrap();
                let crossing = begin_here(stream).named("crossing".to_owned());
                driver.launch(kernel, stream).unwrap();
                outer.end();
                crossing.end();
            });
        });
    });
    assert_eq!(
        ranges(&recorded),
        [
            ("crossing", "inner"),
            ("outer", "outer"),
            ("upload", "inner")
        ]
    );
    let of = |name: &str| {
        let mut work = recorded.work.iter();
        work.find(|work| name_of(work) == name).unwrap()
    };
    let (outer, upload, crossing) = (of("outer"), of("upload"), of("crossing"));
    for (range, kernels) in [(outer, 3), (upload, 2), (crossing, 1)] {
        let length = range.length().0;
        assert!(
            length.abs_diff(kernels * 100_000) <= 2 * RESOLUTION,
            "{length}"
        );
    }
    let begun = |range: &GpuWork| range.start.0 - outer.start.0;
    assert!(begun(upload).abs_diff(100_000) <= 2 * RESOLUTION);
    assert!(begun(crossing).abs_diff(200_000) <= 2 * RESOLUTION);
}

#[test]
fn two_devices_have_their_own_clocks_and_the_thread_stays_in_its_context() {
    Machine::new()
        .knob("GPU_COUNT", 2)
        .knob("GPU_OFFSET_NS", 7_000_000_000_000)
        .knob("GPU_OFFSET_NS_1", 9_000)
        .run("range two devices");
}

fn two_devices() {
    let recorded = record(|driver| {
        let second = driver.context(1).unwrap();
        let of_second = driver.stream().unwrap();
        let first = driver.context(0).unwrap();
        let of_first = driver.stream().unwrap();
        let kernel = driver.kernel("step", 50_000);
        info_span!("both").in_scope(|| {
            let on_first = begin(first, of_first).named("first");
            // The thread is in the first.
            let on_second = begin(second, of_second).named("second");
            assert_eq!(driver.current(), Ok(Some(first)));
            driver.launch(kernel, of_first).unwrap();
            driver.launch(kernel, of_second).unwrap();
            on_first.end();
            on_second.end();
            assert_eq!(driver.current(), Ok(Some(first)));
        });
        std::thread::spawn(move || drop(begin(second, of_second)))
            .join()
            .unwrap();
    });
    assert_eq!(ranges(&recorded), [("first", "both"), ("second", "both")]);
    let [first, second] = ["first", "second"].map(|name| {
        let mut work = recorded.work.iter();
        work.find(|work| name_of(work) == name).unwrap()
    });
    assert_eq!((first.queue.device, second.queue.device), (0, 1));
    assert_ne!(first.queue.context, second.queue.context);
    // The clocks of the two differ by two hours.
    assert!(first.start.0.abs_diff(second.start.0) < 5_000_000);
    let rows = &recorded.gpu().devices;
    let ranges: Vec<_> = rows.iter().map(|row| row.totals.ranges).collect();
    assert_eq!(ranges, [1, 1]);
}

#[test]
fn a_range_may_end_on_another_thread_and_outlive_the_one_that_began_it() {
    Machine::new().run("range threads");
}

fn threads() {
    let recorded = record(|driver| {
        let context = driver.current().unwrap().unwrap();
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("long", 30_000_000);
        let begun = on_thread("begins", move || {
            let span = info_span!("begun here").entered();
            let kept = begin(context, stream);
            driver.set_current(context).unwrap();
            driver.launch(kernel, stream).unwrap();
            drop(begin(context, stream).named("pending"));
            drop(span);
            kept
        });
        let kept = begun.join().unwrap();
        // The thread has no context, and is gone before the device is done.
        let ends = on_thread("ends", move || {
            info_span!("ended here").in_scope(|| drop(kept));
        });
        ends.join().unwrap();
    });
    assert_eq!(
        ranges(&recorded),
        [("begun here", "begun here"), ("pending", "begun here")]
    );
    assert_eq!(recorded.gpu().unfinished, 0);
}

#[test]
fn a_forked_child_touches_no_ranges() {
    Machine::new().run("range fork");
}

fn fork() {
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        let span = info_span!("parent").entered();
        let before = begin_here(stream);
        let inherited = Mutex::new(Some(begin_here(stream).named("inherited")));
        let mut command = Command::new("true");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let in_child = move || {
            // Not counted before the fork: the product's thread records events of its own there.
            let records = driver.count("cuEventRecord");
            drop(inherited.lock().unwrap().take());
            drop(begin_here(stream));
            match driver.count("cuEventRecord") == records {
                true => Ok(()),
                false => Err(std::io::Error::other("the child has recorded an event")),
            }
        };
        unsafe { command.pre_exec(in_child) };
        assert!(command.status().unwrap().success());
        drop(command);
        drop(before);
        drop(span);
    });
    // The one that the child gave up goes on here until the command is dropped.
    assert_eq!(
        ranges(&recorded),
        [("inherited", "parent"), ("parent", "parent")]
    );
}

#[test]
fn what_has_not_ended_when_the_capture_does_is_counted() {
    Machine::new().run("range unfinished");
}

fn unfinished() {
    let deadline = Duration::from_secs(2);
    let began = Instant::now();
    let mut open = None;
    let builder = without_cupti().exit_deadline(deadline);
    let recorded = record_with(builder, |driver, _| {
        let (idle, busy) = (driver.stream().unwrap(), driver.stream().unwrap());
        info_span!("work").in_scope(|| {
            drop(begin_here(idle).named("done"));
            open = Some(begin_here(idle).named("open"));
            let pending = begin_here(busy).named("pending");
            driver
                .launch(driver.kernel("hour", 3_600_000_000_000), busy)
                .unwrap();
            drop(pending);
        });
    });
    assert!(began.elapsed() < 2 * deadline);
    assert_eq!(ranges(&recorded), [("done", "work")]);
    assert_eq!(recorded.gpu().unfinished, 2);
    // After the end, a range is nothing.
    let driver = Driver::open();
    let records = driver.count("cuEventRecord");
    drop(open);
    assert_eq!(driver.count("cuEventRecord"), records);
}

#[test]
fn a_stream_that_is_captured_into_a_graph_gets_no_events_and_its_capture_is_not_broken() {
    Machine::new().run("range captured");
}

fn captured() {
    let recorded = record_with(without_cupti(), |driver, guard| {
        let (plain, captured) = (driver.stream().unwrap(), driver.stream().unwrap());
        info_span!("work").in_scope(|| {
            let pending = begin_here(plain).named("pending");
            driver
                .launch(driver.kernel("long", 30_000_000), plain)
                .unwrap();
            drop(pending);
            let before = begin_here(captured).named("before");
            driver.capture(captured, true).unwrap();
            drop(before);
            drop(begin_here(captured).named("within"));
            // A context that is new in the middle of a capture would break it as well.
            drop(begin_here(plain).named("beside"));
            // The thread asks for the events meanwhile.
            guard.flush(PATIENCE).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            driver.capture(captured, false).unwrap();
            drop(begin_here(captured).named("after"));
        });
        assert_eq!(driver.count("event_in_capture"), 0);
        assert_eq!(driver.count("capture_broken"), 0);
    });
    assert_eq!(
        ranges(&recorded),
        [("after", "work"), ("beside", "work"), ("pending", "work")]
    );
    assert_eq!(lost_ranges(&recorded), [2, 0, 0]);
    assert_eq!(recorded.gpu().unfinished, 0);
}

#[test]
fn ranges_without_events_left_are_counted_and_later_ones_are_measured() {
    // Anchors take some as well.
    Machine::new()
        .knob("EVENT_LIMIT", 40)
        .run("range exhausted");
}

fn exhausted() {
    let recorded = record_with(without_cupti(), |driver, guard| {
        let stream = driver.stream().unwrap();
        info_span!("work").in_scope(|| {
            let many: Vec<_> = (0..30).map(|_| begin_here(stream)).collect();
            drop(many);
            guard.flush(PATIENCE).unwrap();
            drop(begin_here(stream).named("later"));
        });
    });
    let [captured, exhausted, failed] = lost_ranges(&recorded);
    assert_eq!((captured, failed), (0, 0));
    assert!((10..=20).contains(&exhausted), "{exhausted}");
    assert_eq!(recorded.work.len() as u64, 31 - exhausted);
    assert!(ranges(&recorded).contains(&("later", "work")));
}

#[test]
fn only_so_many_ranges_can_be_under_way() {
    Machine::new().run("range many");
}

fn many() {
    const MOST: usize = 4_096;
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        info_span!("work").in_scope(|| {
            let open: Vec<_> = (0..MOST + 100).map(|_| begin_here(stream)).collect();
            drop(open);
        });
    });
    assert_eq!(lost_ranges(&recorded), [0, 100, 0]);
    assert_eq!(recorded.site("work").own.ranges, MOST as u64);
}

#[test]
fn a_device_that_is_lost_in_the_middle_is_said_once() {
    Machine::new()
        .knob("DEVICE_LOST_AFTER", 2)
        .run("range lost");
}

fn lost() {
    let recorded = record_with(without_cupti(), |driver, guard| {
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("step", 1_000);
        info_span!("work").in_scope(|| {
            let whole = begin_here(stream).named("whole");
            driver.launch(kernel, stream).unwrap();
            drop(whole);
            std::thread::sleep(Duration::from_millis(1));
            guard.flush(PATIENCE).unwrap();
            let across = begin_here(stream);
            driver.launch(kernel, stream).unwrap();
            drop(across);
            drop(begin_here(stream));
            // The program is told by its own calls.
            assert_eq!(driver.launch(kernel, stream), Err(719));
        });
    });
    assert_eq!(ranges(&recorded), [("whole", "work")]);
    assert_eq!(lost_ranges(&recorded), [0, 0, 2]);
    let notices = recorded.gpu().notices.iter();
    let said: Vec<_> = notices
        .filter(|notice| notice.why.contains("719"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(recorded.gpu().unfinished, 0);
}

#[test]
fn a_driver_without_a_function_for_events_costs_the_ranges_and_nothing_else() {
    Machine::new()
        .without_symbol(Library::Driver, "cuEventElapsedTime")
        .run("range unsupported");
}

fn unsupported() {
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        drop(begin_here(stream));
        assert_eq!(driver.count("cuEventRecord"), 0);
    });
    let notices = recorded.gpu().notices.iter();
    let said: Vec<_> = notices.map(|notice| notice.what).collect();
    assert!(said.contains(&"explicit ranges on GPUs"), "{said:?}");
}

#[test]
fn without_a_layer_that_records_devices_a_range_asks_the_driver_for_nothing() {
    Machine::new().run("range alone");
}

fn alone() {
    let driver = Driver::ready();
    let stream = driver.stream().unwrap();
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    drop(begin_here(stream));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("work").in_scope(|| drop(begin_here(stream).named("nothing")));
    });
    assert_eq!(driver.count("cuEventCreate"), 0);
    assert_eq!(driver.count("cuStreamIsCapturing"), 0);
    assert!(guard.finish().unwrap().profile().gpu.is_none());
}

#[test]
fn ranges_and_kernels_of_cupti_are_on_one_timeline_and_on_one_stream() {
    Machine::new().run("range beside cupti");
}

fn beside_cupti() {
    let recorded = record_with(builder(), |driver, _| {
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("step", 400_000);
        info_span!("forward").in_scope(|| {
            let _range = begin_here(stream);
            driver.launch(kernel, stream).unwrap();
            driver.synchronize_stream(stream).unwrap();
        });
    });
    recorded.assert_whole();
    let (ranges, kernels): (Vec<_>, Vec<_>) = recorded
        .work
        .iter()
        .partition(|work| matches!(work.kind, GpuKind::Range { .. }));
    let (range, kernel) = (ranges[0], kernels[0]);
    assert_eq!(span_of(range), span_of(kernel));
    assert_eq!(range.queue, kernel.queue);
    // Both are known to some microseconds; the range may also have been late for the end.
    assert!(range.start.0 < kernel.start.0 + 50_000);
    assert!(range.end.0 + 50_000 > kernel.end.0);
    let own = recorded.site("forward").own;
    assert_eq!((own.kernels, own.ranges), (1, 1));
    assert_eq!(own.busy.0, 400_000, "the range is no busy time of its own");
}

#[test]
fn after_an_hour_of_drift_ranges_are_placed_within_two_microseconds() {
    Machine::new()
        .knob("GPU_DRIFT_PPM", 200)
        .knob("GPU_OFFSET_NS", 123_456_789_012)
        .knob("GPU_LATENCY_NS", 0)
        .run("range hour");
}

fn hour() {
    // CUPTI tells the simulator this clock, so that the host and the device see it move at once.
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(1));
    let mut expected = Vec::new();
    let builder = builder().manual_clock(&clock);
    let recorded = record_with(builder, |driver, _| {
        let stream = driver.stream().unwrap();
        let kernel = driver.kernel("step", 300_000);
        let begin = driver.now();
        for step in 1..=3_300 {
            drop(begin_here(stream).named("tick"));
            // Both ends of this range and the next, and three readings for an anchor. Else the hour would be over before
            // the thread has seen it.
            wait_until(|| driver.count("cuEventRecord") >= 7 * step - 2);
            clock.advance(Duration::from_nanos(437_654_321));
            expected.push(driver.now() - begin);
            info_span!("step").in_scope(|| {
                let _range = begin_here(stream);
                driver.launch(kernel, stream).unwrap();
            });
            clock.advance(Duration::from_nanos(661_345_679));
        }
    });
    let work = recorded.work.iter();
    let mut ranges: Vec<_> = work
        .filter(|work| matches!(work.kind, GpuKind::Range { .. }) && name_of(work) != "tick")
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    assert_eq!(ranges.len(), expected.len());
    let mut worst = 0;
    for (range, expected) in ranges.iter().zip(&expected) {
        worst = worst.max(range.start.0.abs_diff(*expected));
        let length = range.length().0;
        assert!(length.abs_diff(300_060) <= 2 * RESOLUTION, "{length}");
    }
    say(&format!("worst {worst} ns"));
    assert!(worst < 2_000, "{worst} ns off");
}

#[test]
fn on_a_running_clock_ranges_begin_when_they_were_begun() {
    Machine::new()
        .knob("GPU_DRIFT_PPM", 200)
        .knob("GPU_OFFSET_NS", 5_000_000_000_000)
        .run("range running clock");
}

fn running_clock() {
    let zero = Instant::now();
    let mut seen = Vec::new();
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        for _ in 0..50 {
            let before = zero.elapsed().as_nanos() as i64;
            let range = begin_here(stream);
            seen.push((before, zero.elapsed().as_nanos() as i64));
            drop(range);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Between the capture's origin and this test's lies one number that fits all.
    let starts = recorded.work.iter().map(|work| work.start.0 as i64);
    let apart: Vec<_> = starts
        .zip(&seen)
        .map(|(start, (before, after))| (start - after, start - before))
        .collect();
    assert_eq!(apart.len(), seen.len());
    let least = apart.iter().map(|(least, _)| *least).max().unwrap();
    let most = apart.iter().map(|(_, most)| *most).min().unwrap();
    // The simulated launch takes 2 us. Two and a half seconds of drift are 500 us.
    say(&format!("{} ns apart", least - most));
    assert!(least - most < 150_000, "{} ns too far apart", least - most);
}

#[test]
fn errors_that_cudarc_keeps_for_the_program_stay_the_programs() {
    Machine::new().run("range errors");
}

fn errors() {
    let recorded = record(|_| {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let kept = cudarc::driver::result::DriverError(
            cudarc::driver::sys::cudaError_enum::CUDA_ERROR_ILLEGAL_ADDRESS,
        );
        context.record_err::<()>(Err(kept));
        drop(gpu::range(&stream));
        assert_eq!(context.check_err(), Err(kept));
        // A stream lives as long as its range.
        let range = gpu::range(&stream);
        let alive = Arc::downgrade(&stream);
        drop(stream);
        assert!(alive.upgrade().is_some());
        drop(range);
        assert!(alive.upgrade().is_none());
    });
    assert_eq!(recorded.work.len(), 2);
    assert_eq!(lost_ranges(&recorded), [0; 3]);
}

#[test]
fn events_come_back_in_time_for_a_burst_of_ranges() {
    Machine::new().run("range burst");
}

fn burst() {
    const RANGES: u64 = 20_000;
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        info_span!("work").in_scope(|| {
            for _ in 0..RANGES {
                drop(begin_here(stream));
                // About as fast as a device can be kept busy with tiny kernels.
                let next = Instant::now() + Duration::from_micros(20);
                while Instant::now() < next {
                    std::thread::yield_now();
                }
            }
        });
        let created = driver.count("cuEventCreate");
        assert!(created < RANGES, "{created} events");
    });
    let [captured, exhausted, failed] = lost_ranges(&recorded);
    assert_eq!((captured, failed), (0, 0));
    assert_eq!(recorded.site("work").own.ranges + exhausted, RANGES);
}
