//! When operations were slow: the buckets above a limit, counted at every look.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::model::{
    Ended, Nanos, PathId, PathProgress, PathSpread, PathTable, SiteId, SiteStats, SlowMoment,
    SlowOperations, TickScale, buckets,
};

/// Operations before their quartiles are believed: at first roughly, and anew with four times as many.
const FEWEST: u64 = 50;
/// The longest operation is so many times the mean where a path is worth watching.
const FAR: u64 = 4;
/// A slow operation takes at least so much longer than the upper quartile.
const LEAST_EXCESS: Nanos = Nanos(1_000_000);
/// Paths that are watched at most. Each costs some hundred loads at a look.
const MAX_WATCHED: usize = 32;
/// Moments that a path keeps.
const MAX_MOMENTS: usize = 256;
/// Once there are so many times the operations, the limit is set anew.
const ANEW: u64 = 4;

/// The paths with operations that are far slower than most.
#[derive(Debug, Default)]
pub(super) struct Slow {
    paths: HashMap<PathId, Watched>,
    looked: Nanos,
}

#[derive(Debug, Default)]
struct Watched {
    /// In ticks.
    limit: u64,
    /// How many operations there were when the limit was set.
    known: u64,
    /// Operations above the limit so far; `None` before the first look at them.
    counted: Option<u64>,
    moments: Vec<SlowMoment>,
}

impl Slow {
    /// Returns whose quartiles are wanted: paths with a far longer operation than most, and with many more operations
    /// than when their limit was set; each with the page of buckets to begin at.
    pub(super) fn wanted(
        &self,
        progress: &HashMap<PathId, PathProgress>,
        scale: TickScale,
    ) -> HashMap<PathId, usize> {
        let worth = |path: &PathProgress| {
            let Ended { count, ticks } = operations(path);
            let mean = ticks / count.max(1);
            let excess = scale.length(path.longest.saturating_sub(mean));
            count >= FEWEST && path.longest / FAR >= mean && excess >= LEAST_EXCESS
        };
        let mut wanted: HashMap<PathId, usize> = HashMap::new();
        let mut new: Vec<(Reverse<u64>, PathId)> = Vec::new();
        for (&path, progress) in progress {
            match self.paths.get(&path) {
                Some(watched) if operations(progress).count / ANEW >= watched.known => {
                    wanted.insert(path, 0);
                }
                None if worth(progress) => new.push((Reverse(progress.longest), path)),
                _ => {}
            }
        }
        // Those with the longest first, whatever the order of the map.
        new.sort_unstable();
        let room = MAX_WATCHED.saturating_sub(self.paths.len());
        wanted.extend(new.into_iter().take(room).map(|(_, path)| (path, 0)));
        wanted
    }

    /// Sets limits by what [`Slow::wanted`] asked for.
    pub(super) fn set_limits(&mut self, spread: HashMap<PathId, PathSpread>, scale: TickScale) {
        let ticks_per_ns = (1_u64 << 32) as f64 / scale.nanos_per_4g_ticks.max(1) as f64;
        let excess = (LEAST_EXCESS.0 as f64 * ticks_per_ns) as u64;
        for (path, spread) in spread {
            let mut filled = spread.operations().to_vec();
            filled.sort_unstable();
            let known: u64 = filled.iter().map(|bucket| bucket.2).sum();
            if known < FEWEST {
                continue;
            }
            let quartile = |number: u64| {
                let mut below = 0;
                let bucket = filled.iter().find(|bucket| {
                    below += bucket.2;
                    below.saturating_mul(4) >= known.saturating_mul(number)
                });
                bucket.map_or(0, |&(page, place, _)| {
                    buckets::middle(page.into(), place.into())
                })
            };
            let (lower, upper) = (quartile(1), quartile(3));
            let fence = upper.saturating_add(3 * (upper - lower));
            let watched = self.paths.entry(path).or_default();
            watched.limit = fence.max(upper.saturating_add(excess));
            watched.known = known;
            watched.counted = None;
        }
    }

    /// Returns which paths to look at, each from the page of its limit on.
    pub(super) fn watched(&self) -> HashMap<PathId, usize> {
        let page = |watched: &Watched| buckets::locate(watched.limit.min(buckets::MAX)).0;
        let paths = self.paths.iter();
        paths
            .map(|(&path, watched)| (path, page(watched)))
            .collect()
    }

