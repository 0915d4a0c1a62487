//! The one sentence that answers "where did the time go".

use crate::diagnose::board::{Found, HeldBack};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::wording::percent;
use crate::model::{Nanos, SiteStats};

/// From this part on, waiting or code without spans is the larger part of the picture.
const LARGER_PART: f64 = 0.5;

/// Answers with the first finding that can be acted on, or with the profile's shape.
pub(crate) fn compose(
    evidence: &Evidence<'_>,
    leading: Option<&Found>,
    held_back: &[HeldBack],
) -> String {
    let profile = evidence.profile;
    if profile.sites.iter().all(|row| row.stats.activations == 0) {
        return format!(
            "No span was recorded in {}: a filter dropped them, the layer was installed too late, or the program has no spans.",
            profile.wall
        );
    }
    if evidence.too_short() {
        return format!(
            "The run took {}, too short to say what is slow: {} are needed.",
            evidence.whole.length(),
            Nanos::from(evidence.thresholds.min_run)
        );
    }
    if let Some(found) = leading {
        return match waiting(evidence) {
            Some(waiting) => format!("{}; {waiting}.", found.lead.trim_end_matches('.')),
            None => found.lead.clone(),
        };
    }
    let uncovered = profile.split.uncovered.share_of(profile.split.thread_time);
    if uncovered > evidence.thresholds.uninstrumented_share {
        return format!(
            "{} of {} is outside all spans: add `#[instrument]` to what runs there.",
            percent(uncovered.min(1.0)),
            evidence.scope.observed()
        );
    }
    shape(evidence, held_back)
}

/// Says which site has the most self time, and whether that is known to be no problem.
fn shape(evidence: &Evidence<'_>, held_back: &[HeldBack]) -> String {
    let waiting = waiting(evidence);
    let top = evidence.sites().max_by_key(|row| row.stats.self_time);
    let Some(top) = top.filter(|row| row.stats.self_time > Nanos::ZERO) else {
        return match waiting {
            Some(waiting) => format!("No time is in the spans themselves; {waiting}."),
            None => "The spans that were recorded took no time.".to_owned(),
        };
    };
    let unsure = held_back.iter().any(|held| held.site == top.site.name);
    let most = most_self_time(evidence, top);
    match (unsure, waiting) {
        (_, Some(waiting)) => format!("{most}; {waiting}."),
        (true, None) => format!("{most}; there is not enough data to say whether it is a problem."),
        (false, None) => format!("Nothing stands out: {most}."),
    }
}

fn most_self_time(evidence: &Evidence<'_>, row: &SiteStats) -> String {
    format!(
        "`{}` has the most self time, {} of {} ({})",
        row.site.name,
        percent(evidence.share(row.stats.self_time)),
        evidence.scope.words(),
        row.stats.self_time
    )
}

/// Says so if async spans mostly wait between polls, or if threads mostly wait inside spans.
fn waiting(evidence: &Evidence<'_>) -> Option<String> {
    let (idle, latency) = outermost_async(evidence);
    let share = idle.share_of(latency).min(1.0);
    if share > LARGER_PART {
        return Some(format!(
            "{} of the async spans' latency is waiting between polls",
            percent(share)
        ));
    }
    let split = &evidence.profile.split;
    let share = split.waiting?.share_of(split.busy).min(1.0);
    (share > LARGER_PART).then(|| {
        format!(
            "for {} of the time inside spans the thread was not on a CPU",
            percent(share)
        )
    })
}

/// Returns the idle time and the latency of async paths that are in no other async path.
fn outermost_async(evidence: &Evidence<'_>) -> (Nanos, Nanos) {
    let paths = &evidence.profile.paths;
    // A parent stands before its child, so one pass in order knows what is above each.
    let mut inside = vec![false; paths.len()];
    let (mut idle, mut latency) = (Nanos::ZERO, Nanos::ZERO);
    for (index, path) in paths.iter().enumerate() {
        let above = evidence.parent(index).is_some_and(|parent| inside[parent]);
        inside[index] = above || path.stats.is_async();
        if let (false, Some(own)) = (above, &path.stats.latency) {
            idle = idle.saturating_add(path.stats.idle.unwrap_or_default());
            latency = latency.saturating_add(own.sum);
        }
    }
    (idle, latency)
}
