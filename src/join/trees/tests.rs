//! Trees out of records in the order in which a program's threads stream them.

use super::*;
use crate::model::{Fields, SpanSeq, Thread, TreeKind};

struct Program {
    trees: Trees,
    sites: Vec<Site>,
    threads: Vec<Thread>,
}

/// A record before it borrows: number, parent, site, thread, start, end.
type Short = (u64, u64, u32, u32, u64, u64);

impl Program {
    fn new() -> Program {
        let names = ["(other)", "root", "child", "leaf"];
        Program {
            trees: Trees::default(),
            sites: (0..4)
                .map(|id| Site::new(SiteId(id), names[id as usize], "test", None, None))
                .collect(),
            threads: (0..4).map(|index| Thread::new(index, None, None)).collect(),
        }
    }

    fn stream(&mut self, kind: SpanKind, (seq, parent, site, thread, start, end): Short) {
        let record = SpanRecord {
            span: SpanSeq(seq),
            parent: (parent != 0).then_some(SpanSeq(parent)),
            kind,
            site: &self.sites[site as usize],
            name: None,
            thread: &self.threads[thread as usize],
            start: Nanos(start),
            end: Nanos(end),
            fields: Fields::empty(),
            unfinished: false,
            ids: None,
            overlapping: false,
            traced: true,
            failed: false,
        };
        self.trees.take(&[record], &[]);
    }

    fn whole(&mut self, short: Short) {
        self.stream(SpanKind::Whole, short);
    }

    fn round(&mut self) {
        self.trees.end_round(Nanos::ZERO, Vec::new(), false);
    }

    fn kept(&mut self) -> Vec<KeptTree> {
        self.round();
        self.round();
        let mut profile = Profile::default();
        self.trees.fill(&mut profile);
        let groups = profile.trees.into_iter();
        groups.flat_map(|group| group.kept).collect()
    }

    fn only(&mut self) -> KeptTree {
        let mut kept = self.kept();
        assert_eq!(kept.len(), 1, "{kept:#?}");
        kept.remove(0)
    }
}

/// Names with their parents' names, start and end.
fn shape(kept: &KeptTree) -> Vec<(&'static str, Option<&'static str>, u64, u64)> {
    let spans = &kept.tree.spans;
    let rows = spans.iter().map(|span| {
        let parent = span.parent.map(|at| spans[at as usize].site.name);
        (span.site.name, parent, span.start.0, span.end.0)
    });
    rows.collect()
}

#[test]
fn children_come_before_their_parents_and_from_other_threads_later() {
    let mut program = Program::new();
    program.whole((3, 2, 3, 1, 20, 30));
    program.whole((1, 0, 1, 1, 0, 100));
    program.round();
    program.whole((2, 1, 2, 2, 10, 120));
    let kept = program.only();
    assert_eq!(
        shape(&kept),
        [
            ("root", None, 0, 100),
            ("child", Some("root"), 10, 120),
            ("leaf", Some("child"), 20, 30)
        ]
    );
    assert!(!kept.tree.truncated && kept.sampled && kept.slowest);
}

#[test]
fn calls_through_one_held_span_have_their_own_children() {
    let mut program = Program::new();
    for (root, at) in [(1, 0), (2, 100)] {
        program.whole((10 + root, 5, 3, 1, at + 20, at + 30));
        program.stream(SpanKind::Call, (5, root, 2, 1, at + 10, at + 40));
        program.whole((20 + root, 5, 3, 1, at + 60, at + 70));
        program.stream(SpanKind::Call, (5, root, 2, 1, at + 50, at + 80));
        program.whole((root, 0, 1, 1, at, at + 90));
    }
    let kept = program.kept();
    assert_eq!(kept.len(), 2);
    for (kept, at) in kept.iter().zip([0, 100]) {
        assert_eq!(
            shape(kept),
            [
                ("root", None, at, at + 90),
                ("child", Some("root"), at + 10, at + 40),
                ("leaf", Some("child"), at + 20, at + 30),
                ("child", Some("root"), at + 50, at + 80),
                ("leaf", Some("child"), at + 60, at + 70),
            ]
        );
        assert_eq!(kept.tree.spans[2].parent, Some(1));
        assert_eq!(kept.tree.spans[4].parent, Some(3));
    }
}

