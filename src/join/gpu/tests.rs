//! Whatever comes first, the same truth is joined.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::{GpuCopy, GpuFunction, GpuMemory, GpuMemoryKind, GpuQueue, GpuSource, Nanos};
use crate::model::{SiteId, SpanSeq, Thread};

const PATH: PathId = PathId(3);

fn site_of(path: PathId) -> Option<Arc<Site>> {
    (path == PATH).then(|| Arc::new(Site::new(SiteId(9), "forward", "model", None, None)))
}

fn caller() -> RawCaller {
    RawCaller {
        span: SpanSeq(77),
        path: PATH,
        ids: None,
    }
}

fn thread() -> Thread {
    Thread::new(1, None, None)
}

fn begin<'a>(thread: &'a Thread, correlation: u32, function: &str, at: u64) -> GpuCallEnd<'a> {
    GpuCallEnd::Begin {
        correlation,
        function: GpuFunction::named(function).unwrap(),
        context: 1,
        thread,
        at: Nanos(at),
        caller: Some(caller()),
    }
}

fn returned(correlation: u32, at: u64, error: u32) -> GpuCallEnd<'static> {
    GpuCallEnd::Return {
        correlation,
        at: Nanos(at),
        error,
        memory: Some(GpuMemory::new(4_096, Some(8))),
    }
}

fn work(owner: GpuOwner, start: u64) -> GpuActivity {
    GpuActivity {
        kind: GpuKind::Copy(GpuCopy::new(
            GpuMemoryKind::Pinned,
            GpuMemoryKind::Device,
            8,
        )),
        queue: GpuQueue::new(0, 1, 7),
        start: Nanos(start),
        end: Nanos(start + 5),
        graph: None,
        owner,
        source: GpuSource::Cupti,
    }
}

fn is_async(work: &GpuWork) -> bool {
    matches!(&work.kind, GpuKind::Copy(copy) if copy.is_async)
}

#[test]
fn work_gets_its_call_and_the_span_around_it() {
    let thread = thread();
    let mut join = GpuJoin::default();
    let ends = [
        begin(&thread, 5, "cuMemcpyHtoDAsync", 10),
        returned(5, 20, 0),
        begin(&thread, 6, "cuMemcpyHtoD", 30),
        returned(6, 40, 0),
    ];
    join.calls(&ends, &site_of);
    join.activities(
        vec![
            work(GpuOwner::Call(5), 25),
            work(GpuOwner::Call(6), 33),
            work(GpuOwner::Known(Some(caller())), 50),
            work(GpuOwner::Known(None), 60),
        ],
        &site_of,
    );
    let mut joined = join.end_round();
    joined.work.sort_by_key(|work| work.start);
    let [launched, waited, ranged, outside] = &joined.work[..] else {
        panic!("{:?}", joined.work);
    };
    assert_eq!(launched.launch_delay(), Some(Nanos(5)));
    assert!(is_async(launched) && !is_async(waited));
    for work in [launched, waited, ranged] {
        let caller = work.caller.as_ref().unwrap();
        assert_eq!((caller.span, caller.path), (SpanSeq(77), PATH));
        assert_eq!(caller.site.name, "forward");
    }
    assert!(ranged.call.is_none() && outside.call.is_none() && outside.caller.is_none());
    assert!(Arc::ptr_eq(
        launched.call.as_ref().unwrap(),
        &joined.calls[0]
    ));
    assert_eq!(join.unattributed(), 0);
}

#[test]
fn work_that_is_over_before_its_call_returned_waits_for_it() {
    let thread = thread();
    let mut join = GpuJoin::default();
    join.activities(vec![work(GpuOwner::Call(5), 12)], &site_of);
    let joined = join.end_round();
    assert!(joined.work.is_empty() && joined.calls.is_empty());
    join.calls(&[begin(&thread, 5, "cuMemcpyHtoD", 10)], &site_of);
    for _ in 0..100 {
        assert!(join.end_round().work.is_empty());
    }
    join.calls(&[returned(5, 20, 0)], &site_of);
    let joined = join.end_round();
    assert_eq!((joined.work.len(), joined.calls.len()), (1, 1));
    assert_eq!(joined.work[0].launch_delay(), Some(Nanos::ZERO));
}

#[test]
fn work_whose_call_never_comes_is_handed_on_and_counted() {
    let mut join = GpuJoin::default();
    join.activities(vec![work(GpuOwner::Call(5), 12)], &site_of);
    let rounds = (0..).find(|_| !join.end_round().work.is_empty()).unwrap();
    assert_eq!(rounds, WAITING_ROUNDS);
    assert_eq!(join.unattributed(), 1);

    let surplus = vec![work(GpuOwner::Call(6), 12); MAX_WAITING + 3];
    join.activities(surplus, &site_of);
    assert_eq!(join.end_round().work.len(), 3, "no more than fit may wait");
    assert_eq!(join.unattributed(), 4);
    join.reset();
    assert_eq!(join.unattributed(), 0);
    assert_eq!(join.finish().work.len(), MAX_WAITING);
    assert_eq!(join.unattributed(), MAX_WAITING as u64);
}

#[test]
fn work_that_starts_after_the_end_is_nobodys_loss() {
    let mut join = GpuJoin::default();
    join.close(Nanos(100));
    let activities = [99, 100].map(|start| work(GpuOwner::Call(start as u32), start));
    join.activities(activities.into(), &site_of);
    assert_eq!(join.finish().work.len(), 1);
    assert_eq!(join.unattributed(), 1);
}

