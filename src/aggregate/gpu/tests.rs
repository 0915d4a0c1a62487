//! What devices did, as the profile says it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Aggregator, Context};
use super::*;
use crate::model::{
    CaptureSnapshot, GpuCaller, GpuCopy, GpuKernel, GpuMemory, GpuMemoryKind, GpuStats, GpuTotals,
    Losses, PathId, PathTable, Profile, Site, SiteId, SpanSeq, Thread, TickScale,
};
use crate::model::{FrameCount, FrameSnapshot, ThreadSnapshot};

pub(super) fn launch(correlation: u32, start: u64, end: u64) -> GpuCall {
    GpuCall {
        api: GpuApi::Launch,
        function: "cuLaunchKernel",
        correlation,
        context: 1,
        thread: Thread::new(1, None, None),
        start: Nanos(start),
        end: Some(Nanos(end)),
        caller: None,
        memory: None,
        error: None,
    }
}

pub(super) fn kernel(stream: u32, start: u64, end: u64) -> GpuWork {
    on(GpuQueue::new(0, 1, stream), start, end)
}

fn on(queue: GpuQueue, start: u64, end: u64) -> GpuWork {
    GpuWork::new(
        GpuKind::Kernel(GpuKernel::new("gemm")),
        queue,
        Nanos(start),
        Nanos(end),
        GpuSource::Cupti,
    )
}

/// serve (1) > forward (2) > serve (3) > copy (4): a site that calls itself.
const STEPS: [(PathId, SiteId); 5] = [
    (PathId::ROOT, SiteId::OTHER),
    (PathId::ROOT, SiteId(1)),
    (PathId(1), SiteId(2)),
    (PathId(2), SiteId(1)),
    (PathId(3), SiteId(3)),
];

fn steps_of(path: PathId) -> Vec<(PathId, SiteId)> {
    let mut steps = Vec::new();
    let mut at = path;
    while at != PathId::ROOT {
        let (parent, site) = STEPS[at.0 as usize];
        steps.push((at, site));
        at = parent;
    }
    steps
}

fn caller(path: u32) -> Option<GpuCaller> {
    let site = Site::new(STEPS[path as usize].1, "s", "t", None, None);
    Some(GpuCaller::new(
        SpanSeq(1),
        Arc::new(site),
        PathId(path),
        None,
    ))
}

fn by(path: u32, mut work: GpuWork) -> GpuWork {
    work.caller = caller(path);
    work
}

fn snapshot(threads: Vec<ThreadSnapshot>) -> CaptureSnapshot {
    let sites = ["(other)", "serve", "forward", "copy"];
    CaptureSnapshot {
        scale: TickScale::nanoseconds(),
        began: 0,
        now: 1_000,
        sites: (0..)
            .zip(sites)
            .map(|(id, name)| Arc::new(Site::new(SiteId(id), name, "t", None, None)))
            .collect(),
        paths: PathTable {
            nodes: STEPS.to_vec(),
        },
        threads,
        open: Vec::new(),
        reported: Vec::new(),
        losses: Losses::default(),
        memory_bytes: 0,
    }
}

/// A thread that is in all four spans, and one that never entered any.
fn threads() -> Vec<ThreadSnapshot> {
    let frames = (1..5).map(|path| FrameSnapshot {
        path: PathId(path),
        entered: 100,
        child: 0,
        count: FrameCount::Span,
    });
    let thread = |index, frames| ThreadSnapshot {
        thread: Thread::new(index, None, None),
        ended: false,
        first: 100,
        last: 0,
        busy: 0,
        nodes: Vec::new(),
        frames,
    };
    vec![thread(1, frames.collect()), thread(2, Vec::new())]
}

fn profile_of(aggregator: &Aggregator, gpu: GpuContext) -> Profile {
    let context = Context {
        gpu: Some(gpu),
        ..Context::default()
    };
    aggregator.profile(&snapshot(threads()), context)
}

fn profile(work: &[GpuWork], calls: &[GpuCall]) -> Profile {
    let mut aggregator = Aggregator::default();
    let calls: Vec<_> = calls.iter().cloned().map(Arc::new).collect();
    aggregator.take_gpu(work, &calls, &steps_of);
    profile_of(&aggregator, GpuContext::default())
}

fn of_site<'a>(profile: &'a Profile, name: &str) -> &'a GpuStats {
    let row = profile.sites.iter().find(|row| row.site.name == name);
    row.unwrap().stats.gpu.as_ref().unwrap()
}

