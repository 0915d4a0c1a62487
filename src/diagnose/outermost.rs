//! How long the async spans took that are in no other one, and how much of that was waiting.

use std::collections::BTreeMap;

use crate::diagnose::evidence::Evidence;
use crate::model::{Nanos, SiteId};

/// The async paths that are in no other async path, together.
#[derive(Debug, Default)]
pub(crate) struct OutermostAsync {
    pub(crate) latency: Nanos,
    /// Between polls.
    pub(crate) idle: Nanos,
    /// What spans inside did while the outer span was not polled: its tasks on other threads.
    pub(crate) elsewhere: Nanos,
    /// The least time in which neither the span was polled nor anything inside it ran.
    pub(crate) waiting: Nanos,
    /// The site that waits for most of `idle`, not counting what async spans inside it take.
    pub(crate) longest: Option<&'static str>,
}

impl OutermostAsync {
    pub(crate) fn of(evidence: &Evidence<'_>) -> OutermostAsync {
        let paths = &evidence.profile.paths;
        // A parent stands before its child: one pass backwards knows what is below each path, one forwards what is above.
        let mut below = vec![Nanos::ZERO; paths.len()];
        for (index, path) in paths.iter().enumerate().rev() {
            if let Some(parent) = evidence.parent(index) {
                let inside = path.stats.self_time.saturating_add(below[index]);
                below[parent] = below[parent].saturating_add(inside);
            }
        }
        let mut inside = vec![false; paths.len()];
        let mut sum = OutermostAsync::default();
        for (index, path) in paths.iter().enumerate() {
            let stats = &path.stats;
            let above = evidence.parent(index).is_some_and(|parent| inside[parent]);
            inside[index] = above || stats.is_async();
            if let (false, Some(latency)) = (above, &stats.latency) {
                let in_polls = stats.busy.saturating_sub(stats.self_time);
                let elsewhere = below[index].saturating_sub(in_polls);
                let idle = stats.idle.unwrap_or_default();
                sum.latency = sum.latency.saturating_add(latency.sum);
                sum.idle = sum.idle.saturating_add(idle);
                sum.elsewhere = sum.elsewhere.saturating_add(elsewhere);
                sum.waiting = sum.waiting.saturating_add(idle.saturating_sub(elsewhere));
            }
        }
        sum.longest = longest_wait(evidence, sum.idle);
        sum
    }
}

/// Returns the site with at least half of the waiting, if there is one.
fn longest_wait(evidence: &Evidence<'_>, idle: Nanos) -> Option<&'static str> {
    let mut waits: BTreeMap<SiteId, (Nanos, &'static str)> = BTreeMap::new();
    for (index, path) in evidence.profile.paths.iter().enumerate() {
        let children = evidence.children(index).iter();
        let inside: Nanos = children
            .filter_map(|&child| evidence.path(child).stats.latency.as_ref())
            .map(|latency| latency.sum)
            .sum();
        let own = path.stats.idle.unwrap_or_default().saturating_sub(inside);
        let wait = waits
            .entry(path.site.id)
            .or_insert((Nanos::ZERO, path.site.name));
        wait.0 = wait.0.saturating_add(own);
    }
    let (wait, site) = waits.into_values().max_by_key(|(wait, _)| *wait)?;
    (wait.share_of(idle) >= 0.5).then_some(site)
}
