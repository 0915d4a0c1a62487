//! CTX420 to 423, and the table of requests.

use std::sync::Arc;

use super::critical_path::span;
use super::requests::{Field, Request, number, said, served, served_often, with_others};
use crate::diagnose::planted::{MS, plain};
use crate::model::{KeptTree, Nanos, OperationTree, RootTrees, Severity};

const GET: (u32, &str) = (2, "get");

fn to(route: &str) -> Vec<Field> {
    vec![
        said("http.request.method", "GET"),
        said("server.address", "stock"),
        said("http.route", route),
        said("otel.kind", "client"),
    ]
}

#[test]
fn a_request_per_item_is_found_and_priced_as_eight_at_a_time() {
    let request = Request::new(40_000).calls(GET, 0, 1_000, 24, |at| to(&format!("/items/{at}")));
    let planted = served_often(3, &request);
    let finding = planted.finding("CTX421");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("get", Severity::Critical)
    );
    assert!(
        finding.message.contains("`GET stock /items/{id}` 24 times"),
        "{}",
        finding.message
    );
    assert!(
        (finding.saving.unwrap() - 21.0 / 40.0).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!(finding.gain.bound.unwrap() >= 40.0 / 16.0 - 1e-6);
    assert!(planted.findings("CTX420").is_empty(), "explained already");

    let few = Request::new(40_000).calls(GET, 0, 1_000, 9, |_| to("/items"));
    assert!(served_often(3, &few).is_silent("CTX421"));
    let beside = request.edit(|span| span.end = Nanos(span.end.0 + 5_000_000));
    assert!(served_often(3, &beside).is_silent("CTX421"));
}

#[test]
fn the_last_round_counts_as_a_whole_one() {
    let request = Request::new(40_000).calls(GET, 0, 1_000, 20, |_| to("/items"));
    let finding = served_often(3, &request).finding("CTX421");
    assert!(
        (finding.saving.unwrap() - 17.0 / 40.0).abs() < 1e-6,
        "{finding:#?}"
    );
}

#[test]
fn a_thread_beside_the_program_does_not_lower_the_bound() {
    let request = Request::new(40_000).calls(GET, 0, 1_000, 24, |_| to("/items"));
    let alone = served_often(3, &request);
    let bound = alone.finding("CTX421").gain.bound.unwrap();
    let mut accompanied = served_often(3, &request).site("beside", None, plain(&[(60 * MS, 1)]));
    let tree = OperationTree::new(vec![span(5, None, 0, 60)]);
    let site = Arc::clone(&tree.spans[0].site);
    let group = RootTrees::new(site, vec![KeptTree::sampled(tree)]);
    accompanied.profile.trees.push(group);
    let finding = accompanied.finding("CTX421");
    assert!((finding.gain.bound.unwrap() - bound).abs() < 1e-6);
    assert!(finding.gain.low.unwrap() < 40.0 / 19.0, "{finding:#?}");
}

#[test]
fn what_serves_a_request_is_no_call() {
    let request = Request::new(40_000).calls(GET, 0, 1_000, 24, |_| {
        vec![
            said("http.request.method", "GET"),
            said("otel.kind", "server"),
        ]
    });
    let planted = served_often(3, &request);
    assert!(planted.findings("CTX421").is_empty());
    assert_eq!(planted.diagnosis().operations, None);
}

#[test]
fn waiting_for_another_program_is_pointed_at_from_a_half_on() {
    let one = |us: u64| Request::new(100_000).with(GET, 0, (10_000, 10_000 + us), &to("/slow"));
    let finding = served_often(10, &one(60_000)).finding("CTX420");
    assert_eq!(finding.site, "get");
    assert_eq!(
        finding.gain.low, None,
        "nobody knows what the other side can do"
    );
    assert!(
        finding.message.contains("p50 60.0 ms"),
        "{}",
        finding.message
    );
    assert!(served_often(10, &one(49_000)).is_silent("CTX420"));
    let computing = one(60_000).edit(|span| span.busy = span.length());
    assert!(served_often(10, &computing).is_silent("CTX420"));
}

#[test]
fn a_connection_per_request_is_found_by_its_field_or_its_span() {
    let connecting = |ns: i64| {
        let mut fields = to("/a");
        fields.push(number("net.connect_ns", ns));
        Request::new(20_000).with(GET, 0, (0, 10_000), &fields)
    };
    let planted = served_often(20, &connecting(5_000_000));
    let finding = planted.finding("CTX422");
    // One of the twenty connections is needed.
    assert!(
        (finding.saving.unwrap() - 0.25 * 19.0 / 20.0).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!(
        finding.message.contains("100 % of the requests to `stock`"),
        "{}",
        finding.message
    );
    assert!(served_often(19, &connecting(5_000_000)).is_silent("CTX422"));
    assert!(served_often(20, &connecting(1_000_000)).is_silent("CTX422"));
    let of_many = with_others(served_often(17, &connecting(5_000_000)), 4);
    assert_eq!(of_many.findings("CTX422").len(), 1, "17 of 68 were seen");
    let mut reused = vec![connecting(0); 20];
    reused[0] = connecting(5_000_000);
    assert!(served(&reused).is_silent("CTX422"));
    let span = Request::new(20_000)
        .with(GET, 0, (0, 10_000), &to("/a"))
        .with((3, "connect"), 1, (0, 6_000), &[]);
    let finding = served_often(20, &span).finding("CTX422");
    let saving = finding.saving.unwrap();
    assert!((saving - 0.3 * 19.0 / 20.0).abs() < 1e-6, "{finding:#?}");
}

#[test]
fn large_answers_are_found_if_their_size_is_what_takes_the_time() {
    let answer = |bytes: i64, us: u64| {
        let mut fields = to("/export");
        fields.push(number("http.response.body.size", bytes));
        Request::new(1_000_000).with(GET, 0, (0, us), &fields)
    };
    let finding = served_often(3, &answer(2_000_000, 300_000)).finding("CTX423");
    assert_eq!(finding.severity, Severity::High);
    assert!(
        (finding.gain.likely.unwrap() - 1.0 / 0.85).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!(served_often(2, &answer(2_000_000, 300_000)).is_silent("CTX423"));
    assert!(served_often(3, &answer(299_999, 300_000)).is_silent("CTX423"));
    assert!(served_often(3, &answer(2_000_000, 99_000)).is_silent("CTX423"));
    let slower_when_small: Vec<Request> = (1..=12)
        .map(|at| answer(at * 400_000, 900_000 - at as u64 * 50_000))
        .collect();
    assert!(served(&slower_when_small).is_silent("CTX423"));
}