#[test]
fn work_counts_for_its_path_and_for_all_above_and_for_a_recursive_site_once() {
    let profile = profile(
        &[
            by(2, kernel(7, 0, 100)),
            by(4, kernel(8, 50, 150)),
            by(3, kernel(7, 200, 210)),
        ],
        &[],
    );
    let busy: Vec<_> = profile
        .paths
        .iter()
        .map(|path| {
            let gpu = path.stats.gpu.as_ref().unwrap();
            (gpu.total.busy.0, gpu.own.busy.0, gpu.total.kernels)
        })
        .collect();
    assert_eq!(
        busy,
        [(160, 0, 3), (160, 100, 3), (110, 10, 2), (100, 100, 1)]
    );
    let serve = of_site(&profile, "serve");
    assert_eq!((serve.total.busy, serve.total.kernels), (Nanos(160), 3));
    assert_eq!((serve.own.busy, serve.own.kernels), (Nanos(10), 1));
    assert_eq!(serve.total.kernel_time, Nanos(210));
    assert_eq!(profile.gpu.unwrap().outside, GpuTotals::default());
}

#[test]
fn devices_are_kept_apart_and_a_span_has_the_sum_of_their_busy_times() {
    let second = GpuQueue::new(1, 2, 7);
    let mut aggregator = Aggregator::default();
    let work = [by(1, kernel(7, 0, 100)), by(1, on(second, 50, 90))];
    aggregator.take_gpu(&work, &[Arc::new(launch(1, 0, 4))], &steps_of);
    let named = GpuDevice {
        ordinal: 2,
        name: Some("spare".to_owned()),
        ..GpuDevice::default()
    };
    let context = GpuContext {
        devices: vec![named],
        notices: vec![GpuNotice::new("memory", "no reason")],
        dropped_records: 1,
        dropped_calls: 2,
        unattributed: 3,
        lost_ranges: GpuLostRanges::default(),
        unfinished: 4,
        unknown_calls: 5,
    };
    let profile = profile_of(&aggregator, context);
    assert_eq!(of_site(&profile, "serve").total.busy, Nanos(140));
    let gpu = profile.gpu.unwrap();
    let rows: Vec<_> = gpu
        .devices
        .iter()
        .map(|row| {
            (
                row.device.ordinal,
                row.window.0,
                row.totals.busy.0,
                row.totals.launches,
            )
        })
        .collect();
    assert_eq!(rows, [(0, 100, 100, 1), (1, 40, 40, 0), (2, 0, 0, 0)]);
    assert_eq!(gpu.devices[1].streams[0].queue, second);
    assert_eq!(gpu.devices[2].device.name.as_deref(), Some("spare"));
    let losses = (gpu.dropped_records, gpu.dropped_calls, gpu.unattributed);
    assert_eq!(
        (losses, gpu.unfinished, gpu.unknown_calls),
        ((1, 2, 3), 4, 5)
    );
    assert_eq!(gpu.notices.len(), 1);
}

#[test]
fn copies_are_told_apart_by_direction_and_by_what_the_driver_must_stage() {
    use GpuMemoryKind::{Device, Managed, Pageable, Pinned};
    let copy = |from, to, bytes, peer| {
        let mut copy = GpuCopy::new(from, to, bytes);
        copy.peer = peer;
        GpuWork {
            kind: GpuKind::Copy(copy),
            ..by(1, kernel(7, 0, 10))
        }
    };
    let set = GpuWork {
        kind: GpuKind::Set { bytes: 9 },
        ..by(1, kernel(7, 20, 30))
    };
    let profile = profile(
        &[
            copy(Pageable, Device, 1, None),
            copy(Pinned, Device, 2, None),
            copy(Device, Pageable, 4, None),
            copy(Device, Managed, 8, None),
            copy(Device, Device, 16, Some(1)),
            set,
        ],
        &[],
    );
    let own = &of_site(&profile, "serve").own;
    assert_eq!((own.to_device_bytes, own.to_host_bytes), (3, 4));
    assert_eq!((own.on_device_bytes, own.peer_bytes), (8, 16));
    assert_eq!((own.pageable_copies, own.pageable_bytes), (2, 5));
    assert_eq!((own.copies, own.copy_time, own.sets), (5, Nanos(50), 1));
    assert_eq!(own.busy, Nanos(20));
}

