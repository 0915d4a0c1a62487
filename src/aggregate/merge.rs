//! Adding up one call path over threads.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Bucket, CpuSnapshot, Distribution, Ended, FrameCount, NodeSnapshot, OnCpu};
use crate::model::{OpenSnapshot, PathId, PathProgress};
use crate::model::{RecorderSnapshot, ThreadSnapshot, TickScale, buckets};

/// One call path over all threads, in ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    pub(super) activations: u64,
    spans_delta: i64,
    calls_delta: i64,
    pub(super) errors: u64,
    pub(super) open: u64,
    pub(super) open_root_activations: u64,
    pub(super) busy: u64,
    pub(super) self_time: u64,
    /// Activations that began with nothing around them.
    pub(super) detached: u64,
    pub(super) idle: u64,
    pub(super) activation: Recorded,
    pub(super) latency: Option<Recorded>,
    first: First,
    pub(super) on_cpu: Option<OnCpu>,
    pub(super) cpu: Option<CpuSnapshot>,
    /// Self ticks by thread index.
    pub(super) self_by_thread: HashMap<u32, u64>,
}

/// When the first operation began, and how long it took.
///
/// An async operation is first by its latency, which only the thread knows that closed it; threads that did no more
/// than poll it have a first activation.
#[derive(Debug, Clone, Copy, Default)]
struct First {
    latency: Option<(u64, u64)>,
    activation: Option<(u64, u64)>,
}

impl First {
    fn absorb(&mut self, other: First) {
        let earlier = |a: Option<(u64, u64)>, b: Option<(u64, u64)>| match (a, b) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        self.latency = earlier(self.latency, other.latency);
        self.activation = earlier(self.activation, other.activation);
    }
}

impl Merged {
    /// Adds one thread's share.
    pub(super) fn add(&mut self, node: &NodeSnapshot, thread: &ThreadSnapshot) {
        let activations: u64 = node.activation.buckets.iter().map(|bucket| bucket.2).sum();
        self.activations += activations;
        self.spans_delta += node.spans_delta;
        self.calls_delta += node.calls_delta;
        self.errors += node.errors;
        self.busy += node.busy;
        self.self_time += node.self_time;
        self.detached += node.detached;
        self.idle += node.idle;
        self.activation.add(&node.activation);
        if let Some(latency) = &node.latency {
            self.latency.get_or_insert_default().add(latency);
        }
        let first = match &node.latency {
            Some(_) => First {
                latency: node.first,
                activation: None,
            },
            None => First {
                latency: None,
                activation: node.first,
            },
        };
        self.first.absorb(first);
        if let Some(cpu) = node.cpu {
            self.cpu.get_or_insert_default().absorb(cpu);
        }
        if activations > 0 {
            *self.self_by_thread.entry(thread.thread.index).or_default() += node.self_time;
        }
    }

    pub(super) fn add_open(&mut self, open: &OpenSnapshot) {
        self.open += 1;
        let polls = open.polls.cast_signed();
        self.spans_delta -= polls;
        self.calls_delta -= polls;
        if open.root {
            self.open_root_activations = self.open_root_activations.max(open.activations);
        }
    }

    pub(super) fn spans(&self) -> u64 {
        self.activations.saturating_add_signed(self.spans_delta)
    }

