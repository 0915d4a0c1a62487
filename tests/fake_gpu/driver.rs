//! The timeline, events, captures, a lost device, and libraries that are not whole.

use crate::gpu::{Driver, Library, Machine, Stream, Tracer, say};
use crate::{KERNEL, LATENCY, long, stopped};

#[test]
fn work_starts_after_the_latency_and_after_what_is_before_it_on_its_stream() {
    Machine::new().run("order");
}

pub(crate) fn order() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    let kernel = driver.kernel("step", 10_000);
    let (one, two) = (driver.stream().unwrap(), driver.stream().unwrap());
    for stream in [one, one, two] {
        driver.launch(kernel, stream).unwrap();
    }
    driver.advance(50_000);
    let records = tracer.records();
    let times: Vec<_> = records
        .iter()
        .map(|record| (long(record, 16), long(record, 24)))
        .collect();
    let begin = 1_000_000_000 + LATENCY;
    let (first, second) = ((begin, begin + 10_000), (begin + 10_000, begin + 20_000));
    assert_eq!(times, [first, second, first]);
}

#[test]
fn events_see_the_clock_of_the_device_and_its_drift() {
    Machine::new().knob("GPU_DRIFT_PPM", 200).run("events");
}

pub(crate) fn events() {
    let driver = stopped();
    let stream = driver.stream().unwrap();
    let (start, end) = (driver.event().unwrap(), driver.event().unwrap());
    driver.record(start, stream).unwrap();
    driver
        .launch(driver.kernel("long", 60_000_000_000), stream)
        .unwrap();
    driver.record(end, stream).unwrap();
    assert_eq!(driver.query(end), Err(600));
    assert_eq!(driver.elapsed_ms(start, end), Err(600));
    driver.synchronize_event(end).unwrap();
    assert_eq!(driver.query(end), Ok(()));
    let drifted = driver.elapsed_ms(start, end).unwrap();
    assert!((drifted - 60_012.0).abs() < 0.01, "{drifted} ms");
    let other = driver.event_without_timing().unwrap();
    assert_eq!(driver.query(other), Ok(()), "one that was never recorded");
    driver.record(other, stream).unwrap();
    assert_eq!(driver.elapsed_ms(start, other), Err(400));
}

#[test]
fn asking_for_an_event_breaks_a_capture_unless_the_thread_is_relaxed() {
    Machine::new().run("capture");
}

pub(crate) fn capture() {
    let driver = stopped();
    let stream = driver.stream().unwrap();
    let event = driver.event().unwrap();
    driver.capture(stream, true).unwrap();
    let from_other_thread = |mode| {
        let ask = move || {
            driver.capture_mode(mode).unwrap();
            driver.query(event)
        };
        std::thread::spawn(ask).join().unwrap()
    };
    assert_eq!(from_other_thread(2), Ok(()));
    assert_eq!(from_other_thread(1), Ok(()));
    assert_eq!(driver.count("capture_broken"), 0);
    assert_eq!(from_other_thread(0), Err(900));
    assert_eq!(driver.count("capture_broken"), 1);
    assert_eq!(driver.count("cuEventQuery"), 3);
    driver.capture(stream, false).unwrap();
    assert_eq!(from_other_thread(0), Ok(()));
}

#[test]
fn a_lost_device_answers_nothing_any_more() {
    Machine::new().knob("DEVICE_LOST_AFTER", 2).run("lost");
}

pub(crate) fn lost() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    let kernel = driver.kernel("step", 10);
    driver.launch(kernel, Stream::DEFAULT).unwrap();
    driver.advance(LATENCY + 10);
    driver.launch(kernel, Stream::DEFAULT).unwrap();
    assert_eq!(driver.launch(kernel, Stream::DEFAULT), Err(719));
    assert_eq!(driver.synchronize(), Err(719));
    driver.advance(1_000_000_000);
    let ends: Vec<_> = tracer
        .all_records()
        .iter()
        .map(|record| long(record, 24))
        .collect();
    assert_eq!(ends, [1_000_000_000 + LATENCY + 10, 0]);
}

#[test]
fn a_library_can_lack_a_symbol_and_a_machine_a_library() {
    let whole = Machine::new().run("symbol");
    assert_eq!(whole, ["true true"]);
    let older = Machine::new().without_symbol(Library::Driver, "cuEventElapsedTime_v2");
    assert_eq!(older.without(Library::Nvml).run("symbol"), ["false false"]);
}

pub(crate) fn symbol() {
    // What goes with the missing symbol is there.
    Driver::ready().event().unwrap();
    let library = unsafe { libloading::os::unix::Library::new("libcuda.so.1") }.unwrap();
    assert!(unsafe { library.get::<unsafe extern "C" fn()>(b"cuEventElapsedTime") }.is_ok());
    let newer = unsafe { library.get::<unsafe extern "C" fn()>(b"cuEventElapsedTime_v2") }.is_ok();
    let nvml = unsafe { libloading::os::unix::Library::new("libnvidia-ml.so.1") }.is_ok();
    say(&format!("{newer} {nvml}"));
}

#[test]
fn a_launch_that_nobody_hears_leaves_nothing_behind() {
    Machine::new().run("cost");
}

pub(crate) fn cost() {
    let driver = Driver::ready();
    let kernel = driver.kernel("step", 0);
    for _ in 0..100_000 {
        driver.launch(kernel, Stream::DEFAULT).unwrap();
    }
    let tracer = Tracer::start(&[]).unwrap();
    assert!(tracer.all_records().is_empty());
    assert_eq!(driver.count("cuLaunchKernel"), 100_000);
}