    /// Notes which of them have seen slow operations since the last look.
    pub(super) fn look(&mut self, at: Nanos, spread: &HashMap<PathId, PathSpread>) {
        for (path, watched) in &mut self.paths {
            let limit = buckets::locate(watched.limit.min(buckets::MAX));
            let above: u64 = spread.get(path).map_or(0, |spread| {
                let filled = spread.operations().iter();
                let above = filled
                    .filter(|(page, place, _)| (usize::from(*page), usize::from(*place)) > limit);
                above.map(|bucket| bucket.2).sum()
            });
            // Fewer than before where a thread has ended.
            let new = above.saturating_sub(watched.counted.unwrap_or(above));
            watched.counted = Some(above);
            if new > 0 && at > self.looked {
                if watched.moments.len() >= MAX_MOMENTS {
                    watched.moments.remove(0);
                }
                watched.moments.push(SlowMoment {
                    from: self.looked,
                    to: at,
                    count: new,
                });
            }
        }
        self.looked = at;
    }

    /// Fills in each site's moments; of a site with several paths those of the one with the most.
    pub(super) fn fill_in(&self, paths: &PathTable, scale: TickScale, sites: &mut [SiteStats]) {
        let mut by_site: HashMap<SiteId, (usize, Reverse<PathId>)> = HashMap::new();
        for (&path, watched) in &self.paths {
            if let Some(&(_, site)) = paths.nodes.get(path.0 as usize) {
                let rank = (watched.moments.len(), Reverse(path));
                let best = by_site.entry(site).or_insert(rank);
                *best = rank.max(*best);
            }
        }
        for row in sites {
            let best = by_site.get(&row.site.id);
            let watched = best.and_then(|(_, path)| self.paths.get(&path.0));
            row.slow = watched
                .filter(|watched| !watched.moments.is_empty())
                .map(|watched| {
                    SlowOperations::new(scale.length(watched.limit), watched.moments.clone())
                });
        }
    }
}

fn operations(progress: &PathProgress) -> Ended {
    match progress.spans.count > 0 {
        true => progress.spans,
        false => progress.activations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: PathId = PathId(1);
    const MS: u64 = 1_000_000;

    fn spread(values: &[(u64, u64)]) -> HashMap<PathId, PathSpread> {
        let buckets = values.iter().map(|&(value, count)| {
            let (page, place) = buckets::locate(value);
            (page as u8, place as u8, count)
        });
        let spread = PathSpread {
            activations: buckets.collect(),
            spans: Vec::new(),
        };
        HashMap::from([(PATH, spread)])
    }

    #[test]
    fn only_paths_with_far_slower_operations_are_watched() {
        let slow = Slow::default();
        let wanted = |count: u64, longest| {
            let progress = PathProgress {
                activations: Ended {
                    count,
                    ticks: count * MS,
                },
                longest,
                ..PathProgress::default()
            };
            let progress = HashMap::from([(PATH, progress)]);
            slow.wanted(&progress, TickScale::nanoseconds()).len()
        };
        assert_eq!(wanted(FEWEST, 5 * MS), 1);
        assert_eq!(wanted(FEWEST - 1, 5 * MS), 0, "too few operations");
        assert_eq!(wanted(FEWEST, 3 * MS), 0, "not far enough from the mean");
    }

    #[test]
    fn slow_operations_are_noted_between_the_looks_that_saw_them_end() {
        let mut slow = Slow::default();
        let known = spread(&[(MS, 300), (20 * MS, 1)]);
        slow.set_limits(known.clone(), TickScale::nanoseconds());
        slow.look(Nanos(100), &known);
        slow.look(Nanos(200), &spread(&[(MS, 340), (20 * MS, 1)]));
        slow.look(
            Nanos(300),
            &spread(&[(MS, 350), (20 * MS, 2), (40 * MS, 1)]),
        );
        // A thread has ended and took its counts with it.
        slow.look(Nanos(400), &spread(&[(MS, 10)]));
        slow.look(Nanos(500), &spread(&[(MS, 10), (20 * MS, 1)]));
        let moments = [(200, 300, 2), (400, 500, 1)].map(|(from, to, count)| SlowMoment {
            from: Nanos(from),
            to: Nanos(to),
            count,
        });
        assert_eq!(slow.paths[&PATH].moments, moments);
    }
}
