//! When a device did nothing at all, on any stream, and how busy it was over time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::stream::KERNEL_PAUSE;
use crate::model::{GpuApi, GpuCall, GpuKind, GpuPause, GpuPauses, GpuWork, Nanos, SiteId};

/// Pieces of work that a device keeps in case that an earlier one comes, about 1 MiB.
const PIECES: usize = 16_384;

/// Pauses that a device keeps, 1 MiB.
const MAX_PAUSES: usize = 32_768;

/// Windows of busy time, and the length of one at first.
const MAX_WINDOWS: usize = 256;
const FIRST_WINDOW: u64 = 1_000_000;

/// Waits that a thread keeps, and threads that keep some: 24 MiB if all are full. The driver tells of work up to a
/// quarter of a second after the calls.
const MAX_WAITS: usize = 16_384;
const MAX_THREADS: usize = 64;

/// How far the device's clock may be off the host's where one is computed from the other.
const CLOCK_ERROR: u64 = 10_000;

/// When threads waited for devices.
#[derive(Debug, Default)]
pub(super) struct Waits(HashMap<u32, VecDeque<Wait>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    start: u64,
    end: u64,
    site: SiteId,
}

impl Waits {
    /// Takes a call; those of one thread by rising start.
    pub(super) fn add(&mut self, call: &GpuCall) {
        let (GpuApi::Synchronize, Some(end)) = (call.api, call.end) else {
            return;
        };
        let thread = call.thread.index;
        if self.0.len() >= MAX_THREADS && !self.0.contains_key(&thread) {
            // The thread that has not waited for the longest time.
            let last = |(_, waits): &(&u32, &VecDeque<Wait>)| waits.back().map(|wait| wait.end);
            let oldest = self.0.iter().min_by_key(last).map(|(&thread, _)| thread);
            oldest.and_then(|thread| self.0.remove(&thread));
        }
        let waits = self.0.entry(thread).or_default();
        if waits.len() >= MAX_WAITS {
            waits.pop_front();
        }
        let caller = call.caller.as_ref();
        waits.push_back(Wait {
            start: call.start.0,
            end: end.0,
            site: caller.map_or(SiteId::OTHER, |caller| caller.site.id),
        });
    }

    /// Returns the last wait of the thread before a call.
    fn before(&self, call: &GpuCall) -> Option<Wait> {
        let waits = self.0.get(&call.thread.index)?;
        let at = waits.partition_point(|wait| wait.end <= call.start.0);
        waits.get(at.checked_sub(1)?).copied()
    }
}

/// The work of one device in the order of its begin.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The newest, by begin and arrival.
    kept: BTreeMap<(Nanos, u64), Piece>,
    arrivals: u64,
    folded: Walk,
    floor: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    end: u64,
    /// When it was launched.
    launched: Option<u64>,
    /// What its thread had waited for before that.
    wait: Option<Wait>,
}

impl Pauses {
    pub(super) fn add(&mut self, work: &GpuWork, waits: &Waits) {
        if matches!(work.kind, GpuKind::Range { .. }) || work.start < self.floor {
            return;
        }
        let call = work.call.as_deref();
        let piece = Piece {
            start: work.start.0,
            end: work.end.0,
            launched: call.map(|call| call.start.0),
            wait: call.and_then(|call| waits.before(call)),
        };
        self.arrivals += 1;
        self.kept.insert((work.start, self.arrivals), piece);
        if self.kept.len() > PIECES {
            while self.kept.len() > PIECES / 2
                && let Some((_, piece)) = self.kept.pop_first()
            {
                self.folded.step(piece);
                self.floor = Nanos(piece.start);
            }
        }
    }

    pub(super) fn summed_up(&self) -> GpuPauses {
        let mut walk = self.folded.clone();
        self.kept.values().for_each(|&piece| walk.step(piece));
        GpuPauses {
            began: Nanos(walk.began.unwrap_or(0)),
            window: Nanos(walk.busy.window),
            busy: walk.busy.busy.iter().copied().map(Nanos).collect(),
            pauses: walk.pauses.into(),
            since: walk.since.or(walk.began.map(Nanos)).unwrap_or_default(),
        }
    }
}

/// Everything up to a piece of work.
#[derive(Debug, Clone, Default)]
struct Walk {
    began: Option<u64>,
    /// When all work so far has ended.
    until: u64,
    busy: Windows,
    pauses: VecDeque<GpuPause>,
    /// The end of the newest pause that is kept no more.
    since: Option<Nanos>,
}

impl Walk {
    fn step(&mut self, piece: Piece) {
        let Some(began) = self.began else {
            self.began = Some(piece.start);
            self.until = piece.end;
            self.busy.add(0, piece.end - piece.start);
            return;
        };
        if piece.start > self.until {
            self.pause(piece);
        }
        let from = piece.start.max(self.until);
        if piece.end > from {
            self.busy.add(from - began, piece.end - began);
            self.until = piece.end;
        }
    }

