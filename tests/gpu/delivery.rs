//! How the driver hands over what it recorded, and what gets lost on the way.

use std::time::Duration;

use crate::capture::{builder, on_thread, record, record_with};
use crate::gpu::{Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("shuffled", shuffled),
    ("late", late),
    ("exhausted", exhausted),
    ("full rings", full_rings),
    ("two devices", two_devices),
    ("live", live),
    ("many", many),
];

#[test]
fn the_order_of_the_records_does_not_matter() {
    Machine::new().knob("SHUFFLE", 11).run("shuffled");
}

fn shuffled() {
    let recorded = record(|driver| {
        let streams = [driver.stream().unwrap(), driver.stream().unwrap()];
        for round in 0..300 {
            let (span, kernel) = match round % 3 {
                0 => (tracing::info_span!("zero"), driver.kernel("zero", 7_000)),
                1 => (tracing::info_span!("one"), driver.kernel("one", 1_000)),
                _ => (tracing::info_span!("two"), driver.kernel("two", 3_000)),
            };
            span.in_scope(|| driver.launch(kernel, streams[round % 2]).unwrap());
        }
    });
    recorded.assert_whole();
    assert!(
        recorded
            .kernels()
            .iter()
            .all(|(kernel, span)| kernel == span)
    );
    for (name, length) in [("zero", 7_000), ("one", 1_000), ("two", 3_000)] {
        let own = recorded.site(name).own;
        assert_eq!((own.kernels, own.kernel_time.0), (100, 100 * length));
    }
    let starts: Vec<_> = recorded.work.iter().map(|work| work.start).collect();
    assert!(!starts.is_sorted(), "the records came in order");
}

#[test]
fn records_that_come_late_are_attributed_all_the_same() {
    for flushes in [2, 5] {
        Machine::new().knob("LATE", flushes).run("late");
    }
}

fn late() {
    let recorded = record_with(builder(), |driver, guard| {
        let kernel = driver.kernel("step", 5_000);
        for _ in 0..10 {
            tracing::info_span!("early").in_scope(|| {
                driver.launch(kernel, Stream::DEFAULT).unwrap();
            });
            driver.synchronize().unwrap();
            guard.flush(Duration::from_secs(20)).unwrap();
        }
        // These come by the forced flush of the end only.
        tracing::info_span!("last").in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        driver.synchronize().unwrap();
    });
    recorded.assert_whole();
    assert_eq!(recorded.site("early").own.kernels, 10);
    assert_eq!(recorded.site("last").own.kernels, 1);
}

#[test]
fn records_that_the_driver_dropped_are_counted_in_every_output() {
    Machine::new().knob("BUFFER_LIMIT", 100).run("exhausted");
}

fn exhausted() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let recorded = record_with(builder().report_json(&json), |driver, _| {
        let kernel = driver.kernel("step", 0);
        // Far more than the thread that asks for records can keep up with.
        for _ in 0..5_000 {
            driver.launch(kernel, Stream::DEFAULT).unwrap();
        }
    });
    let gpu = recorded.gpu();
    let kernels = gpu.outside.kernels;
    assert!(kernels >= 100 && gpu.dropped_records > 0);
    assert_eq!(kernels + gpu.dropped_records, 5_000);
    assert_eq!((gpu.outside.launches, gpu.unattributed), (5_000, 0));
    let report = std::fs::read_to_string(json).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["gpu"]["dropped_records"], gpu.dropped_records);
}

#[test]
fn calls_for_which_a_threads_buffer_has_no_room_are_counted() {
    Machine::new().run("full rings");
}

fn full_rings() {
    const LAUNCHES: u64 = 30_000;
    let recorded = record_with(builder().max_record_bytes(64 << 10), |driver, _| {
        let kernel = driver.kernel("step", 0);
        tracing::info_span!("burst").in_scope(|| {
            for _ in 0..LAUNCHES {
                driver.launch(kernel, Stream::DEFAULT).unwrap();
            }
        });
    });
    let (gpu, own) = (recorded.gpu(), recorded.site("burst").own);
    assert!(gpu.dropped_calls > 0, "the collector kept up");
    assert_eq!(gpu.devices[0].totals.kernels, LAUNCHES);
    // Work without its call is nobody's, and no work is counted twice.
    assert_eq!(own.kernels + gpu.unattributed, LAUNCHES);
    assert!(own.launches < LAUNCHES && own.launches + gpu.dropped_calls >= LAUNCHES);
}

#[test]
fn two_devices_are_kept_apart() {
    Machine::new()
        .knob("GPU_COUNT", 2)
        .knob("GPU_OFFSET_NS_1", 5_000_000_000)
        .run("two devices");
}

fn two_devices() {
    let recorded = record(|driver| {
        let workers = [0, 1].map(|device| {
            on_thread("worker", move || {
                driver.context(device).unwrap();
                let kernel = driver.kernel("step", 10_000 * (1 + device as u64));
                for _ in 0..10 {
                    tracing::info_span!("step").in_scope(|| {
                        driver.launch(kernel, Stream::DEFAULT).unwrap();
                    });
                }
                driver.synchronize().unwrap();
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
    recorded.assert_whole();
    let devices = &recorded.gpu().devices;
    assert_eq!(devices.len(), 2);
    // The kernel of the name has the length that was set last, on either device.
    for (ordinal, row) in devices.iter().enumerate() {
        assert_eq!(row.device.ordinal as usize, ordinal);
        assert_eq!(
            row.device.name.as_deref(),
            Some(&*format!("Fake GPU {ordinal}"))
        );
        assert_eq!(
            (row.totals.kernels, row.totals.syncs, row.streams.len()),
            (10, 1, 1)
        );
        assert_eq!(row.totals.busy, row.totals.kernel_time);
        assert_eq!(row.streams[0].queue.device as usize, ordinal);
    }
    assert_ne!(devices[0].device.uuid, devices[1].device.uuid);
    let own = recorded.site("step").own;
    assert_eq!(own.kernels, 20);
    let both = devices[0].totals.busy.0 + devices[1].totals.busy.0;
    assert_eq!(own.busy.0, both, "time on two devices adds up");
}

#[test]
fn a_live_profile_has_the_work_that_was_flushed() {
    Machine::new().run("live");
}

fn live() {
    record_with(builder(), |driver, guard| {
        let kernel = driver.kernel("step", 5_000);
        for round in 1..=3 {
            tracing::info_span!("work").in_scope(|| {
                driver.launch(kernel, Stream::DEFAULT).unwrap();
                driver.synchronize().unwrap();
            });
            guard.flush(Duration::from_secs(20)).unwrap();
            let own = crate::capture::gpu_of(&guard.profile(), "work").own;
            assert_eq!(
                (own.kernels, own.launches, own.syncs),
                (round, round, round)
            );
        }
    });
}

#[test]
fn many_launches_of_many_threads_are_all_there() {
    Machine::new().run("many");
}

fn many() {
    let recorded = record(|driver| {
        let workers = [(); 4].map(|()| {
            on_thread("worker", move || {
                driver.context(0).unwrap();
                let (kernel, stream) = (driver.kernel("step", 10), driver.stream().unwrap());
                for _ in 0..5_000 {
                    tracing::info_span!("step").in_scope(|| {
                        driver.launch(kernel, stream).unwrap();
                    });
                    // At a pace that buffers are emptied at.
                    if driver.count("cuLaunchKernel").is_multiple_of(64) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
    recorded.assert_whole();
    let own = recorded.site("step").own;
    assert_eq!((own.kernels, own.launches), (20_000, 20_000));
}
