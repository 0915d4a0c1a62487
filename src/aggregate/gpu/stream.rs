//! What lies between the pieces of work of one stream.

use std::collections::{BTreeMap, VecDeque};

use super::busy::Busy;
use super::sums::Sums;
use crate::model::{GpuIdle, GpuKind, GpuWork, Nanos};

/// A pause below this is what a device takes from one kernel to the next, if the next was launched in time. As in
/// Holistic Trace Analysis.
pub(super) const KERNEL_PAUSE: Nanos = Nanos(30_000);

/// Launches of one stream that have not ended; the driver makes callers wait long before.
const MAX_DEPTH: usize = 65_536;

/// One stream: its sums, and its work in the order of its begin.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) sums: Sums,
    pub(super) busy: Busy,
    /// The newest work, for which something earlier may still come, by begin and arrival.
    kept: BTreeMap<(Nanos, u64), Piece>,
    arrivals: u64,
    /// What the work before that adds up to.
    folded: Between,
    floor: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: Nanos,
    end: Nanos,
    /// Number and begin of the call that started it.
    call: Option<(u32, Nanos)>,
}

/// Pauses and launches up to a piece of work.
#[derive(Debug, Clone, Default)]
pub(super) struct Between {
    pub(super) idle: GpuIdle,
    /// `None` where no call was seen.
    pub(super) max_depth: Option<u32>,
    last_end: Option<Nanos>,
    last_call: Option<u32>,
    /// When the launches end that had not ended at the newest launch.
    ends: VecDeque<Nanos>,
}

impl Stream {
    /// Adds work, and keeps at most `most` pieces in case that an earlier one comes. What comes later than that has no
    /// part in the pauses.
    pub(super) fn add(&mut self, work: &GpuWork, most: usize) {
        if matches!(work.kind, GpuKind::Range { .. }) || work.start < self.floor {
            return;
        }
        let call = work.call.as_ref();
        let piece = Piece {
            start: work.start,
            end: work.end,
            call: call.map(|call| (call.correlation, call.start)),
        };
        self.arrivals += 1;
        self.kept.insert((work.start, self.arrivals), piece);
        if self.kept.len() > most {
            while self.kept.len() > most / 2
                && let Some((_, piece)) = self.kept.pop_first()
            {
                self.folded.step(piece);
                self.floor = piece.start;
            }
        }
    }

    pub(super) fn between(&self) -> Between {
        let mut between = self.folded.clone();
        self.kept.values().for_each(|&piece| between.step(piece));
        between
    }
}

impl Between {
    fn step(&mut self, piece: Piece) {
        if let Some(last_end) = self.last_end {
            let pause = piece.start.saturating_sub(last_end);
            let launched_late = piece.call.is_some_and(|(_, launched)| launched > last_end);
            let cause = if launched_late {
                &mut self.idle.host
            } else if pause < KERNEL_PAUSE {
                &mut self.idle.kernel
            } else {
                &mut self.idle.other
            };
            *cause = cause.saturating_add(pause);
        }
        self.last_end = Some(piece.end);
        if let Some((call, launched)) = piece.call {
            self.launch(call, launched, piece.end);
        }
    }

    /// A graph is one launch, however many nodes it has.
    fn launch(&mut self, call: u32, launched: Nanos, end: Nanos) {
        if self.last_call == Some(call)
            && let Some(last) = self.ends.back_mut()
        {
            *last = end.max(*last);
            return;
        }
        self.last_call = Some(call);
        while self.ends.front().is_some_and(|&end| end <= launched) {
            self.ends.pop_front();
        }
        if self.ends.len() < MAX_DEPTH {
            self.ends.push_back(end);
        }
        let depth = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.max_depth = self.max_depth.max(Some(depth));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::tests::{kernel, launch};
    use super::*;

    /// Work that was launched at the first of three times and ran between the others.
    fn stream(work: &[(u64, u64, u64)], most: usize) -> Stream {
        let mut stream = Stream::default();
        for (at, &(launched, start, end)) in work.iter().enumerate() {
            let mut work = kernel(7, start, end);
            work.call = Some(Arc::new(launch(at as u32, launched, launched + 5)));
            stream.add(&work, most);
        }
        stream
    }

    /// The worked example of the analysis: 119 us host, 1 us kernel.
    #[test]
    fn pauses_have_the_cause_that_holistic_trace_analysis_gives_them() {
        let us = 1_000;
        let between = stream(
            &[
                (1_020 * us, 1_040 * us, 1_090 * us),
                (1_030 * us, 1_091 * us, 1_191 * us),
                (1_300 * us, 1_310 * us, 1_390 * us),
                (1_310 * us, 1_420 * us, 1_430 * us),
                (1_311 * us, 1_430 * us, 1_440 * us),
            ],
            100,
        )
        .between();
        assert_eq!(between.idle.host, Nanos(119 * us));
        assert_eq!(between.idle.kernel, Nanos(us));
        assert_eq!(
            between.idle.other,
            Nanos(30 * us),
            "30 us are no kernel pause"
        );
        assert_eq!(between.max_depth, Some(3));
    }

    #[test]
    fn work_without_a_call_is_never_said_to_wait_for_the_host() {
        let mut stream = Stream::default();
        stream.add(&kernel(7, 0, 10), 100);
        stream.add(&kernel(7, 1_000_000, 1_000_010), 100);
        let between = stream.between();
        assert_eq!(between.idle.other, Nanos(999_990));
        assert_eq!(
            (between.idle.total(), between.max_depth),
            (Nanos(999_990), None)
        );
    }

    #[test]
    fn the_nodes_of_a_graph_are_one_launch() {
        let mut stream = Stream::default();
        let call = Arc::new(launch(3, 0, 5));
        for node in 0..10 {
            let mut work = kernel(7, 10 + node * 10, 20 + node * 10);
            work.call = Some(Arc::clone(&call));
            stream.add(&work, 100);
        }
        assert_eq!(stream.between().max_depth, Some(1));
    }

    fn back_to_back() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
        let piece = (0_u64..60_000, 0_u64..60_000, 1_u64..50_000);
        prop::collection::vec(piece, 1..40).prop_map(|pieces| {
            let (mut launched, mut free) = (0, 0);
            pieces
                .into_iter()
                .map(|(think, pause, length)| {
                    launched += think;
                    let start = free.max(launched) + pause;
                    free = start + length;
                    (launched, start, free)
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn order_and_bound_change_nothing_about_work_that_comes_in_time(
            work in back_to_back(),
            most in 2_usize..10,
        ) {
            let expected = stream(&work, 1_000).between();
            let busy: u64 = work.iter().map(|(_, start, end)| end - start).sum();
            let window = work[work.len() - 1].2 - work[0].1;
            prop_assert_eq!(expected.idle.total().0, window - busy);
            let depth = work.iter().map(|&(at, ..)| {
                work.iter().filter(|&&(launched, _, end)| launched <= at && end > at).count()
            });
            prop_assert_eq!(expected.max_depth.map(|depth| depth as usize), depth.max());

            let bounded = stream(&work, most).between();
            prop_assert_eq!(bounded.idle, expected.idle);
            prop_assert_eq!(bounded.max_depth, expected.max_depth);
            let mut other_order = work.clone();
            other_order.chunks_mut(2).for_each(|pair| pair.reverse());
            let late = stream(&other_order, most.max(4)).between();
            prop_assert_eq!(late.idle, expected.idle);
        }
    }
}