#[test]
fn an_async_span_has_its_polls_and_ends_with_the_last_one_if_a_child_outlives_it() {
    let mut program = Program::new();
    let mut life = |close| {
        program.stream(SpanKind::Poll, (2, 1, 2, 1, 40, 50));
        program.stream(SpanKind::Poll, (2, 1, 2, 2, 10, 20));
        program.whole((3, 2, 3, 3, 15, 90));
        let kind = SpanKind::Async {
            busy: Nanos(20),
            activations: 2,
        };
        program.stream(kind, (2, 7, 2, 1, 5, close));
        program.whole((1, 0, 1, 1, 0, 60));
    };
    life(90);
    let kept = program.only();
    let child = &kept.tree.spans[1];
    assert_eq!(
        (child.kind, child.start.0, child.end.0),
        (TreeKind::Async, 5, 50)
    );
    let polls: Vec<_> = child
        .activations
        .iter()
        .map(|poll| (poll.begin.0, poll.thread))
        .collect();
    assert_eq!(polls, [(10, 2), (40, 1)]);
    assert_eq!((child.busy, child.activation_count), (Nanos(20), 2));
    assert_eq!(kept.tree.spans[2].parent, Some(1));
}

#[test]
fn a_span_that_closes_on_one_thread_has_its_polls_on_others_that_are_read_later() {
    let mut program = Program::new();
    program.stream(SpanKind::Poll, (2, 1, 2, 1, 40, 50));
    let kind = SpanKind::Async {
        busy: Nanos(20),
        activations: 2,
    };
    program.stream(kind, (2, 1, 2, 1, 5, 50));
    program.whole((1, 0, 1, 1, 0, 60));
    program.stream(SpanKind::Poll, (2, 1, 2, 2, 10, 20));
    let kept = program.only();
    let polls = kept.tree.spans[1].activations.iter();
    let polls: Vec<_> = polls.map(|poll| (poll.begin.0, poll.thread)).collect();
    assert_eq!(polls, [(10, 2), (40, 1)]);
}

#[test]
fn operations_that_begin_together_are_in_the_order_in_which_they_were_made() {
    let mut program = Program::new();
    for (seq, end) in [(4, 10), (2, 20), (3, 30)] {
        program.whole((seq, 1, seq as u32 - 1, 1, 0, end));
    }
    program.whole((1, 0, 1, 1, 0, 60));
    let kept = program.only();
    let names: Vec<_> = kept.tree.spans.iter().map(|span| span.end.0).collect();
    assert_eq!(names, [60, 20, 30, 10]);
}

#[test]
fn polls_beyond_the_limit_are_merged_with_their_nearest() {
    let mut program = Program::new();
    for at in 0..100 {
        program.stream(SpanKind::Poll, (2, 1, 2, 1, at * 10, at * 10 + 1 + at % 5));
    }
    let kind = SpanKind::Async {
        busy: Nanos(300),
        activations: 100,
    };
    program.stream(kind, (2, 1, 2, 1, 0, 1_000));
    program.whole((1, 0, 1, 1, 0, 1_000));
    let kept = program.only();
    let polls = &kept.tree.spans[1];
    assert_eq!(polls.activations.len(), raw::MAX_ACTIVATIONS);
    assert_eq!((polls.activation_count, polls.busy), (100, Nanos(300)));
    assert_eq!(polls.activations[0].begin, Nanos(0));
    assert_eq!(
        polls.activations.last().map(|last| last.end),
        Some(Nanos(995))
    );
    let in_order = polls
        .activations
        .windows(2)
        .all(|pair| pair[0].end <= pair[1].begin);
    assert!(in_order, "{:?}", polls.activations);
}

#[test]
fn a_root_with_too_many_operations_is_truncated_and_says_so() {
    let mut program = Program::new();
    for seq in 0..MAX_SPANS as u64 + 5 {
        program.whole((10 + seq, 1, 2, 1, seq, seq + 1));
    }
    program.whole((1, 0, 1, 1, 0, 1 << 20));
    let kept = program.only();
    assert_eq!(kept.tree.spans.len(), MAX_SPANS);
    assert!(kept.tree.truncated);
}

#[test]
fn a_tree_that_was_cut_or_met_a_loss_is_truncated() {
    let mut program = Program::new();
    program.trees.end_round(Nanos(0), vec![7], false);
    program.whole((7, 0, 1, 1, 0, 10));
    program.whole((8, 0, 1, 1, 0, 10));
    program.trees.end_round(Nanos(50), Vec::new(), false);
    program.whole((9, 0, 1, 1, 60, 70));
    program.trees.end_round(Nanos(80), Vec::new(), true);
    let truncated: Vec<_> = program
        .kept()
        .iter()
        .map(|kept| kept.tree.truncated)
        .collect();
    assert_eq!(truncated, [true, false, true]);
}

#[test]
fn operations_that_never_find_a_root_are_given_up_and_counted() {
    let mut program = Program::new();
    for seq in 0..200_000 {
        program.whole((10 + seq, 5_000_000 + seq, 2, 1, seq, seq + 1));
    }
    let mut profile = Profile::default();
    program.trees.fill(&mut profile);
    assert!(profile.losses.stray_records > 0);
    program.whole((1, 0, 1, 1, 5, 150_000));
    assert!(
        program.only().tree.truncated,
        "one of those may have been its child"
    );
}
