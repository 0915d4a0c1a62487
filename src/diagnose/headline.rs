//! The one sentence that answers "where did the time go".

use crate::diagnose::board::{Found, HeldBack};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::outermost::OutermostAsync;
use crate::diagnose::wording::percent;
use crate::model::{Nanos, Severity, SiteStats};

/// From this part on, waiting or code without spans is the larger part of the picture.
const LARGER_PART: f64 = 0.5;

/// From this part of their time on, a runtime's workers are what its tasks wait for.
const ALL_TAKEN: f64 = 0.9;

/// Answers with the first finding that can be acted on, or with the time outside all spans, or with the profile's shape.
pub(crate) fn compose(
    evidence: &Evidence<'_>,
    leading: Option<&Found>,
    outside: Option<&Found>,
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
            profile.wall,
            Nanos::from(evidence.thresholds.min_run)
        );
    }
    if let Some(found) = leading {
        let mut parts = vec![found.lead.trim_end_matches('.').to_owned()];
        parts.extend(waiting(evidence));
        parts.extend(evidence.starved().map(|got| {
            format!("more threads wanted a core than there were: the process got {got} of CPU time")
        }));
        let minor = found.finding.severity <= Severity::Low;
        let nothing = minor.then(|| format!("{} ", nothing_to_fix(evidence, ".")));
        return format!("{}{}.", nothing.unwrap_or_default(), parts.join("; "));
    }
    if let Some(outside) = outside {
        return outside.lead.clone();
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
    if let Sampled::Enough(share, _) = evidence.running(&top.stats)
        && share < evidence.thresholds.on_cpu_share
        && evidence.share(top.stats.self_time) >= evidence.thresholds.hot_share
    {
        return format!(
            "`{}` takes {} of {} ({}) and mostly waits: it was on a CPU in {} of the samples.",
            top.site.name,
            percent(evidence.share(top.stats.self_time)),
            evidence.scope.words(),
            top.stats.self_time,
            percent(share)
        );
    }
    let unsure = held_back.iter().any(|held| held.site == top.site.name);
    let most = most_self_time(evidence, top);
    match (unsure, waiting) {
        (true, Some(waiting)) => format!("{}; {most}.", capitalised(&waiting)),
        (false, Some(waiting)) => {
            let rest = nothing_to_fix(evidence, ".").to_lowercase();
            format!("{}; {most}; beyond that {rest}", capitalised(&waiting))
        }
        (true, None) => format!("{most}; there is not enough data to say whether it is a problem."),
        (false, None) => format!("{} {most}.", nothing_to_fix(evidence, ":")),
    }
}

/// Says that no finding promises more than what makes it medium.
fn nothing_to_fix(evidence: &Evidence<'_>, end: &str) -> String {
    let share = percent(evidence.thresholds.medium_share);
    format!("Nothing to fix above {share}{end}")
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
    let outer = OutermostAsync::of(evidence);
    let share = outer.waiting.share_of(outer.latency).min(1.0);
    if share > LARGER_PART {
        let share = percent(share);
        if let Some(busy) = evidence.busy_workers().filter(|&busy| busy >= ALL_TAKEN) {
            return Some(format!(
                "the async runtime's workers were busy for {} of the time, so tasks waited for them",
                percent(busy)
            ));
        }
        return Some(if outer.elsewhere == Nanos::ZERO {
            let place = outer
                .longest
                .map_or(String::new(), |site| format!(", most of it in `{site}`"));
            format!("{share} of the async spans' latency is waiting between polls{place}")
        } else {
            format!("for at least {share} of the async spans' latency nothing inside them ran")
        });
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

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