    /// Returns what some of the threads have done.
    pub(super) fn progress(&self) -> PathProgress {
        let spans = self.latency.as_ref().map(Recorded::ended);
        PathProgress {
            calls: self
                .activations
                .cast_signed()
                .saturating_add(self.calls_delta),
            activations: self.activation.ended(),
            spans: spans.unwrap_or_default(),
            // What has ended does not go on being slow.
            longest: 0,
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.activations.saturating_add_signed(self.calls_delta)
    }

    /// Returns the length of the first operation.
    pub(super) fn first(&self) -> Option<u64> {
        let first = self.first.latency.or(self.first.activation);
        first.map(|(_, length)| length)
    }

    /// Adds another path of the same site. `busy` is left to the caller, who knows whether the paths nest.
    pub(super) fn absorb(&mut self, other: &Merged) {
        self.activations += other.activations;
        self.spans_delta += other.spans_delta;
        self.calls_delta += other.calls_delta;
        self.errors += other.errors;
        self.open += other.open;
        self.open_root_activations = self.open_root_activations.max(other.open_root_activations);
        self.self_time += other.self_time;
        self.detached += other.detached;
        self.idle += other.idle;
        self.activation.absorb(&other.activation);
        if let Some(latency) = &other.latency {
            self.latency.get_or_insert_default().absorb(latency);
        }
        self.first.absorb(other.first);
        if let Some(seen) = other.on_cpu {
            let known = self.on_cpu.unwrap_or_default();
            self.on_cpu = Some(OnCpu::new(
                known.samples + seen.samples,
                known.running + seen.running,
            ));
        }
        if let Some(cpu) = other.cpu {
            self.cpu.get_or_insert_default().absorb(cpu);
        }
        for (&thread, &ticks) in &other.self_by_thread {
            *self.self_by_thread.entry(thread).or_default() += ticks;
        }
    }
}

/// Adds the activations that go on: their time so far, but no duration, for they have none yet.
pub(super) fn add_frames(paths: &mut HashMap<PathId, Merged>, thread: &ThreadSnapshot, now: u64) {
    let mut inside = 0;
    for frame in thread.frames.iter().rev() {
        let total = now.saturating_sub(frame.entered);
        let child = frame.child.saturating_add(inside);
        inside = total;
        if frame.count == FrameCount::Nothing {
            inside = child;
            continue;
        }
        let merged = paths.entry(frame.path).or_default();
        let own = total.saturating_sub(child);
        merged.busy += total;
        merged.self_time += own;
        merged.activations += 1;
        *merged
            .self_by_thread
            .entry(thread.thread.index)
            .or_default() += own;
        match frame.count {
            FrameCount::Call => merged.spans_delta -= 1,
            // The open span that it belongs to takes it out of spans and calls.
            FrameCount::Poll | FrameCount::Span | FrameCount::Nothing => {}
        }
    }
}

/// Durations of one path, in ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorded {
    buckets: BTreeMap<(u8, u8), u64>,
    sum: u64,
    range: Option<(u64, u64)>,
    outliers: u64,
}

impl Recorded {
    fn add(&mut self, recorder: &RecorderSnapshot) {
        for &(page, place, count) in &recorder.buckets {
            *self.buckets.entry((page, place)).or_default() += count;
        }
        self.sum = self.sum.saturating_add(recorder.sum);
        self.outliers += recorder.outliers;
        if !recorder.buckets.is_empty() {
            self.widen(recorder.min, recorder.max);
        }
    }

    /// Adds one value.
    pub(super) fn record(&mut self, value: u64) {
        let (page, place) = buckets::locate(value.min(buckets::MAX));
        // Pages and places are fewer than 256.
        *self.buckets.entry((page as u8, place as u8)).or_default() += 1;
        self.sum = self.sum.saturating_add(value);
        self.outliers += u64::from(value > buckets::MAX);
        self.widen(value, value);
    }

