//! CTX423: answers so large that sending them takes the time.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX423",
    name: "large-payload",
    healthy: "no large bodies",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: everything, as it is
let client = reqwest::Client::new();

// after: compressed; better still, a page or a few fields of it
let client = reqwest::Client::builder().gzip(true).build()?;
let page = client.get(url).query(&[(\"limit\", \"50\"), (\"fields\", \"id,name\")]).send().await?;
";

/// From this ratio of the largest answer to the smallest on, the sizes say whether the time depends on them.
const SIZES_VARY: f64 = 2.0;
/// And from so many answers on.
const ENOUGH_SIZES: usize = 10;

/// The large answers of one route.
#[derive(Debug, Default)]
struct Answers<'a> {
    measure: Measure,
    scales: Scales<'a>,
    /// Bytes and nanoseconds of all answers, large or not.
    points: Vec<(f64, f64)>,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.network;
    let mut outcome = Outcome::default();
    let mut routes: BTreeMap<usize, Answers<'_>> = BTreeMap::new();
    for (tree, call) in evidence.calls.of_kinds(&[Kind::Http, Kind::Rpc]) {
        let span = tree.span(call);
        let Some(bytes) = calls::bytes(span) else {
            continue;
        };
        outcome.looked = true;
        let answers = routes.entry(call.shape).or_default();
        answers.points.push((bytes, span.length().0 as f64));
        if bytes >= thresholds.large_bytes && span.length() >= Nanos::from(thresholds.large_time) {
            answers.measure.add(span, tree.weighted());
            answers.scales.set(tree.weighted(), call.index, 0.0);
        }
    }
    for (shape, answers) in routes {
        if answers.measure.seen < thresholds.large_calls || !grows_with_size(&answers.points) {
            continue;
        }
        let half = answers.scales.all(0.5);
        let price = Price::of(evidence, shape as u64, &answers.scales, &half);
        let price = price.filter(|price| price.full.share >= thresholds.large_share);
        if let Some(price) = price.filter(Price::is_worth_it) {
            outcome.found.push(found(evidence, shape, &answers, &price));
            outcome.claims.extend(answers.scales.claims());
        }
    }
    outcome
}

/// Whether larger answers take longer; yes where nothing speaks against it.
fn grows_with_size(points: &[(f64, f64)]) -> bool {
    let sizes = || points.iter().map(|&(bytes, _)| bytes);
    let (least, most) = (
        sizes().fold(f64::MAX, f64::min),
        sizes().fold(0.0, f64::max),
    );
    if points.len() < ENOUGH_SIZES || most < SIZES_VARY * least.max(1.0) {
        return true;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (bytes, time) = (mean(|point| point.0), mean(|point| point.1));
    let together: f64 = points
        .iter()
        .map(|point| (point.0 - bytes) * (point.1 - time))
        .sum();
    together > 0.0
}

fn found(evidence: &Evidence<'_>, shape: usize, answers: &Answers<'_>, price: &Price) -> Found {
    let shape = &evidence.calls.shapes[shape];
    let measure = &answers.measure;
    let mut finding = RULE.about(&shape.site);
    price.fill(&mut finding, evidence, Some(price.change.share));
    price.rank(&mut finding, evidence, price.full.share);
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    // Whether the time went into sending or into making the answer nobody has seen.
    finding.confidence = Confidence::Medium;
    calls::figures(&mut finding, measure);
    let bytes = measure.bytes().unwrap_or_default();
    finding.evidence.insert("bytes", bytes);
    let (route, kb, mean) = (shape.words(), bytes / 1e3, measure.mean());
    let seen = wording::count(measure.seen, "answer");
    let gain = calls::gain_words(&finding, evidence, "Half of it");
    finding.message = format!(
        "`{route}` answers with {kb:.0} kB in {mean} on average ({seen} of at least {:.0} kB seen): all of it is made, sent \
         and read.{gain}",
        evidence.thresholds.network.large_bytes / 1e3
    );
    finding.recommendation = format!(
        "Ask `{route}` for the fields and the page that are needed, or compress. Compressing costs CPU time on both sides \
         and gains nothing for what is compressed already; compare time and size in the table of requests afterwards."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("`{route}` answers with {kb:.0} kB in {mean} on average.");
    Found { finding, lead }
}
