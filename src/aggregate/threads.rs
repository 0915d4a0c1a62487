//! One row per thread.

use std::collections::{BTreeSet, HashMap};

use crate::model::{CaptureSnapshot, PathId, SiteId, ThreadSightings, ThreadSnapshot, TickScale};
use crate::model::{SiteStats, ThreadStats};

/// Ended threads that keep a row of their own; a program that starts a thread per request has many.
const MAX_ENDED: usize = 256;

/// Rows of threads that have ended.
#[derive(Debug, Default)]
pub(super) struct Threads {
    ended: Vec<Row>,
    others: Option<ThreadStats>,
}

#[derive(Debug, Clone)]
struct Row {
    index: u32,
    stats: ThreadStats,
    /// The paths that the thread entered.
    paths: Vec<PathId>,
}

impl Threads {
    pub(super) fn take_ended(&mut self, thread: &ThreadSnapshot, scale: TickScale) {
        if !entered_spans(thread) {
            return;
        }
        let row = row(thread, thread.last, scale);
        if self.ended.len() < MAX_ENDED {
            self.ended.push(row);
            return;
        }
        let others = self.others.get_or_insert_with(|| ThreadStats {
            name: "(other)".to_owned(),
            ended: true,
            ..ThreadStats::default()
        });
        others.threads += 1;
        others.observed = others.observed.saturating_add(row.stats.observed);
        others.busy = others.busy.saturating_add(row.stats.busy);
        others.idle = others.idle.saturating_add(row.stats.idle);
        others.activations += row.stats.activations;
    }

    /// Returns all rows, the busiest first, and tells each async site on how many workers it was polled.
    pub(super) fn rows(
        &self,
        snapshot: &CaptureSnapshot,
        async_sites: &BTreeSet<SiteId>,
        sightings: &ThreadSightings,
        sites: &mut [SiteStats],
    ) -> Vec<ThreadStats> {
        let scale = snapshot.scale;
        let entered = snapshot.threads.iter().filter(|t| entered_spans(t));
        let live = entered.map(|thread| {
            let end = if thread.ended {
                thread.last
            } else {
                snapshot.now
            };
            row(thread, end, scale)
        });
        let mut workers: HashMap<SiteId, u32> = HashMap::new();
        let mut rows = Vec::new();
        for mut row in self.ended.iter().cloned().chain(live) {
            let table = &snapshot.paths.nodes;
            let polled: BTreeSet<SiteId> = row
                .paths
                .iter()
                .filter_map(|path| Some(table.get(path.0 as usize)?.1))
                .filter(|site| async_sites.contains(site))
                .collect();
            if polled.len() >= 2 {
                for &site in &polled {
                    *workers.entry(site).or_default() += 1;
                }
            }
            row.stats.async_sites = u32::try_from(polled.len()).unwrap_or(u32::MAX);
            row.stats.cpu = sightings.cpu.get(&row.index).copied();
            row.stats.run_queue = sightings.run_queue.get(&row.index).copied();
            rows.push(row.stats);
        }
        rows.extend(self.others.clone());
        rows.sort_by_key(|row| std::cmp::Reverse(row.busy));
        for site in sites {
            site.workers = workers.get(&site.site.id).copied().unwrap_or(0);
        }
        rows
    }
}

/// Whether the thread ever entered a span. One that only called a driver is known to the capture as well, and its time
/// is no time in which spans could have been.
fn entered_spans(thread: &ThreadSnapshot) -> bool {
    thread.busy > 0 || !thread.nodes.is_empty() || !thread.frames.is_empty()
}

fn row(thread: &ThreadSnapshot, end: u64, scale: TickScale) -> Row {
    // The frames that go on are the outermost's time; what is inside is part of it.
    let going_on = thread
        .frames
        .first()
        .map_or(0, |frame| end.saturating_sub(frame.entered));
    let busy = scale.length(thread.busy.saturating_add(going_on));
    let observed = scale.length(end.saturating_sub(thread.first)).max(busy);
    let finished: u64 = thread
        .nodes
        .iter()
        .flat_map(|node| node.activation.buckets.iter().map(|bucket| bucket.2))
        .sum();
    let name = thread.thread.name.as_deref();
    let stats = ThreadStats {
        name: name.map_or_else(|| format!("thread-{}", thread.thread.index), str::to_owned),
        tid: thread.thread.os_id,
        threads: 1,
        ended: thread.ended,
        observed,
        busy,
        idle: observed.saturating_sub(busy),
        activations: finished + thread.frames.len() as u64,
        ..ThreadStats::default()
    };
    let entered = thread.nodes.iter().map(|node| node.path);
    Row {
        index: thread.thread.index,
        stats,
        paths: entered.collect(),
    }
}
