//! How long the async spans took that are in no other one, and how much of that was waiting.

use crate::diagnose::evidence::Evidence;
use crate::model::Nanos;

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
        sum
    }
}
