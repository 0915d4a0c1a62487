//! CTX401: most of the time is spent waiting for files.

use crate::diagnose::board::{self, Board, HeldBack, Outcome};
use crate::diagnose::calls::{self, Found};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX401",
    name: "io-bound",
    healthy: "files are not what is waited for",
    standing: Standing::Pointer,
    check,
};

const EXAMPLE: &str = "\
// before: read, then compute, then read again
for p in paths { process(&std::fs::read(p)?); }

// after: the next file is read while this one is worked on
let (tx, rx) = std::sync::mpsc::sync_channel(4);
std::thread::spawn(move || for p in paths { let _ = tx.send(std::fs::read(p)); });
for bytes in rx { process(&bytes?); }
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.storage;
    let mut outcome = Outcome::default();
    let kinds = [Kind::File];
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
    // How much of it can be hidden behind computing the trees do not tell.
    finding.gain.low = None;
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    finding.confidence = Confidence::Medium;
    calls::figures(&mut finding, measure);
    finding.evidence.insert("running_share", waiting.running);
    let name = site.name;
    let share = wording::percent(waiting.price.full.share);
    let whole = evidence.whole.words();
    let speed = waiting.of_largest.bytes().map_or(String::new(), |bytes| {
        let seconds = waiting.of_largest.mean().0 as f64 / 1e9;
        format!(" at {:.0} MB/s", bytes / seconds.max(1e-9) / 1e6)
    });
    let of_largest = wording::percent(waiting.of_largest.total / measure.total.max(1.0));
    let bound = wording::ceiling(finding.gain.bound);
    let gain = bound.map_or(String::new(), |bound| {
        format!(" Without any of it the program would be at most {bound} as fast.")
    });
    finding.message = format!(
        "{share} of {whole} is waiting for files, {of_largest} of that in `{name}`{speed}.{gain}"
    );
    finding.recommendation = format!(
        "Read ahead on a thread of its own so that waiting and computing overlap, read less, or keep what is read twice. \
         Look at `{name}` first; measure what it gains, because a disk that is busy all the time gains nothing."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{share} of {whole} is waiting for files, most of it in `{name}`.");
    outcome.found.push(board::Found { finding, lead });
    outcome
}
