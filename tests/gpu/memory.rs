//! Copies, fills, waits and allocations.

use tracing_cortex::{GpuApi, GpuCopy, GpuKind, GpuMemoryKind};

use crate::capture::{Recorded, builder, end_of, record, record_with};
use crate::gpu::{Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("copies", copies),
    ("async copies", async_copies),
    ("sets", sets),
    ("waits", waits),
    ("allocations", allocations),
    ("held before", held_before),
    ("peers", peers),
];

const MIB: usize = 1 << 20;

fn copies_of(recorded: &Recorded) -> Vec<GpuCopy> {
    let mut work = recorded.work.clone();
    work.sort_by_key(|work| work.start);
    let copies = work.iter().filter_map(|work| match work.kind {
        GpuKind::Copy(copy) => Some(copy),
        _ => None,
    });
    copies.collect()
}

#[test]
fn copies_are_told_apart_by_direction_and_by_the_memory_of_the_host() {
    Machine::new().run("copies");
}

fn copies() {
    let recorded = record(|driver| {
        let device = driver.alloc(4 * MIB).unwrap();
        let mut pageable = vec![0; MIB];
        let mut pinned = driver.pinned(2 * MIB).unwrap();
        tracing::info_span!("in").in_scope(|| {
            driver.copy_to_device(device, &pageable).unwrap();
            driver.copy_to_device(device, &pinned).unwrap();
        });
        tracing::info_span!("out").in_scope(|| {
            driver.copy_to_host(&mut pageable, device).unwrap();
            driver.copy_to_host(&mut pinned, device).unwrap();
        });
        tracing::info_span!("within").in_scope(|| {
            let (to, bytes) = (device + 2 * MIB as u64, 512 << 10);
            driver
                .copy_on_device(to, device, bytes, Stream::DEFAULT)
                .unwrap();
        });
    });
    recorded.assert_whole();
    let (mib, two) = (MIB as u64, 2 * MIB as u64);
    let [into, out, within] = ["in", "out", "within"].map(|name| recorded.site(name).own);
    assert_eq!(
        (into.copies, into.to_device_bytes, into.to_host_bytes),
        (2, mib + two, 0)
    );
    assert_eq!((into.pageable_copies, into.pageable_bytes), (1, mib));
    assert_eq!(
        (out.copies, out.to_device_bytes, out.to_host_bytes),
        (2, 0, mib + two)
    );
    assert_eq!((out.pageable_copies, out.pageable_bytes), (1, mib));
    assert_eq!((within.copies, within.on_device_bytes), (1, 512 << 10));
    assert_eq!(within.pageable_copies, 0);
    let ends: Vec<_> = copies_of(&recorded)
        .iter()
        .map(|copy| (copy.from, copy.to))
        .collect();
    use GpuMemoryKind::{Device, Pageable, Pinned};
    let expected = [
        (Pageable, Device),
        (Pinned, Device),
        (Device, Pageable),
        (Device, Pinned),
        (Device, Device),
    ];
    assert_eq!(ends, expected);
    let all = &recorded.gpu().devices[0].totals;
    assert_eq!((all.copies, all.launches, all.kernels), (5, 5, 0));
    assert!(all.copy_time.0 > 0 && all.busy == all.copy_time);
}

#[test]
fn a_copy_is_asynchronous_where_its_call_is() {
    Machine::new().run("async copies");
}

fn async_copies() {
    let recorded = record(|driver| {
        let stream = driver.stream().unwrap();
        let device = driver.alloc(MIB).unwrap();
        let mut pinned = driver.pinned(MIB).unwrap();
        let pageable = vec![0; MIB];
        driver
            .copy_to_device_async(device, &pinned, stream)
            .unwrap();
        driver
            .copy_to_device_async(device, &pageable, stream)
            .unwrap();
        driver
            .copy_to_host_async(&mut pinned, device, stream)
            .unwrap();
        driver.synchronize_stream(stream).unwrap();
        driver.copy_to_device(device, &pinned).unwrap();
    });
    recorded.assert_whole();
    let is_async: Vec<_> = copies_of(&recorded)
        .iter()
        .map(|copy| copy.is_async)
        .collect();
    assert_eq!(is_async, [true, true, true, false]);
    // The driver has to stage what is pageable, whatever the call says.
    assert_eq!(recorded.gpu().outside.pageable_copies, 1);
    let apis: Vec<_> = recorded.calls.iter().map(|call| call.api).collect();
    use GpuApi::{Allocate, Copy, CopyAsync, Synchronize};
    let expected = [Allocate, CopyAsync, CopyAsync, CopyAsync, Synchronize, Copy];
    assert_eq!(apis, expected);
}

#[test]
fn fills_have_their_bytes_and_their_spans() {
    Machine::new().run("sets");
}

