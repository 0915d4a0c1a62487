//! CTX421: one request per item, each waiting for the one before.

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Limits, Price, Repeated};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX421",
    name: "n-plus-one-http",
    healthy: "no request is repeated under one parent",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: one after the other
for id in ids { answers.push(client.get(url(id)).send().await?); }

// after: up to eight at a time, in order
use futures::{stream, StreamExt};
let answers: Vec<_> = stream::iter(ids).map(|id| client.get(url(id)).send()).buffered(8).collect().await;
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.network;
    let kinds = [Kind::Http, Kind::Rpc];
    let mut outcome = Outcome {
        looked: evidence.calls.of_kinds(&kinds).next().is_some(),
        ..Outcome::default()
    };
    let limits = Limits {
        calls: thresholds.repeated_requests,
        time: Nanos::from(thresholds.repeated_time),
        share: thresholds.repeated_share,
        many: thresholds.repeated_once,
    };
    let at_a_time = thresholds.at_a_time.max(1);
    for repeated in calls::repeated(&evidence.calls, &kinds, limits, |_| true) {
        let all = repeated.scales(0.0, 0.0);
        let beside = repeated.at_a_time(at_a_time);
        let seed = u64::from(repeated.around.id.0) << 32 | repeated.shape as u64;
        let Some(price) = Price::of(evidence, seed, &all, &beside) else {
            continue;
        };
        if price.is_worth_it() {
            outcome.found.push(found(evidence, &repeated, &price));
            outcome.claims.extend(all.claims());
        }
    }
    outcome
}

fn found(evidence: &Evidence<'_>, repeated: &Repeated<'_, '_>, price: &Price) -> Found {
    let shape = &evidence.calls.shapes[repeated.shape];
    let measure = repeated.measure();
    let (operations, length, in_calls) = repeated.around();
    let mut finding = RULE.about(&shape.site);
    finding.location = repeated.location(evidence);
    price.fill(&mut finding, evidence, Some(price.change.share));
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    finding.confidence = match repeated.fewest < repeated.most {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    calls::figures(&mut finding, &measure);
    finding.evidence.extend([
        ("operations", operations),
        ("fewest_per_operation", repeated.fewest as f64),
        ("most_per_operation", repeated.most as f64),
    ]);
    let (route, times) = (shape.words(), repeated.times());
    let around = repeated.around.name;
    let seen = wording::count(repeated.runs.len() as u64, "operation");
    let at_a_time = evidence.thresholds.network.at_a_time;
    let gain = calls::gain_words(&finding, evidence, &format!("{at_a_time} at a time"));
    finding.message = format!(
        "`{around}` calls `{route}` {times} one after the other ({in_calls} of {length}; seen in {seen}), and waits for each \
         answer before the next request.{gain}"
    );
    finding.recommendation = format!(
        "Use a route that takes many items at once, or run up to {at_a_time} requests at a time. That is right only if no \
         request needs the answer of another; the other side must bear so many. Afterwards `{around}` must take about as \
         long as its slowest request, times the number of rounds."
    );
    finding.example = EXAMPLE.to_owned();
    let gains = match finding.gain.low {
        Some(low) => format!(
            "; {at_a_time} at a time would make the program {} as fast.",
            wording::factor(low)
        ),
        None => ".".to_owned(),
    };
    let lead = format!("`{around}` calls `{route}` {times} in sequence{gains}");
    Found { finding, lead }
}
