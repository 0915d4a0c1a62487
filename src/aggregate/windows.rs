//! Operations over time, in windows of equal length.

use std::collections::HashMap;

use crate::model::{Nanos, PathId, PathTable, SiteId, SiteStats, Throughput};

/// The length of a window at first; doubles as a run gets long.
const FIRST_WINDOW: Nanos = Nanos(1_000_000_000);
/// The most windows: two minutes by the second, or a day by about twenty minutes.
const MAX_WINDOWS: usize = 120;

/// What each path had done at the end of each window.
#[derive(Debug)]
pub(super) struct Windows {
    window: Nanos,
    complete: usize,
    /// Cumulative operations at the end of each complete window, by path.
    ends: HashMap<PathId, Vec<u64>>,
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

impl Windows {
    /// Closes the windows that have ended by `at`. Where several have, the last of them gets all operations, because
    /// nothing tells when in between they happened.
    pub(super) fn tick(&mut self, at: Nanos, calls: &HashMap<PathId, u64>) {
        let ended = usize::try_from(at.0 / self.window.0).unwrap_or(usize::MAX);
        if ended <= self.complete {
            return;
        }
        let (window, windows) = fitting(self.window, ended);
        while self.window < window {
            self.halve();
        }
        for (&path, &count) in calls {
            let ends = self.ends.entry(path).or_default();
            // A path that is new stood at zero until now.
            let before = ends.last().copied().unwrap_or(0);
            let known = if ends.is_empty() { 0 } else { before };
            ends.resize(windows.saturating_sub(1).max(ends.len()), known);
            if ends.len() < windows {
                ends.push(count);
            }
        }
        self.complete = windows;
    }

    /// Merges windows in pairs. An odd one at the end becomes a part of the next window.
    fn halve(&mut self) {
        self.window = Nanos(self.window.0.saturating_mul(2));
        self.complete /= 2;
        for ends in self.ends.values_mut() {
            let merged: Vec<u64> = ends.chunks_exact(2).map(|pair| pair[1]).collect();
            *ends = merged;
        }
    }

    /// Turns the counts into throughput, filling in each site's own.
    pub(super) fn finish(
        &self,
        wall: Nanos,
        calls: &HashMap<PathId, u64>,
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
        let mut by_site: HashMap<SiteId, Vec<u64>> = HashMap::new();
        for (&path, &count) in calls {
            let Some(&(parent, site)) = paths.nodes.get(path.0 as usize) else {
                continue;
            };
            let windows = self.windows(path, count);
            if parent == PathId::ROOT {
                add(&mut roots, &windows);
                root_calls += count;
            }
            add(by_site.entry(site).or_default(), &windows);
        }
        for row in sites {
            row.per_second = per_second(row.stats.calls);
            row.per_window = by_site.remove(&row.site.id).unwrap_or_default();
        }
        Throughput {
            per_second: per_second(root_calls),
            window: self.window,
            per_window: roots,
        }
    }

    /// Operations of one path in each window; the last is the one under way.
    fn windows(&self, path: PathId, count: u64) -> Vec<u64> {
        let none = Vec::new();
        let ends = self.ends.get(&path).unwrap_or(&none);
        let mut before = 0;
        let mut windows = Vec::with_capacity(self.complete + 1);
        for index in 0..self.complete {
            let end = ends.get(index).copied().unwrap_or(before).max(before);
            windows.push(end - before);
            before = end;
        }
        windows.push(count.saturating_sub(before));
        windows
    }
}

fn add(sums: &mut Vec<u64>, windows: &[u64]) {
    if sums.len() < windows.len() {
        sums.resize(windows.len(), 0);
    }
    for (sum, count) in sums.iter_mut().zip(windows) {
        *sum += count;
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

    use super::*;
    use crate::model::Nanos;

    const PATH: PathId = PathId(1);
    const SECOND: u64 = 1_000_000_000;

    fn paths() -> PathTable {
        let root = (PathId::ROOT, SiteId::OTHER);
        PathTable {
            nodes: vec![root, (PathId::ROOT, SiteId(1))],
        }
    }

    fn calls(count: u64) -> HashMap<PathId, u64> {
        HashMap::from([(PATH, count)])
    }

    fn finish(windows: &Windows, count: u64) -> Throughput {
        windows.finish(Nanos(SECOND), &calls(count), &paths(), &mut [])
    }

    #[test]
    fn each_window_has_its_own_operations_and_the_last_is_under_way() {
        let mut windows = Windows::default();
        windows.tick(Nanos(SECOND), &calls(10));
        windows.tick(Nanos(2 * SECOND), &calls(15));
        let throughput = finish(&windows, 18);
        assert_eq!(throughput.window, FIRST_WINDOW);
        assert_eq!(throughput.per_window, [10, 5, 3]);
    }

    #[test]
    fn a_run_longer_than_all_windows_halves_them() {
        let mut windows = Windows::default();
        for second in 1..=MAX_WINDOWS as u64 + 1 {
            windows.tick(Nanos(second * SECOND), &calls(second));
        }
        let throughput = finish(&windows, 121);
        assert_eq!(throughput.window, Nanos(2 * SECOND));
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
                let throughput = finish(&windows, count);
                prop_assert_eq!(throughput.per_window.iter().sum::<u64>(), count);
                prop_assert!(throughput.per_window.len() <= MAX_WINDOWS + 1);
            }
        }
    }
}
