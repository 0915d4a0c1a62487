//! Callbacks and records.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::gpu::{Driver, Machine, Stream, Tracer, say};
use crate::{GRAPH, KERNEL, LATENCY, MEMCPY, MEMSET, PEER, SYNCHRONIZATION, long, stopped, word};

#[test]
fn a_launch_is_heard_twice_and_its_kernel_carries_its_correlation_id() {
    Machine::new().run("correlation");
}

pub(crate) fn correlation() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    let kernel = driver.kernel("gemm", 10_000);
    driver
        .launch_shaped(kernel, Stream::DEFAULT, [4, 2, 1], [64, 1, 1])
        .unwrap();
    driver.synchronize().unwrap();
    let calls = tracer.calls();
    let launch: Vec<_> = calls.iter().filter(|call| call.cbid == 307).collect();
    let [enter, exit] = launch[..] else {
        panic!("{launch:?}");
    };
    assert_eq!((enter.is_exit, exit.is_exit), (false, true));
    assert_eq!(enter.scratch, exit.scratch);
    assert_eq!((&*enter.function, enter.domain), ("cuLaunchKernel", 1));
    assert_eq!(enter.first_param, Some(kernel.0 as u64));
    let records = tracer.records();
    assert_eq!(records.len(), 1);
    assert_eq!((word(&records[0], 0), records[0].len()), (KERNEL, 216));
    assert_eq!(word(&records[0], 92), enter.correlation);
    assert_eq!(exit.correlation, enter.correlation);
    assert_eq!(
        (
            word(&records[0], 52),
            word(&records[0], 56),
            word(&records[0], 64)
        ),
        (4, 2, 64)
    );
}

#[test]
fn copies_say_whether_host_memory_is_pinned() {
    Machine::new().knob("GPU_COUNT", 2).run("copies");
}

pub(crate) fn copies() {
    let driver = stopped();
    let tracer = Tracer::start(&[MEMCPY, MEMSET, PEER, SYNCHRONIZATION]).unwrap();
    let stream = driver.stream().unwrap();
    let memory = driver.alloc(4096).unwrap();
    let mut pinned = driver.pinned(4096).unwrap();
    let mut pageable = vec![0; 4096];
    driver
        .copy_to_device_async(memory, &pinned[64..128], stream)
        .unwrap();
    driver.copy_to_device(memory, &pageable).unwrap();
    driver
        .copy_to_host_async(&mut pinned, memory, stream)
        .unwrap();
    driver.copy_to_host(&mut pageable, memory).unwrap();
    driver.memset_async(memory, 7, 100, stream).unwrap();
    let (here, there) = (
        driver.current().unwrap().unwrap(),
        driver.context(1).unwrap(),
    );
    driver.set_current(here).unwrap();
    driver
        .copy_to_peer((memory, there), (memory, here), 10, stream)
        .unwrap();
    driver.synchronize_stream(stream).unwrap();
    let records = tracer.records();
    let of_kind = |kind| records.iter().filter(move |record| word(record, 0) == kind);
    let seen: Vec<_> = of_kind(MEMCPY)
        .map(|record| (&record[4..8], long(record, 8)))
        .collect();
    let expected: [(&[u8], u64); 4] = [
        (&[1, 2, 3, 1], 64),
        (&[1, 1, 3, 0], 4096),
        (&[2, 3, 2, 1], 4096),
        (&[2, 3, 1, 0], 4096),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        of_kind(MEMSET)
            .map(|record| (word(record, 4), long(record, 8)))
            .collect::<Vec<_>>(),
        [(7, 100)]
    );
    assert_eq!(
        of_kind(PEER)
            .map(|record| (word(record, 44), word(record, 52)))
            .collect::<Vec<_>>(),
        [(0, 1)]
    );
    assert_eq!(
        of_kind(SYNCHRONIZATION)
            .map(|record| word(record, 4))
            .collect::<Vec<_>>(),
        [3]
    );
}

#[test]
fn the_kernels_of_a_graph_carry_the_correlation_id_of_its_launch() {
    Machine::new().run("graph");
}

pub(crate) fn graph() {
    let driver = stopped();
    let kernels = [driver.kernel("one", 1_000), driver.kernel("two", 3_000)];
    let graph = driver.graph(&kernels);
    let stream = driver.stream().unwrap();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    driver.launch_graph(graph, stream).unwrap();
    driver.synchronize_stream(stream).unwrap();
    let launch = tracer.calls()[0].correlation;
    let records = tracer.records();
    let seen = records.iter().map(|record| {
        (
            word(record, 92),
            word(record, 156) != 0,
            long(record, 144) & 0xff,
        )
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [(launch, true, 1), (launch, true, 2)]
    );

    let kinds = |enabled: u32, kind: u32| {
        let name = if enabled == 1 {
            "cuptiActivityEnable"
        } else {
            "cuptiActivityDisable"
        };
        assert_eq!(
            unsafe { tracer.get::<unsafe extern "C" fn(u32) -> u32>(name)(kind) },
            0
        );
    };
    kinds(0, KERNEL);
    kinds(1, GRAPH);
    driver.launch_graph(graph, stream).unwrap();
    driver.synchronize_stream(stream).unwrap();
    let records = tracer.records();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (
            word(&records[0], 0),
            long(&records[0], 16) - long(&records[0], 8)
        ),
        (GRAPH, 4_000)
    );
}

#[test]
fn records_come_in_the_order_of_the_seed() {
    let plain = Machine::new().run("shuffle");
    let shuffled = Machine::new().knob("SHUFFLE", 5).run("shuffle");
    assert_eq!(shuffled, Machine::new().knob("SHUFFLE", 5).run("shuffle"));
    assert_ne!(shuffled, plain);
    assert_eq!(BTreeSet::from_iter(shuffled), BTreeSet::from_iter(plain));
}

