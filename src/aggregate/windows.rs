//! Operations over time, in windows of equal length.

use std::collections::HashMap;

use crate::model::{
    Ended, Nanos, PathId, PathProgress, PathTable, SiteId, SiteStats, Throughput, TickScale,
};

/// The length of a window at first; doubles as a run gets long. Twenty of them, which trends need, are one second.
const FIRST_WINDOW: Nanos = Nanos(50_000_000);
/// The most windows: six seconds by a twentieth, or a day by about a quarter of an hour.
const MAX_WINDOWS: usize = 120;

/// What each path had done at the end of each window.
#[derive(Debug)]
pub(super) struct Windows {
    window: Nanos,
    complete: usize,
    /// What was done until the end of each complete window, by path.
    ends: HashMap<PathId, Vec<Done>>,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            window: FIRST_WINDOW,
            complete: 0,
            ends: HashMap::new(),
        }
    }
}

/// What was done under a path up to some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Done {
    calls: u64,
    ended: Ended,
    /// `ended` are spans from open to close, not activations.
    spans: bool,
}

impl Done {
    fn of(progress: &PathProgress) -> Done {
        let spans = progress.spans.count > 0;
        Done {
            // Below zero where a span has closed on one thread and polls of it on another are not known yet.
            calls: u64::try_from(progress.calls).unwrap_or(0),
            ended: match spans {
                true => progress.spans,
                false => progress.activations,
            },
            spans,
        }
    }

    /// Returns what came since `before`.
    fn since(self, before: Done) -> Part {
        // Until the first span closed its polls were taken for operations.
        let ended = match before.spans == self.spans {
            true => before.ended,
            false => Ended::default(),
        };
        Part {
            calls: self.calls.saturating_sub(before.calls),
            ended: self.ended.since(ended),
        }
    }
}

/// What was done in one window.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    calls: u64,
    ended: Ended,
}

impl Windows {
    /// Returns how long a window is at present.
    pub(super) fn length(&self) -> Nanos {
        self.window
    }

    /// Closes the windows that have ended by `at`. Where several have, the last of them gets all operations, because
    /// nothing tells when in between they happened.
    pub(super) fn tick(&mut self, at: Nanos, progress: &HashMap<PathId, PathProgress>) {
        let ended = usize::try_from(at.0 / self.window.0).unwrap_or(usize::MAX);
        if ended <= self.complete {
            return;
        }
        let (window, windows) = fitting(self.window, ended);
        while self.window < window {
            self.halve();
        }
        for (&path, progress) in progress {
            let ends = self.ends.entry(path).or_default();
            // A path that is new stood at zero until now.
            let known = ends.last().copied().unwrap_or_default();
            ends.resize(windows.saturating_sub(1).max(ends.len()), known);
            if ends.len() < windows {
                ends.push(Done::of(progress));
            }
        }
        self.complete = windows;
    }

    /// Merges windows in pairs. An odd one at the end becomes a part of the next window.
    fn halve(&mut self) {
        self.window = Nanos(self.window.0.saturating_mul(2));
        self.complete /= 2;
        for ends in self.ends.values_mut() {
            let merged: Vec<Done> = ends.chunks_exact(2).map(|pair| pair[1]).collect();
            *ends = merged;
        }
    }

    /// Turns the counts into throughput, filling in each site's own.
    pub(super) fn finish(
        &self,
        wall: Nanos,
        scale: TickScale,
        progress: &HashMap<PathId, PathProgress>,
        paths: &PathTable,
        sites: &mut [SiteStats],
    ) -> Throughput {
        let seconds = wall.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let mut roots = Vec::new();
        let mut root_calls = 0;
        let mut by_site: HashMap<SiteId, Vec<Part>> = HashMap::new();
        for (&path, progress) in progress {
            let Some(&(parent, site)) = paths.nodes.get(path.0 as usize) else {
                continue;
            };
            let now = Done::of(progress);
            let parts = self.parts(path, now);
            if parent == PathId::ROOT {
                add(&mut roots, &parts);
                root_calls += now.calls;
            }
            add(by_site.entry(site).or_default(), &parts);
        }
        for row in sites {
            row.per_second = per_second(row.stats.calls);
            let parts = by_site.remove(&row.site.id).unwrap_or_default();
            row.per_window = parts.iter().map(|part| part.calls).collect();
            (row.ended_per_window, row.time_per_window) = ended(&parts, scale);
        }
        let (ended_per_window, time_per_window) = ended(&roots, scale);
        Throughput {
            per_second: per_second(root_calls),
            window: self.window,
            per_window: roots.iter().map(|part| part.calls).collect(),
            ended_per_window,
            time_per_window,
        }
    }

    /// Returns what was done under one path in each window; the last is the one under way.
    fn parts(&self, path: PathId, now: Done) -> Vec<Part> {
        let ends = self.ends.get(&path).map_or(&[][..], Vec::as_slice);
        let mut before = Done::default();
        let mut parts = Vec::with_capacity(self.complete + 1);
        for index in 0..self.complete {
            let mut end = ends.get(index).copied().unwrap_or(before);
            end.calls = end.calls.max(before.calls);
            if now.spans && !end.spans {
                // What is known by now to be async had ended nothing then.
                end.ended = Ended::default();
                end.spans = true;
            }
            parts.push(end.since(before));
            before = end;
        }
        parts.push(now.since(before));
        parts
    }
}

/// Returns how many operations ended in each window and how long they took.
fn ended(parts: &[Part], scale: TickScale) -> (Vec<u64>, Vec<Nanos>) {
    let parts = parts.iter().map(|part| part.ended);
    parts
        .map(|ended| (ended.count, scale.length(ended.ticks)))
        .unzip()
}