fn sets() {
    let recorded = record(|driver| {
        let device = driver.alloc(MIB).unwrap();
        tracing::info_span!("zero").in_scope(|| {
            driver.memset(device, 0, 1_000).unwrap();
            driver
                .memset_async(device, 0, 2_000, Stream::DEFAULT)
                .unwrap();
        });
    });
    recorded.assert_whole();
    let zero = recorded.site("zero").own;
    assert_eq!((zero.sets, zero.launches, zero.copies), (2, 2, 0));
    let mut bytes: Vec<_> = recorded.work.iter().map(|work| work.kind.clone()).collect();
    bytes.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(
        bytes,
        [GpuKind::Set { bytes: 1_000 }, GpuKind::Set { bytes: 2_000 }]
    );
    let apis: Vec<_> = recorded.calls.iter().skip(1).map(|call| call.api).collect();
    assert_eq!(apis, [GpuApi::Set, GpuApi::SetAsync]);
}

#[test]
fn waits_are_host_time_of_the_span_that_waits() {
    Machine::new().run("waits");
}

fn waits() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("long", 20_000_000);
        let (stream, event) = (driver.stream().unwrap(), driver.event().unwrap());
        let waits: [(_, &dyn Fn()); 3] = [
            (tracing::info_span!("context"), &|| {
                driver.synchronize().unwrap()
            }),
            (tracing::info_span!("stream"), &|| {
                driver.synchronize_stream(stream).unwrap()
            }),
            (tracing::info_span!("event"), &|| {
                driver.synchronize_event(event).unwrap()
            }),
        ];
        for (span, wait) in waits {
            driver.launch(kernel, stream).unwrap();
            driver.record(event, stream).unwrap();
            span.in_scope(wait);
        }
    });
    recorded.assert_whole();
    for name in ["context", "stream", "event"] {
        let own = recorded.site(name).own;
        assert_eq!((own.syncs, own.kernels, own.busy.0), (1, 0, 0), "{name}");
        assert!(own.sync_time.0 > 15_000_000, "{name}: {:?}", own.sync_time);
    }
    assert_eq!(recorded.gpu().outside.kernels, 3);
    assert_eq!(recorded.gpu().devices[0].totals.syncs, 3);
}

#[test]
fn allocations_are_counted_and_the_most_that_was_held_is_known() {
    Machine::new().run("allocations");
}

fn allocations() {
    let recorded = record(|driver| {
        let mib = MIB as u64;
        tracing::info_span!("allocate").in_scope(|| {
            let one = driver.alloc(3 * MIB).unwrap();
            let two = driver.alloc_async(2 * MIB, Stream::DEFAULT).unwrap();
            driver.free(one).unwrap();
            driver.free_async(two, Stream::DEFAULT).unwrap();
            driver.alloc(MIB).unwrap();
            // What fails takes nothing.
            assert_eq!(driver.alloc(usize::MAX >> 8), Err(2));
            let _ = mib;
        });
        // Where the context is, is learned from its work.
        driver
            .launch(driver.kernel("step", 5_000), Stream::DEFAULT)
            .unwrap();
    });
    recorded.assert_whole();
    let own = recorded.site("allocate").own;
    assert_eq!((own.allocations, own.allocated_bytes), (3, 6 * MIB as u64));
    assert!(own.memory_time.0 > 0);
    assert_eq!(recorded.gpu().devices[0].peak_bytes, Some(5 * MIB as u64));
    let failed = recorded
        .calls
        .iter()
        .find(|call| call.error.is_some())
        .unwrap();
    assert_eq!((failed.error, failed.memory), (Some(2), None));
    assert!(end_of(failed) >= failed.start);
}

#[test]
fn what_was_allocated_before_a_reset_is_held_after_it() {
    Machine::new().run("held before");
}

fn held_before() {
    let recorded = record_with(builder(), |driver, guard| {
        driver.alloc(3 * MIB).unwrap();
        guard.reset();
        driver.alloc(MIB).unwrap();
        driver
            .launch(driver.kernel("step", 5_000), Stream::DEFAULT)
            .unwrap();
    });
    recorded.assert_whole();
    let device = &recorded.gpu().devices[0];
    assert_eq!(device.totals.allocations, 1);
    assert_eq!(device.peak_bytes, Some(4 * MIB as u64));
}

#[test]
fn copies_between_devices_are_counted_apart() {
    Machine::new().knob("GPU_COUNT", 2).run("peers");
}

fn peers() {
    let recorded = record(|driver| {
        let there = driver.context(1).unwrap();
        let target = driver.alloc(MIB).unwrap();
        let here = driver.context(0).unwrap();
        let source = driver.alloc(MIB).unwrap();
        tracing::info_span!("exchange").in_scope(|| {
            driver
                .copy_to_peer((target, there), (source, here), MIB, Stream::DEFAULT)
                .unwrap();
        });
    });
    recorded.assert_whole();
    let own = recorded.site("exchange").own;
    assert_eq!(
        (own.copies, own.peer_bytes, own.on_device_bytes),
        (1, MIB as u64, 0)
    );
    let copy = copies_of(&recorded)[0];
    assert_eq!(copy.peer, Some(1));
}