pub(crate) fn shuffled() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    for _ in 0..50 {
        driver
            .launch(driver.kernel("step", 10), Stream::DEFAULT)
            .unwrap();
    }
    driver.synchronize().unwrap();
    for record in tracer.records() {
        say(&word(&record, 92).to_string());
    }
}

#[test]
fn only_a_forced_flush_hands_over_work_that_runs() {
    Machine::new().run("unfinished");
}

pub(crate) fn unfinished() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    driver
        .launch(driver.kernel("long", 10_000), Stream::DEFAULT)
        .unwrap();
    driver.advance(LATENCY + 1);
    assert!(tracer.records().is_empty());
    let records = tracer.all_records();
    assert_eq!(
        (long(&records[0], 16), long(&records[0], 24)),
        (1_000_000_000 + LATENCY, 0)
    );
}

#[test]
fn a_late_record_comes_with_a_later_flush() {
    Machine::new().knob("LATE", 3).run("late");
}

pub(crate) fn late() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    driver
        .launch(driver.kernel("step", 10), Stream::DEFAULT)
        .unwrap();
    assert!(tracer.records().is_empty(), "it runs");
    driver.synchronize().unwrap();
    let flushes: Vec<_> = (0..4).map(|_| tracer.records().len()).collect();
    assert_eq!(flushes, [0, 0, 1, 0]);
}

#[test]
fn what_no_buffer_holds_is_dropped_and_counted() {
    Machine::new().knob("BUFFER_LIMIT", 40).run("buffers");
}

pub(crate) fn buffers() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    for _ in 0..50 {
        driver
            .launch(driver.kernel("step", 10), Stream::DEFAULT)
            .unwrap();
    }
    driver.synchronize().unwrap();
    assert_eq!(tracer.records().len(), 40, "in buffers of eighteen");
    let dropped = tracer.get::<unsafe extern "C" fn(usize, u32, *mut usize) -> u32>(
        "cuptiActivityGetNumDroppedRecords",
    );
    let ask = || {
        let mut count = 0;
        assert_eq!(unsafe { dropped(0, 0, &mut count) }, 0);
        count
    };
    assert_eq!([ask(), ask()], [10, 0]);
    let pop = tracer
        .get::<unsafe extern "C" fn(u32, *mut u64) -> u32>("cuptiActivityPopExternalCorrelationId");
    assert_eq!(unsafe { pop(2, &mut 0) }, 18, "an empty stack");
}

#[test]
fn there_is_one_subscriber_at_a_time() {
    Machine::new().run("subscribers");
    assert_eq!(
        Machine::new()
            .knob("CUPTI_SUBSCRIBE", 999)
            .run("subscribers"),
        ["999"]
    );
}

pub(crate) fn subscribers() {
    match Tracer::start(&[]) {
        Ok(_first) => assert_eq!(Tracer::start(&[]).err(), Some(39)),
        Err(code) => say(&code.to_string()),
    }
}

static PROGRAM_CLOCK: AtomicU64 = AtomicU64::new(5_000);

unsafe extern "C" fn program_time() -> u64 {
    PROGRAM_CLOCK.load(Relaxed)
}

unsafe extern "C" fn pass_until(ns: u64) {
    PROGRAM_CLOCK.fetch_max(ns, Relaxed);
}

#[test]
fn records_are_in_the_clock_of_the_program_when_cupti_knows_it() {
    Machine::new()
        .knob("GPU_OFFSET_NS", 1_000_000)
        .run("timestamps");
}

pub(crate) fn timestamps() {
    let driver = Driver::ready();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    let register = tracer.get::<unsafe extern "C" fn(unsafe extern "C" fn() -> u64) -> u32>(
        "cuptiActivityRegisterTimestampCallback",
    );
    assert_eq!(unsafe { register(program_time) }, 0);
    driver.on_wait(pass_until);
    driver
        .launch(driver.kernel("step", 700), Stream::DEFAULT)
        .unwrap();
    driver.synchronize().unwrap();
    assert_eq!(driver.now(), 5_000 + LATENCY + 700);
    let records = tracer.records();
    assert_eq!(
        (long(&records[0], 16), long(&records[0], 24)),
        (5_000 + LATENCY, 5_000 + LATENCY + 700)
    );
}

#[test]
fn a_launch_by_the_runtime_is_heard_in_both_domains() {
    for inherits in [0, 1] {
        Machine::new()
            .knob("RUNTIME_CORRELATION", inherits)
            .variable("INHERITS", &inherits.to_string())
            .run("runtime");
    }
}

pub(crate) fn runtime() {
    let driver = stopped();
    let tracer = Tracer::start(&[KERNEL]).unwrap();
    driver
        .launch_by_runtime(driver.kernel("gemm", 10), Stream::DEFAULT)
        .unwrap();
    driver.synchronize().unwrap();
    let calls = tracer.calls();
    let heard: Vec<_> = calls[..4]
        .iter()
        .map(|call| (call.domain, call.cbid, call.is_exit))
        .collect();
    assert_eq!(
        heard,
        [
            (2, 211, false),
            (1, 307, false),
            (1, 307, true),
            (2, 211, true)
        ]
    );
    assert_ne!(calls[0].correlation, calls[1].correlation);
    let inherits = std::env::var("INHERITS").unwrap() == "1";
    let carried = word(&tracer.records()[0], 92);
    assert_eq!(carried, calls[if inherits { 0 } else { 1 }].correlation);
}