    fn pause(&mut self, next: Piece) {
        let start = self.until;
        let host = next.launched.is_some_and(|launched| launched > start);
        if !host && next.start - start < KERNEL_PAUSE.0 {
            return;
        }
        let waited = |wait: &Wait| wait.start <= start && wait.end + CLOCK_ERROR >= start;
        self.pauses.push_back(GpuPause {
            start: Nanos(start),
            end: Nanos(next.start),
            host,
            after_wait: next.wait.filter(|_| host).filter(waited).map(|w| w.site),
        });
        if self.pauses.len() > MAX_PAUSES
            && let Some(oldest) = self.pauses.pop_front()
        {
            self.since = Some(oldest.end);
        }
    }
}

/// Busy time over time, since the first work.
#[derive(Debug, Clone)]
struct Windows {
    window: u64,
    busy: Vec<u64>,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            window: FIRST_WINDOW,
            busy: Vec::new(),
        }
    }
}

impl Windows {
    fn add(&mut self, mut start: u64, end: u64) {
        while end.div_ceil(self.window) > MAX_WINDOWS as u64 {
            self.window = self.window.saturating_mul(2);
            let pairs = self.busy.chunks(2).map(|pair| pair.iter().sum());
            self.busy = pairs.collect();
        }
        while start < end {
            let at = start / self.window;
            let until = end.min((at + 1) * self.window);
            let at = at as usize;
            if self.busy.len() <= at {
                self.busy.resize(at + 1, 0);
            }
            self.busy[at] += until - start;
            start = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{kernel, launch};
    use super::*;

    fn wait(start: u64, end: u64) -> GpuCall {
        GpuCall {
            api: GpuApi::Synchronize,
            ..launch(1, start, end)
        }
    }

    /// Work on a stream of its own each, that was launched at the first of three times.
    fn pauses(work: &[(u64, u64, u64)], waits: &[(u64, u64)]) -> GpuPauses {
        let mut seen = Waits::default();
        for &(start, end) in waits {
            seen.add(&wait(start, end));
        }
        let mut pauses = Pauses::default();
        for (at, &(launched, start, end)) in work.iter().enumerate() {
            let mut work = kernel(at as u32, start, end);
            work.call = Some(Arc::new(launch(at as u32, launched, launched + 5)));
            pauses.add(&work, &seen);
        }
        pauses.summed_up()
    }

    #[test]
    fn a_pause_is_where_no_stream_works_and_says_whose_wait_went_before() {
        let ms = 1_000_000;
        let seen = pauses(
            &[
                (0, ms, 4 * ms),
                (0, 2 * ms, 3 * ms),
                // Launched after a wait for both.
                (5 * ms, 6 * ms, 7 * ms),
                // After a wait for something that had ended long before.
                (9 * ms, 10 * ms, 11 * ms),
                // In time; the device came to it late.
                (9 * ms, 12 * ms, 13 * ms),
            ],
            &[(ms, 4 * ms + 3), (8 * ms, 8 * ms + 1)],
        );
        let told: Vec<_> = seen
            .pauses
            .iter()
            .map(|pause| {
                let (start, end) = (pause.start.0 / ms, pause.end.0 / ms);
                (start, end, pause.host, pause.after_wait.is_some())
            })
            .collect();
        assert_eq!(
            told,
            [
                (4, 6, true, true),
                (7, 10, true, false),
                (11, 12, false, false)
            ]
        );
        assert_eq!((seen.began, seen.since), (Nanos(ms), Nanos(ms)));
        let busy: Vec<_> = seen.busy.iter().map(|busy| busy.0 / ms).collect();
        assert_eq!(busy, [1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn a_usual_pause_between_two_kernels_is_none() {
        let seen = pauses(&[(0, 10, 20), (1, 20_000, 30_000)], &[]);
        assert_eq!(seen.pauses, []);
    }

    #[test]
    fn memory_is_bounded_and_says_what_it_lacks() {
        let mut pauses = Pauses::default();
        let waits = Waits::default();
        let many = (MAX_PAUSES + PIECES) as u64;
        for at in 0..many {
            let mut work = kernel(7, at * 100_000, at * 100_000 + 50_000);
            work.call = Some(Arc::new(launch(at as u32, at * 100_000, at * 100_000)));
            pauses.add(&work, &waits);
        }
        assert!(pauses.kept.len() <= PIECES);
        let seen = pauses.summed_up();
        assert_eq!(seen.pauses.len(), MAX_PAUSES);
        assert_eq!(seen.since, Nanos((many - 1 - MAX_PAUSES as u64) * 100_000));
        assert!(seen.busy.len() <= MAX_WINDOWS);
        let busy: Nanos = seen.busy.iter().copied().sum();
        assert_eq!(busy, Nanos(many * 50_000));

        let mut waits = Waits::default();
        for thread in 0..2 * MAX_THREADS as u32 {
            let mut call = wait(u64::from(thread), u64::from(thread) + 1);
            call.thread.index = thread;
            waits.add(&call);
        }
        assert_eq!(waits.0.len(), MAX_THREADS);
        assert!(waits.0.contains_key(&(2 * MAX_THREADS as u32 - 1)));
    }
}