#[test]
fn what_has_not_returned_in_the_end_has_no_end() {
    let thread = thread();
    let mut join = GpuJoin::default();
    let ends = [
        begin(&thread, 5, "cuGraphLaunch", 10),
        begin(&thread, 6, "cuCtxSynchronize", 15),
    ];
    join.calls(&ends, &site_of);
    join.activities(vec![work(GpuOwner::Call(5), 12)], &site_of);
    let joined = join.finish();
    assert!(joined.calls.iter().all(|call| call.end.is_none()));
    assert_eq!(joined.calls.len(), 2);
    let call = joined.work[0].call.as_ref().unwrap();
    assert_eq!((call.correlation, call.end), (5, None));
    assert!(is_async(&joined.work[0]), "copies of a graph do not wait");
    assert_eq!(join.unattributed(), 0);
}

#[test]
fn a_call_that_does_not_return_keeps_its_work_for_a_bounded_time() {
    let thread = thread();
    let mut join = GpuJoin::default();
    join.calls(&[begin(&thread, 5, "cuLaunchKernel", 10)], &site_of);
    join.activities(vec![work(GpuOwner::Call(5), 12)], &site_of);
    let joined = std::iter::repeat_with(|| join.end_round())
        .take(RETURNING_ROUNDS as usize + 1)
        .find(|joined| !joined.work.is_empty())
        .unwrap();
    assert_eq!(joined.calls[0].end, None);
    assert!(joined.work[0].caller.is_some());
    join.calls(&[returned(5, 99, 0)], &site_of);
    assert!(join.end_round().calls.is_empty(), "it was handed on once");
}

#[test]
fn a_failed_allocation_has_no_memory() {
    let thread = thread();
    let mut join = GpuJoin::default();
    let ends = [
        begin(&thread, 5, "cuMemAlloc", 10),
        returned(5, 20, 2),
        begin(&thread, 6, "cuMemAlloc", 30),
        returned(6, 40, 0),
        returned(7, 50, 0),
    ];
    join.calls(&ends, &site_of);
    let calls = join.end_round().calls;
    assert_eq!((calls[0].error, calls[0].memory), (Some(2), None));
    assert_eq!((calls[1].error, calls[1].memory.is_some()), (None, true));
    assert_eq!(calls.len(), 2, "a return without its begin says nothing");
}

/// One call as it happened: its thread, and the starts of its work.
#[derive(Debug, Clone)]
struct Truth {
    thread: usize,
    graph: bool,
    work: Vec<u64>,
}

/// What is joined, in no order.
fn joined_set(truth: &[Truth], picks: &[usize]) -> (BTreeSet<(u64, u32, bool)>, BTreeSet<u32>) {
    enum Step {
        Begin(u32),
        Return(u32),
        Work(u32, u64),
        Round,
    }
    // One queue per thread and one per piece of work: each keeps its order, and nothing else is promised.
    let mut queues: Vec<VecDeque<Step>> = (0..4).map(|_| VecDeque::new()).collect();
    for (at, call) in truth.iter().enumerate() {
        let correlation = at as u32 + 1;
        queues[call.thread].extend([Step::Begin(correlation), Step::Return(correlation)]);
        for &start in &call.work {
            queues.push(VecDeque::from([Step::Work(correlation, start)]));
        }
    }
    // As many rounds as work may wait, in between.
    queues.push((0..WAITING_ROUNDS).map(|_| Step::Round).collect());

    let thread = thread();
    let mut join = GpuJoin::default();
    let (mut work_seen, mut calls_seen) = (BTreeSet::new(), BTreeSet::new());
    let mut take = |joined: GpuJoined| {
        for call in joined.calls {
            assert!(call.end.is_some());
            assert!(calls_seen.insert(call.correlation), "handed on twice");
        }
        for work in joined.work {
            let call = work.call.clone().unwrap();
            assert!(
                calls_seen.contains(&call.correlation),
                "work before its call"
            );
            work_seen.insert((work.start.0, call.correlation, is_async(&work)));
        }
    };
    let mut picks = picks.iter().copied().cycle();
    while queues.iter().any(|queue| !queue.is_empty()) {
        queues.retain(|queue| !queue.is_empty());
        let at = picks.next().unwrap_or(0) % queues.len();
        match queues[at].pop_front().unwrap() {
            Step::Begin(call) => {
                let function = match truth[call as usize - 1].graph {
                    true => "cuGraphLaunch",
                    false => "cuMemcpyHtoD",
                };
                join.calls(&[begin(&thread, call, function, 1)], &site_of);
            }
            Step::Return(call) => join.calls(&[returned(call, 2, 0)], &site_of),
            Step::Work(call, start) => {
                join.activities(vec![work(GpuOwner::Call(call), start)], &site_of);
            }
            Step::Round => take(join.end_round()),
        }
    }
    take(join.finish());
    assert_eq!(join.unattributed(), 0);
    (work_seen, calls_seen)
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let call = (0_usize..4, any::<bool>(), 0_usize..4);
    prop::collection::vec(call, 1..20).prop_map(|calls| {
        let mut start = 0;
        calls
            .into_iter()
            .map(|(thread, graph, pieces)| Truth {
                thread,
                graph,
                work: (0..pieces)
                    .map(|_| {
                        start += 1;
                        start
                    })
                    .collect(),
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_of_the_same_truth_is_joined_alike(
        truth in truths(),
        picks in prop::collection::vec(0_usize..1_000, 1..100),
    ) {
        let (work, calls) = joined_set(&truth, &picks);
        let expected_work = truth.iter().enumerate().flat_map(|(at, call)| {
            let all = call.work.iter();
            all.map(move |&start| (start, at as u32 + 1, call.graph))
        });
        prop_assert_eq!(work, expected_work.collect::<BTreeSet<_>>());
        prop_assert_eq!(calls.len(), truth.len());
    }
}