    pub(super) fn absorb(&mut self, other: &Recorded) {
        for (&bucket, &count) in &other.buckets {
            *self.buckets.entry(bucket).or_default() += count;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.outliers += other.outliers;
        if let Some((min, max)) = other.range {
            self.widen(min, max);
        }
    }

    fn ended(&self) -> Ended {
        Ended {
            count: self.buckets.values().sum(),
            ticks: self.sum,
        }
    }

    fn widen(&mut self, min: u64, max: u64) {
        let (low, high) = self.range.unwrap_or((min, max));
        self.range = Some((low.min(min), high.max(max)));
    }

    /// Converts to nanoseconds.
    pub(super) fn distribution(&self, scale: TickScale) -> Distribution {
        let (min, max) = self.range.unwrap_or((0, 0));
        let mut filled: Vec<Bucket> = Vec::with_capacity(self.buckets.len());
        for (&(page, place), &count) in &self.buckets {
            let middle = buckets::middle(page.into(), place.into());
            let value = scale.length(middle.clamp(min, max));
            match filled.last_mut() {
                Some(last) if last.value == value => last.count += count,
                _ => filled.push(Bucket { value, count }),
            }
        }
        Distribution::from_buckets(
            filled,
            scale.length(self.sum),
            scale.length(min),
            scale.length(max),
            self.outliers,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{FrameSnapshot, Thread};

    const PATH: PathId = PathId(1);

    fn thread(index: u32, frames: Vec<FrameSnapshot>) -> ThreadSnapshot {
        ThreadSnapshot {
            thread: Thread::new(index, None, None),
            ended: false,
            first: 0,
            last: 0,
            busy: 0,
            nodes: Vec::new(),
            frames,
        }
    }

    fn recorded(values: &[u64]) -> RecorderSnapshot {
        let mut counts = BTreeMap::new();
        for &value in values {
            *counts.entry(buckets::locate(value)).or_insert(0) += 1;
        }
        RecorderSnapshot {
            buckets: counts
                .into_iter()
                .map(|((page, place), count)| (page as u8, place as u8, count))
                .collect(),
            sum: values.iter().sum(),
            min: values.iter().copied().min().unwrap_or(u64::MAX),
            max: values.iter().copied().max().unwrap_or(0),
            outliers: 0,
        }
    }

    fn node(values: &[u64]) -> NodeSnapshot {
        let activation = recorded(values);
        NodeSnapshot {
            path: PATH,
            busy: activation.sum,
            self_time: activation.sum,
            first: values.first().map(|&length| (100, length)),
            activation,
            ..NodeSnapshot::default()
        }
    }

    fn frame(entered: u64, child: u64, count: FrameCount) -> FrameSnapshot {
        FrameSnapshot {
            path: PATH,
            entered,
            child,
            count,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However the values are spread over threads, the sum is that of one thread with all of them.
        #[test]
        fn threads_add_up(threads in prop::collection::vec(prop::collection::vec(0_u64..1 << 40, 0..20), 1..6)) {
            let scale = TickScale::nanoseconds();
            let all: Vec<u64> = threads.iter().flatten().copied().collect();
            let mut merged = Merged::default();
            for (index, values) in threads.iter().enumerate() {
                merged.add(&node(values), &thread(index as u32, Vec::new()));
            }
            let mut at_once = Merged::default();
            at_once.add(&node(&all), &thread(0, Vec::new()));

            prop_assert_eq!(merged.calls(), all.len() as u64);
            prop_assert_eq!(merged.busy, at_once.busy);
            prop_assert_eq!(merged.self_by_thread.values().sum::<u64>(), merged.self_time);
            prop_assert_eq!(merged.activation.distribution(scale), at_once.activation.distribution(scale));
        }
    }

    #[test]
    fn the_first_operation_is_the_earliest_of_all_threads() {
        let mut merged = Merged::default();
        for (start, length) in [(50, 1), (20, 2), (90, 3)] {
            let mut node = node(&[length]);
            node.first = Some((start, length));
            merged.add(&node, &thread(1, Vec::new()));
        }
        assert_eq!(merged.first(), Some(2));
    }

    /// outer (0..100) > the same span entered again (30..100) > inner (60..100), which spent 10 in a child.
    #[test]
    fn an_activation_within_itself_adds_no_time() {
        let frames = vec![
            frame(0, 5, FrameCount::Span),
            frame(30, 7, FrameCount::Nothing),
            FrameSnapshot {
                path: PathId(2),
                ..frame(60, 10, FrameCount::Span)
            },
        ];
        let mut paths = HashMap::new();
        add_frames(&mut paths, &thread(1, frames), 100);
        let (outer, inner) = (&paths[&PATH], &paths[&PathId(2)]);
        assert_eq!((outer.busy, outer.self_time), (100, 100 - 5 - 7 - 40));
        assert_eq!((inner.busy, inner.self_time), (40, 30));
        assert_eq!((outer.activations, inner.activations), (1, 1));
    }

    #[test]
    fn a_clock_that_stepped_back_gives_no_time_to_what_goes_on() {
        let mut paths = HashMap::new();
        let frames = vec![frame(500, 0, FrameCount::Span)];
        add_frames(&mut paths, &thread(1, frames), 100);
        assert_eq!((paths[&PATH].busy, paths[&PATH].self_time), (0, 0));
    }

    /// An async span that is open in its fourth poll: one span, one operation, four activations.
    #[test]
    fn polls_of_an_open_span_are_one_operation() {
        let thread = thread(1, vec![frame(90, 0, FrameCount::Poll)]);
        let mut paths: HashMap<_, Merged> = HashMap::new();
        paths
            .entry(PATH)
            .or_default()
            .add(&node(&[3, 4, 5]), &thread);
        add_frames(&mut paths, &thread, 100);
        let merged = paths.entry(PATH).or_default();
        merged.add_open(&OpenSnapshot {
            path: PATH,
            activations: 4,
            polls: 3,
            root: true,
        });
        assert_eq!(
            (merged.activations, merged.spans(), merged.calls()),
            (4, 1, 1)
        );
        assert_eq!(merged.open_root_activations, 4);
    }
}
