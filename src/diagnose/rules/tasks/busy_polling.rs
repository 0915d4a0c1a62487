//! CTX105: a task is polled again at once, over and over: it spins instead of waiting.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, CpuTime, Nanos, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX105",
    name: "busy-polling",
    healthy: "no task is polled in vain",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let notify = std::sync::Arc::new(tokio::sync::Notify::new());
notify.notified().await; // instead of loop { yield_now().await }
";

/// How a site's spans are polled.
#[derive(Debug, Clone, Copy)]
struct Spin {
    polls: u64,
    /// The median.
    poll: Nanos,
    /// On average from the start of a poll to that of the next.
    period: Nanos,
    /// Time in which nothing but this went on, one task on one thread.
    burned: Nanos,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: evidence.sites().any(|row| row.stats.is_async()),
        ..Outcome::default()
    };
    for row in evidence.sites() {
        let Some(spin) = Spin::of(evidence, row) else {
            continue;
        };
        if polls_others(evidence, row) {
            continue;
        }
        outcome.claims.push(Claim {
            site: row.site.id,
            time: row.stats.self_time,
        });
        outcome.found.push(found(evidence, row, spin));
    }
    outcome
}

impl Spin {
    fn of(evidence: &Evidence<'_>, row: &SiteStats) -> Option<Spin> {
        let thresholds = &evidence.thresholds.tasks;
        let stats = &row.stats;
        let latency = stats.latency.as_ref()?;
        // Dropping an instrumented future enters once more.
        let polls = stats.activations.saturating_sub(stats.spans);
        let spans = stats.spans.max(1);
        if polls / spans < thresholds.spin_polls || polls == 0 {
            return None;
        }
        let open = latency.sum.max(stats.busy);
        // A few polls that lost their core say nothing of the others; and where many do, all takes longer.
        let poll = stats.activation.quantiles.p50;
        let had_core = evidence.measured(stats).map_or(1.0, CpuTime::share);
        let had_core = had_core.max(evidence.thresholds.on_cpu_share);
        let period = Nanos(open.0 / polls);
        let at_once = period.0 as f64 * had_core < Nanos::from(thresholds.spin_period).0 as f64;
        let burned = match evidence.profile.process.cpu {
            Some(cpu) => open.min(cpu),
            None => open.min(evidence.worker_time()),
        };
        // A poll that found work may be followed by the next at once.
        let tiny = poll < Nanos::from(thresholds.spin_poll);
        let busy = burned.share_of(open.min(evidence.worker_time())) >= thresholds.spin_cpu;
        (tiny && at_once && busy).then_some(Spin {
            polls,
            poll,
            period,
            burned,
        })
    }
}

/// Whether spans inside are what is polled, or what is done in each poll.
fn polls_others(evidence: &Evidence<'_>, row: &SiteStats) -> bool {
    let inside: u64 = (0..evidence.profile.paths.len())
        .filter(|&index| evidence.path(index).site.id == row.site.id)
        .flat_map(|index| evidence.children(index))
        .map(|&child| evidence.path(child))
        .filter(|child| child.site.id != row.site.id)
        .fold(0, |sum, child| sum.saturating_add(child.stats.activations));
    inside >= row.stats.activations / 2
}

fn found(evidence: &Evidence<'_>, row: &SiteStats, spin: Spin) -> Found {
    let mut finding = RULE.about(&row.site);
    let of = evidence.profile.process.cpu;
    let share = spin
        .burned
        .share_of(of.unwrap_or(evidence.worker_time()))
        .min(1.0);
    finding.severity = ladder(share, evidence.thresholds);
    // Who woke it is not known: a queue that is fed that fast looks the same.
    finding.confidence = Confidence::Medium;
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("polls", spin.polls as f64),
        ("spans", row.stats.spans as f64),
        ("poll_ns", spin.poll.0 as f64),
        ("period_ns", spin.period.0 as f64),
        ("burned_ns", spin.burned.0 as f64),
    ]);
    let site = row.site.name;
    let lead = format!(
        "`{site}` was polled {} times, every {} on average and for {} (median): it spins instead of waiting.",
        spin.polls, spin.period, spin.poll
    );
    finding.message = format!(
        "{lead} While it was open it kept a worker busy; that is {} of {}.",
        wording::percent(share),
        match of {
            Some(_) => "the process's CPU time",
            None => "the workers' time",
        }
    );
    finding.recommendation = format!(
        "Let `{site}` wait for what it looks for: a `Notify`, a channel, a timer. A future that returns `Pending` must \
         not wake itself. If a queue really is filled that fast, take many items at once. Compare the process's CPU time \
         before and after; what it gains beyond that, measure."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