#[test]
fn copies_that_hold_up_who_starts_them_are_told_apart_from_those_that_do_not() {
    use GpuMemoryKind::{Device, Pageable, Pinned};
    let large = (64 << 10) + 1;
    let copy = |from, to, bytes, is_async| {
        let mut copy = GpuCopy::new(from, to, bytes);
        copy.is_async = is_async;
        GpuWork {
            kind: GpuKind::Copy(copy),
            ..by(1, kernel(7, 0, 10))
        }
    };
    let profile = profile(
        &[
            copy(Pageable, Device, large, true),
            copy(Pinned, Device, large, false),
            copy(Device, Pageable, 4, true),
            copy(Pinned, Device, large, true),
            copy(Pageable, Device, large - 1, false),
            copy(Device, Device, large, false),
            by(1, kernel(7, 10, 15)),
        ],
        &[],
    );
    let own = &of_site(&profile, "serve").own;
    let blocking = (own.blocking_copies, own.blocking_bytes, own.blocking_time.0);
    assert_eq!(blocking, (3, 2 * large + 4, 30));
    assert_eq!((own.free_bytes, own.free_time.0), (2 * large - 1, 20));
    let lengths = own.kernel_lengths.as_ref().unwrap();
    assert_eq!((lengths.count, lengths.quantiles.p50), (1, Nanos(5)));
    assert_eq!(profile.gpu.unwrap().devices[0].kernel_busy, Nanos(5));
}

#[test]
fn a_range_is_busy_time_only_where_nothing_better_is_known() {
    let range = |mut work: GpuWork| {
        work.kind = GpuKind::Range {
            name: "step".into(),
        };
        work.source = GpuSource::Events;
        by(1, work)
    };
    let only = profile(&[range(kernel(7, 0, 100))], &[]);
    let own = &of_site(&only, "serve").own;
    assert_eq!(
        (own.busy, own.ranges, own.range_time),
        (Nanos(100), 1, Nanos(100))
    );
    assert_eq!(own.sources, [GpuSource::Events]);

    let other = on(GpuQueue::new(1, 2, 7), 0, 30);
    let both = profile(
        &[
            range(kernel(7, 0, 100)),
            by(1, kernel(7, 10, 20)),
            range(other),
        ],
        &[],
    );
    let own = &of_site(&both, "serve").own;
    assert_eq!(own.busy, Nanos(10 + 30), "device 1 has nothing but ranges");
    assert_eq!(own.sources, [GpuSource::Cupti, GpuSource::Events]);
}

#[test]
fn calls_are_host_time_by_what_they_are_for() {
    let call = |api, length: u64, bytes: Option<u64>| GpuCall {
        api,
        memory: bytes.map(|bytes| GpuMemory::new(0x10, Some(bytes))),
        caller: caller(2),
        ..launch(1, 100, 100 + length)
    };
    let mut unfinished = call(GpuApi::Synchronize, 0, None);
    unfinished.end = None;
    let profile = profile(
        &[kernel(7, 300, 310)],
        &[
            call(GpuApi::Launch, 3, None),
            call(GpuApi::GraphLaunch, 4, None),
            call(GpuApi::Synchronize, 50, None),
            unfinished,
            call(GpuApi::Allocate, 6, Some(1_000)),
            call(GpuApi::Free, 7, None),
        ],
    );
    let own = &of_site(&profile, "forward").own;
    assert_eq!((own.launches, own.launch_time), (2, Nanos(7)));
    assert_eq!((own.syncs, own.sync_time), (2, Nanos(50)));
    assert_eq!((own.allocations, own.allocated_bytes), (1, 1_000));
    assert_eq!((own.memory_time, own.busy), (Nanos(13), Nanos::ZERO));
    let device = &profile.gpu.as_ref().unwrap().devices[0];
    assert_eq!(
        (device.totals.launches, device.peak_bytes),
        (2, Some(1_000))
    );
}

#[test]
fn work_outside_of_spans_is_told_apart_from_work_whose_call_was_not_seen() {
    let mut launched = kernel(7, 10, 20);
    launched.call = Some(Arc::new(launch(1, 0, 4)));
    let mut reported = kernel(7, 30, 35);
    reported.source = GpuSource::Reported;
    let nobodys = kernel(7, 50, 60);
    let gpu = profile(&[launched, reported, nobodys], &[launch(1, 0, 4)])
        .gpu
        .unwrap();
    assert_eq!((gpu.outside.busy, gpu.outside.kernels), (Nanos(15), 2));
    assert_eq!(gpu.outside.launches, 1);
    assert_eq!(gpu.devices[0].totals.busy, Nanos(25));
    assert_eq!(gpu.kernels[0].runs, 3);
}

