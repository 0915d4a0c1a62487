use super::{grown, plain_span, polled_at, root, text, waiting, with};
use crate::diagnose::planted::{MS, Planted, own, polled};
use crate::model::{Confidence, Severity, TreeSpan, TreeValue};

/// Ten requests one after the other, each with the same tree; `names` are the sites below the root.
pub(super) fn requests(tree: &[TreeSpan], names: &[&'static str]) -> Planted {
    let wall = tree[0].end.0 / MS;
    let mut planted = Planted::run(10 * wall).busy(1).site(
        "root",
        None,
        own(polled(&[(1_000, 10)], 10, wall * MS), 1_000),
    );
    for name in names {
        let stats = own(polled(&[(1_000, 20)], 10, MS), 1_000);
        planted = planted.site(name, Some(0), stats);
    }
    grown(planted, vec![tree.to_vec(); 10])
}

/// 100 ms with three waits of 20, 30 and 40 ms.
pub(super) fn three() -> Vec<TreeSpan> {
    vec![
        root(100_000),
        waiting(2, Some(0), 1_000, 21_000),
        waiting(3, Some(0), 21_010, 51_010),
        waiting(4, Some(0), 51_020, 91_020),
    ]
}

pub(super) const ABC: [&str; 3] = ["a", "b", "c"];

#[test]
fn three_waits_in_a_row_are_told_with_what_all_but_the_longest_cost() {
    let planted = requests(&three(), &ABC);
    let finding = planted.finding("CTX103");
    assert_eq!(finding.site, "root");
    assert_eq!(
        finding.severity,
        Severity::Medium,
        "never more without proof"
    );
    assert_eq!(finding.confidence, Confidence::Low);
    assert!((finding.saving.unwrap() - 0.5).abs() < 1e-3);
    let gain = finding.gain;
    assert!((gain.low.unwrap() - 2.0).abs() < 0.01 && gain.bound >= gain.likely);
    assert!(
        finding.message.starts_with(
            "`root` awaits `a`, `b`, `c` one after the other (90.0 ms). If they do not need each other's result, run \
             them together: 40.0 ms. Seen 10 times in 10 parents; without that wait 50 % of the wall time would vanish"
        ),
        "{}",
        finding.message
    );
}

#[test]
fn side_by_side_they_are_healthy() {
    let together = vec![
        root(100_000),
        waiting(2, Some(0), 1_000, 21_000),
        waiting(3, Some(0), 1_010, 31_010),
        waiting(4, Some(0), 1_020, 91_020),
    ];
    assert!(requests(&together, &ABC).is_silent("CTX103"));
    // Two at a time, in a loop: the last of one round and the first of the next are no run.
    let mut rounds = vec![root(100_000)];
    for round in 0..4 {
        let from = round * 20_000;
        rounds.push(waiting(2, Some(0), from + 10, from + 19_000));
        rounds.push(waiting(3, Some(0), from + 20, from + 19_010));
    }
    assert!(requests(&rounds, &["a", "b"]).is_silent("CTX103"));
}

#[test]
fn what_the_program_calls_independent_has_the_severity_of_its_share() {
    let marked = |tree: Vec<TreeSpan>| -> Vec<TreeSpan> {
        let mark = |span| with(span, "cortex.independent", TreeValue::Bool(true));
        tree.into_iter().map(mark).collect()
    };
    let finding = requests(&marked(three()), &ABC).finding("CTX103");
    assert_eq!(
        (finding.severity, finding.confidence),
        (Severity::High, Confidence::High)
    );
}

#[test]
fn an_order_that_swaps_now_and_then_is_a_sign_of_independence() {
    let mut planted = requests(&three(), &ABC);
    let kept = &mut planted.profile.trees[0].kept[4].tree.spans;
    let (b, c) = (kept[2].site.clone(), kept[3].site.clone());
    (kept[2].site, kept[3].site) = (c, b);
    assert_eq!(planted.finding("CTX103").confidence, Confidence::Medium);
    let kept = &mut planted.profile.trees[0].kept[5].tree.spans;
    let (b, c) = (kept[2].site.clone(), kept[3].site.clone());
    (kept[2].site, kept[3].site) = (c, b);
    assert!(planted.is_silent("CTX103"), "8 of 10 are no stable order");
}

#[test]
fn who_carries_an_id_that_the_one_before_found_has_to_wait() {
    let id = |value: &str| text(value);
    let mut tree = three();
    for (at, name, value) in [
        (1, "user_id", "7"),
        (2, "cortex.key", "7"),
        (2, "cart.id", "9"),
        (3, "id", "9"),
    ] {
        tree[at] = with(tree[at].clone(), name, id(value));
    }
    assert!(requests(&tree, &ABC).is_silent("CTX103"));
    // What the parent has too was known before.
    tree[0] = with(tree[0].clone(), "user_id", id("7"));
    let finding = requests(&tree, &ABC).finding("CTX103");
    assert!(
        finding.message.contains("awaits `a`, `b` one after"),
        "{}",
        finding.message
    );
}

#[test]
fn a_query_for_a_list_of_keys_may_need_those_of_the_one_before() {
    let queries = |second: &str| {
        let mut tree = three();
        tree.pop();
        tree[1] = with(
            tree[1].clone(),
            "db.query.text",
            text("select id from a limit 9"),
        );
        tree[2] = with(tree[2].clone(), "db.query.text", text(second));
        requests(&tree, &ABC[..2])
    };
    for list in [
        "select * from b where id = any($1)",
        "SELECT * FROM b WHERE id IN (1, 2)",
        "SELECT * FROM b WHERE id in(?)",
    ] {
        assert!(queries(list).is_silent("CTX103"), "{list}");
    }
    let other = queries("select * from company where margin > 3 and origin = $1");
    assert_eq!(other.findings("CTX103").len(), 1);
}

#[test]
fn what_is_ordered_by_its_nature_is_no_finding() {
    let second = |change: &dyn Fn(TreeSpan) -> TreeSpan| {
        let mut tree = three();
        tree.truncate(3);
        tree[2] = change(tree[2].clone());
        requests(&tree, &["a", "b"])
    };
    assert!(!second(&|span| span).findings("CTX103").is_empty());
    for (name, value) in [
        ("lock.name", text("cache")),
        ("queue.name", text("jobs")),
        ("pool.name", text("db")),
        ("db.query.text", text("INSERT INTO orders VALUES (?)")),
        ("http.request.method", text("POST")),
        ("cortex.side_effect", TreeValue::Bool(true)),
        ("cortex.independent", TreeValue::Bool(false)),
    ] {
        let planted = second(&|span| with(span, name, value.clone()));
        assert!(planted.is_silent("CTX103"), "{name}");
    }
    let computes = second(&|mut span| {
        span.busy = span.length();
        span
    });
    assert!(computes.is_silent("CTX103"));
    let far = second(&|span| {
        let (from, to) = (span.start.0 / 1_000 + 3_000, span.end.0 / 1_000);
        waiting(3, span.parent, from, to)
    });
    assert!(far.is_silent("CTX103"));
}

#[test]
fn a_pair_in_a_loop_is_a_pair_in_each_round() {
    let mut tree = vec![root(100_000)];
    for round in 0..6 {
        let from = round * 15_000;
        tree.push(waiting(2, Some(0), from, from + 5_000));
        // A short note in between is no matter.
        tree.push(plain_span(4, Some(0), from + 5_000, from + 5_020));
        tree.push(waiting(3, Some(0), from + 5_050, from + 14_900));
    }
    let mut planted = requests(&tree, &ABC);
    planted.profile.trees[0].kept.truncate(1);
    planted.profile.trees[0].roots = 10;
    let finding = planted.finding("CTX103");
    assert!((finding.saving.unwrap() - 0.3).abs() < 0.01, "{finding:?}");
    assert!(
        finding
            .message
            .contains("awaits `a`, `b` one after the other in each round of a loop (14.8 ms)"),
        "{}",
        finding.message
    );
}

#[test]
fn a_loop_over_one_site_is_priced_for_a_few_at_a_time() {
    let mut tree = vec![root(100_000)];
    for round in 0..16 {
        tree.push(waiting(2, Some(0), round * 6_000, round * 6_000 + 5_900));
    }
    let finding = requests(&tree, &["a"]).finding("CTX103");
    let saving = finding.saving.unwrap();
    assert!((saving - 14.0 * 0.059).abs() < 0.01, "{saving}");
    assert!(finding.recommendation.contains("`buffered(8)`"));
}

#[test]
fn retries_are_in_the_order_that_they_need() {
    let mut tree = vec![root(30_000)];
    for round in 0..3 {
        let mut attempt = waiting(2, Some(0), round * 10_000, round * 10_000 + 9_900);
        attempt.error = round < 2;
        tree.push(attempt);
    }
    assert!(requests(&tree, &["a"]).is_silent("CTX103"));
}

#[test]
fn a_tenth_of_the_parent_is_the_least() {
    let tree = |first: u64| {
        vec![
            root(100_000),
            polled_at(plain_span(2, Some(0), 0, first), &[0], 0),
            waiting(3, Some(0), first, 40_000),
        ]
    };
    assert_eq!(
        requests(&tree(10_000), &["a", "b"])
            .findings("CTX103")
            .len(),
        1
    );
    assert!(requests(&tree(9_900), &["a", "b"]).is_silent("CTX103"));
}
