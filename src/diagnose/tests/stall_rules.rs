use crate::diagnose::planted::{MS, Planted, plain};
use crate::model::{
    KeptTree, Nanos, OperationTree, RootTrees, SlowMoment, SlowOperations, TreeSpan,
};

/// Calls of 1 ms, and one of 50 ms at each of these times; looked at every 50 ms.
fn stalling(at_ms: &[u64]) -> Planted {
    let slow = at_ms.len() as u64;
    let stats = plain(&[(MS, 2_000), (50 * MS, slow)]);
    let mut planted = Planted::run(10_000).site("handle", None, stats);
    let moments = at_ms.iter().map(|at| SlowMoment {
        from: Nanos(at / 50 * 50 * MS),
        to: Nanos((at / 50 * 50 + 50) * MS),
        count: 1,
    });
    planted.profile.sites[0].slow = Some(SlowOperations::new(Nanos(2 * MS), moments.collect()));
    planted
}

#[test]
fn stalls_at_regular_intervals_are_told_with_their_period() {
    let finding = stalling(&[510, 1_490, 2_530, 3_500, 4_480, 5_510, 6_490]).finding("CTX604");
    assert_eq!(finding.site, "handle");
    assert_eq!(finding.evidence["stalls"], 7.0);
    assert!((finding.evidence["interval_ns"] - 1e9).abs() < 2e7);
    assert!((finding.evidence["excess_ns"] / (7.0 * 49e6) - 1.0).abs() < 1e-3);
    assert!(
        finding.message.starts_with("`handle` stalls every"),
        "{}",
        finding.message
    );
}

#[test]
fn stalls_at_random_too_few_or_in_the_rhythm_of_the_looks_are_not_periodic() {
    assert!(stalling(&[510, 900, 2_530, 2_900, 4_480, 6_510, 6_990]).is_silent("CTX604"));
    assert!(stalling(&[500, 1_500, 2_500, 3_500, 4_500]).is_silent("CTX604"));
    assert!(stalling(&[100, 200, 300, 400, 500, 600, 700, 800]).is_silent("CTX604"));
    let often: Vec<u64> = (1..=9).map(|stall| stall * 170).collect();
    assert_eq!(stalling(&often).findings("CTX604").len(), 1);
    assert!(
        stalling(&often[1..]).is_silent("CTX604"),
        "7 intervals of 3 looks"
    );
    // One long stall that every look sees.
    assert!(stalling(&[100, 150, 200, 250, 300, 350, 400, 450]).is_silent("CTX604"));
    let mut rare = stalling(&[510, 1_490, 2_530, 3_500, 4_480, 5_510, 6_490]);
    rare.profile.wall = Nanos(60_000 * MS);
    assert!(rare.is_silent("CTX604"));
}

/// 1000 operations in trees of ten, of which some end 1 ms after their parent.
fn nested(late: usize, thread: u32) -> Planted {
    let mut planted = Planted::run(20_000)
        .site("handle", None, plain(&[(10 * MS, 100)]))
        .site("step", Some(0), plain(&[(MS, 1_000)]));
    let [handle, step] = [0, 1].map(|at| planted.profile.sites[at].site.clone());
    let mut left = late;
    let trees = (0..100_u64).map(|index| {
        let ms = |at: u64| Nanos((index * 100 + at) * MS);
        let mut spans = vec![TreeSpan::new(handle.clone(), None, ms(0), ms(10))];
        for at in 0..10 {
            let end = if at == 9 && left > 0 { 11 } else { at + 1 };
            left -= usize::from(end == 11);
            let mut span = TreeSpan::new(step.clone(), Some(0), ms(at), ms(end));
            span.thread = thread;
            spans.push(span);
        }
        KeptTree::sampled(OperationTree::new(spans))
    });
    planted.profile.trees = vec![RootTrees::new(handle.clone(), trees.collect())];
    planted
}

#[test]
fn spans_that_outlive_what_they_are_in_are_told_as_a_fault_of_the_data() {
    let finding = nested(5, 0).finding("CTX904");
    assert!(
        finding.message.starts_with("5 spans of 1000"),
        "{}",
        finding.message
    );
    assert!(finding.message.contains("most of them `step`"));
    assert!(nested(4, 0).is_silent("CTX904"));
    assert!(nested(0, 0).is_silent("CTX904"));
    // Work handed to another thread may go on.
    assert!(nested(50, 1).is_silent("CTX904"));
}