#[test]
fn only_the_first_node_of_a_graph_waited_for_its_launch() {
    let call = Arc::new(GpuCall {
        api: GpuApi::GraphLaunch,
        ..launch(9, 0, 5)
    });
    let node = |start| {
        let mut node = by(1, kernel(7, start, start + 10));
        node.call = Some(Arc::clone(&call));
        node
    };
    let mut aggregator = Aggregator::default();
    aggregator.take_gpu(&[node(40), node(25)], &[], &steps_of);
    aggregator.take_gpu(&[node(60)], &[], &steps_of);
    let profile = profile_of(&aggregator, GpuContext::default());
    let delay = of_site(&profile, "serve").own.launch_delay.clone().unwrap();
    assert_eq!((delay.count, delay.max), (1, Nanos(20)));
    let of_stream = &profile.gpu.unwrap().devices[0].streams[0].totals;
    assert_eq!((of_stream.launches, of_stream.kernels), (1, 3));
}

#[test]
fn a_thread_that_entered_no_span_is_no_row_and_no_part_of_the_split() {
    let profile = profile(&[], &[]);
    assert_eq!(profile.threads.len(), 1);
    assert_eq!(profile.split.thread_time, Nanos(900));
    let mut aggregator = Aggregator::default();
    aggregator.take_ended(threads().split_off(1), TickScale::nanoseconds());
    let profile = aggregator.profile(&snapshot(Vec::new()), Context::default());
    assert!(profile.threads.is_empty() && profile.gpu.is_none());
    assert!(profile.sites.iter().all(|row| row.stats.gpu.is_none()));
}

#[test]
fn a_reset_forgets_the_work_and_keeps_what_is_held() {
    let mut aggregator = Aggregator::default();
    let held = GpuCall {
        api: GpuApi::Allocate,
        memory: Some(GpuMemory::new(0x10, Some(64))),
        ..launch(1, 0, 4)
    };
    aggregator.take_gpu(&[by(1, kernel(7, 0, 100))], &[Arc::new(held)], &steps_of);
    aggregator.reset(Nanos(150));
    // The driver tells of it late.
    let late = launch(2, 110, 120);
    aggregator.take_gpu(&[by(1, kernel(7, 120, 140))], &[Arc::new(late)], &steps_of);
    let gpu = profile_of(&aggregator, GpuContext::default()).gpu.unwrap();
    assert!(gpu.devices.is_empty() && gpu.kernels.is_empty());
    assert_eq!(gpu.outside.launches, 0);
    aggregator.take_gpu(&[by(1, kernel(7, 200, 230))], &[], &steps_of);
    let gpu = profile_of(&aggregator, GpuContext::default()).gpu.unwrap();
    assert_eq!(gpu.devices[0].totals.busy, Nanos(30));
    assert_eq!(gpu.devices[0].peak_bytes, Some(64));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// However the work comes in batches, sums are those of all at once, and no path has more than the one above it.
    #[test]
    fn batches_change_nothing(
        pieces in prop::collection::vec((1_u32..5, 0_u32..2, 0_u64..500, 0_u64..50), 1..40),
        batch in 1_usize..10,
    ) {
        let work: Vec<_> = pieces
            .iter()
            .map(|&(path, device, start, length)| {
                let queue = GpuQueue::new(device, device + 1, path % 2);
                by(path, on(queue, start, start + length))
            })
            .collect();
        let mut aggregator = Aggregator::default();
        for batch in work.chunks(batch) {
            aggregator.take_gpu(batch, &[], &steps_of);
        }
        let in_batches = profile_of(&aggregator, GpuContext::default());
        let at_once = profile(&work, &[]);
        prop_assert_eq!(&in_batches.gpu, &at_once.gpu);
        let totals: BTreeMap<_, _> = (0..).zip(&in_batches.paths).collect();
        for (&at, path) in &totals {
            prop_assert_eq!(&path.stats.gpu, &at_once.paths[at].stats.gpu);
            let busy = |at: usize| totals[&at].stats.gpu.as_ref().map(|gpu| gpu.total.busy);
            if let Some(parent) = path.parent {
                prop_assert!(busy(at) <= busy(parent));
            }
        }
        let gpu = in_batches.gpu.unwrap();
        let on_devices: Nanos = gpu.devices.iter().map(|row| row.totals.busy).sum();
        let of_root = in_batches.paths[0].stats.gpu.as_ref().unwrap();
        prop_assert_eq!(of_root.total.busy, on_devices);
    }
}