fn add(sums: &mut Vec<Part>, parts: &[Part]) {
    if sums.len() < parts.len() {
        sums.resize(parts.len(), Part::default());
    }
    for (sum, part) in sums.iter_mut().zip(parts) {
        sum.calls += part.calls;
        sum.ended.add(part.ended);
    }
}

/// Returns the window length, from `window` upwards, at which `ended` windows are few enough, and how many they are.
fn fitting(window: Nanos, ended: usize) -> (Nanos, usize) {
    let (mut window, mut ended) = (window, ended);
    while ended > MAX_WINDOWS {
        window = Nanos(window.0.saturating_mul(2));
        ended /= 2;
    }
    (window, ended)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;
    use crate::model::{Site, Stats};

    const PATH: PathId = PathId(1);
    const WINDOW: u64 = FIRST_WINDOW.0;

    fn paths() -> PathTable {
        let root = (PathId::ROOT, SiteId::OTHER);
        PathTable {
            nodes: vec![root, (PathId::ROOT, SiteId(1))],
        }
    }

    /// Plain operations, each of which took so many ticks as there were before it.
    fn calls(count: u64) -> HashMap<PathId, PathProgress> {
        let progress = PathProgress {
            calls: count.cast_signed(),
            activations: Ended {
                count,
                ticks: count * count.saturating_sub(1) / 2,
            },
            ..PathProgress::default()
        };
        HashMap::from([(PATH, progress)])
    }

    fn finish(windows: &Windows, count: u64) -> Throughput {
        finish_site(windows, &calls(count)).0
    }

    fn finish_site(
        windows: &Windows,
        progress: &HashMap<PathId, PathProgress>,
    ) -> (Throughput, SiteStats) {
        let site = Site::new(SiteId(1), "site", "app", None, None);
        let mut sites = [SiteStats::new(Arc::new(site), Stats::default())];
        let scale = TickScale::nanoseconds();
        let throughput = windows.finish(Nanos(WINDOW), scale, progress, &paths(), &mut sites);
        let [site] = sites;
        (throughput, site)
    }

    #[test]
    fn each_window_has_its_own_operations_and_the_last_is_under_way() {
        let mut windows = Windows::default();
        windows.tick(Nanos(WINDOW), &calls(10));
        windows.tick(Nanos(2 * WINDOW), &calls(15));
        let throughput = finish(&windows, 18);
        assert_eq!(throughput.window, FIRST_WINDOW);
        assert_eq!(throughput.per_window, [10, 5, 3]);
    }

    #[test]
    fn each_window_has_the_time_of_the_operations_that_ended_in_it() {
        let mut windows = Windows::default();
        windows.tick(Nanos(WINDOW), &calls(10));
        windows.tick(Nanos(2 * WINDOW), &calls(15));
        let (_, site) = finish_site(&windows, &calls(18));
        assert_eq!(site.ended_per_window, [10, 5, 3]);
        assert_eq!(
            site.time_per_window,
            [
                Nanos(45),
                Nanos(10 + 11 + 12 + 13 + 14),
                Nanos(15 + 16 + 17)
            ]
        );
    }

    /// Two spans are polled in the first window; one closes in the second, one now.
    #[test]
    fn polls_of_a_span_that_is_still_open_have_not_ended_as_operations() {
        let progress = |spans, ticks| {
            let progress = PathProgress {
                calls: 2,
                activations: Ended {
                    count: 7,
                    ticks: 70,
                },
                spans: Ended {
                    count: spans,
                    ticks,
                },
                longest: 0,
            };
            HashMap::from([(PATH, progress)])
        };
        let mut windows = Windows::default();
        windows.tick(Nanos(WINDOW), &progress(0, 0));
        windows.tick(Nanos(2 * WINDOW), &progress(1, 500));
        let (_, site) = finish_site(&windows, &progress(2, 1_200));
        assert_eq!(site.per_window, [2, 0, 0]);
        assert_eq!(site.ended_per_window, [0, 1, 1]);
        assert_eq!(site.time_per_window, [Nanos(0), Nanos(500), Nanos(700)]);
    }

    #[test]
    fn a_run_longer_than_all_windows_halves_them() {
        let mut windows = Windows::default();
        for window in 1..=MAX_WINDOWS as u64 + 1 {
            windows.tick(Nanos(window * WINDOW), &calls(window));
        }
        let throughput = finish(&windows, 121);
        assert_eq!(throughput.window, Nanos(2 * WINDOW));
        assert_eq!(throughput.per_window.len(), MAX_WINDOWS / 2 + 1);
        assert!(throughput.per_window[..60].iter().all(|&count| count == 2));
        assert_eq!(throughput.per_window[60], 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However the clock jumps, forward or back, no operation is lost or counted twice.
        #[test]
        fn the_windows_add_up_to_all_operations(
            ticks in prop::collection::vec((any::<u64>(), 0_u32..64, 0_u64..1000), 0..60),
        ) {
            let mut windows = Windows::default();
            let mut count = 0;
            for (at, shift, more) in ticks {
                count += more;
                windows.tick(Nanos(at >> shift), &calls(count));
                let (throughput, site) = finish_site(&windows, &calls(count));
                prop_assert_eq!(site.ended_per_window.iter().sum::<u64>(), count);
                prop_assert_eq!(throughput.per_window.iter().sum::<u64>(), count);
                prop_assert!(throughput.per_window.len() <= MAX_WINDOWS + 1);
            }
        }
    }
}
