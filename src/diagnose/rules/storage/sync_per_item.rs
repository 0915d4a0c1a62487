//! CTX403: waiting for the disk after every item.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Run, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Site, SiteId};

pub(super) const RULE: Rule = Rule {
    id: "CTX403",
    name: "sync-per-item",
    healthy: "nothing is synced or committed one by one",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: a commit per row
for row in rows { insert(&pool, row).await?; }

// after: one commit for all
let mut transaction = pool.begin().await?;
for row in rows { insert(&mut *transaction, row).await?; }
transaction.commit().await?;
";

/// An item often has an operation of its own around its commit.
const ITEM_DEPTH: usize = 2;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.storage;
    let mut outcome = Outcome {
        looked: evidence.calls.of_kinds(&[Kind::Sync]).next().is_some(),
        ..Outcome::default()
    };
    let least = usize::try_from(thresholds.syncs)
        .unwrap_or(usize::MAX)
        .max(2);
    let mut groups: BTreeMap<(SiteId, usize), Vec<Run<'_, '_>>> = BTreeMap::new();
    for run in calls::runs(&evidence.calls, &[Kind::Sync], least, ITEM_DEPTH) {
        if run.calls.len() >= least && run.is_sequence() {
            let around = run.tree.tree.spans[run.parent].site.id;
            groups.entry((around, run.shape)).or_default().push(run);
        }
    }
    for ((around, shape), runs) in groups {
        let most = runs.iter().map(|run| run.calls.len()).max().unwrap_or(0) as u64;
        let enough = runs.len() as u64 >= thresholds.sync_operations;
        if !enough && most < thresholds.syncs_once {
            continue;
        }
        let (mut all, mut but_one) = (Scales::default(), Scales::default());
        for run in &runs {
            for (at, call) in run.calls.iter().enumerate() {
                all.set(run.tree.weighted(), call.index, 0.0);
                if at > 0 {
                    but_one.set(run.tree.weighted(), call.index, 0.0);
                }
            }
        }
        let seed = u64::from(around.0) << 32 | shape as u64;
        let price = Price::of(evidence, seed, &all, &but_one);
        if let Some(price) = price.filter(|price| price.full.share >= thresholds.sync_share) {
            outcome
                .found
                .push(found(evidence, &runs, shape, most, &price));
            outcome.claims.extend(all.claims());
        }
    }
    outcome
}

fn found(
    evidence: &Evidence<'_>,
    runs: &[Run<'_, '_>],
    shape: usize,
    most: u64,
    price: &Price,
) -> Found {
    let shape = &evidence.calls.shapes[shape];
    let mut measure = Measure::default();
    let mut around: Option<&Site> = None;
    for run in runs {
        around = Some(&run.tree.tree.spans[run.parent].site);
        for call in &run.calls {
            measure.add(run.tree.span(call), run.tree.weighted());
        }
    }
    let mut finding = RULE.about(&shape.site);
    finding.location = finding.location.or_else(|| around?.location());
    price.fill(&mut finding, evidence, Some(price.change.share));
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    // Whoever wants each item on disk before the next has no choice.
    finding.confidence = Confidence::Medium;
    calls::figures(&mut finding, &measure);
    finding.evidence.insert("operations", runs.len() as f64);
    finding.evidence.insert("most_per_operation", most as f64);
    let name = around.map_or("", |site| site.name);
    let sync = shape.site.name;
    let mean = measure.mean();
    let gain = calls::gain_words(&finding, evidence, "One for all items");
    let seen = wording::count(runs.len() as u64, "operation");
    finding.message = format!(
        "`{name}` waits for the disk up to {most} times in `{sync}`, {mean} each (seen in {seen}): however little an item \
         is, each one pays a whole write.{gain}"
    );
    finding.recommendation = format!(
        "Group the items: one transaction, or one sync after the last of them, or after every few hundred. What is not \
         synced is lost in a crash; where each item must be safe before the next begins, `{name}` is right as it is. \
         Afterwards count the calls of `{sync}`."
    );
    finding.example = EXAMPLE.to_owned();
    let gains = match finding.gain.low {
        Some(low) => format!(
            "; one for all would make the program {} as fast.",
            wording::factor(low)
        ),
        None => ".".to_owned(),
    };
    let lead = format!("`{name}` waits for the disk {most} times in `{sync}`{gains}");
    Found { finding, lead }
}
