//! CTX420: most of the time is spent waiting for other programs.

use crate::diagnose::board::{self, Board, HeldBack, Outcome};
use crate::diagnose::calls::{self, Found};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX420",
    name: "network-bound",
    healthy: "other programs are not what is waited for",
    standing: Standing::Pointer,
    check,
};

const EXAMPLE: &str = "\
// keep answers that hold for a while, and do not wait forever for one that does not come
let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(2)).build()?;
let rates = cache.get_or_fetch(day, || client.get(url).send()).await?;
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.network;
    let mut outcome = Outcome::default();
    let kinds = [Kind::Http, Kind::Rpc];
    let waiting = match calls::waiting(evidence, board, &kinds, thresholds.waiting_share) {
        Found::Nothing => return outcome,
        Found::Little => None,
        Found::Waiting(waiting) => Some(waiting),
        Found::Unknown(shape, have) => {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: shape.site.name.to_owned(),
                have,
                need: evidence.thresholds.min_cpu_samples,
                what: "on-CPU samples",
            });
            None
        }
    };
    outcome.looked = true;
    let Some(waiting) = waiting.filter(|waiting| {
        let time = Nanos::from(thresholds.waiting_time);
        waiting.running <= thresholds.running_share
            && waiting.is_enough(thresholds.waiting_calls, time)
    }) else {
        return outcome;
    };
    let site = &waiting.largest.site;
    let measure = &waiting.measure;
    let mut finding = RULE.about(site);
    waiting.price.fill(&mut finding, evidence, None);
    // What the other side can do about it the trees do not tell.
    finding.gain.low = None;
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    finding.confidence = Confidence::Medium;
    calls::figures(&mut finding, measure);
    finding.evidence.insert("running_share", waiting.running);
    let largest = &waiting.of_largest;
    let (p50, p99) = (largest.quantile(0.5), largest.quantile(0.99));
    finding.evidence.insert("p50_ns", p50.0 as f64);
    finding.evidence.insert("p99_ns", p99.0 as f64);
    let route = waiting.largest.words();
    let share = wording::percent(waiting.price.full.share);
    let whole = evidence.whole.words();
    let of_largest = wording::percent(largest.total / measure.total.max(1.0));
    let bound = wording::ceiling(finding.gain.bound);
    let gain = bound.map_or(String::new(), |bound| {
        format!(" Without any of it the program would be at most {bound} as fast.")
    });
    finding.message = format!(
        "{share} of {whole} is waiting for other programs, {of_largest} of that for `{route}` (p50 {p50}, p99 {p99}).{gain}"
    );
    finding.recommendation = format!(
        "Ask less often (keep answers, ask for many things at once), ask earlier so that the wait overlaps other work, and \
         set a timeout. Whether `{route}` itself can be faster its own program must tell; the table of requests shows what \
         became of it."
    );
    finding.example = EXAMPLE.to_owned();
    let lead =
        format!("{share} of {whole} is waiting for other programs, most of it for `{route}`.");
    outcome.found.push(board::Found { finding, lead });
    outcome
}
