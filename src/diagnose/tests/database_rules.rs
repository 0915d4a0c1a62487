//! CTX410 to 413, and the table of queries.

use super::requests::{Field, Request, number, query, said, served, served_often, with_others};
use crate::diagnose::planted::MS;
use crate::model::{Confidence, Nanos, Severity};

const ITEM: (u32, &str) = (2, "find");

fn by_id(at: u64) -> Vec<Field> {
    vec![query(&format!("SELECT * FROM items WHERE order_id = {at}"))]
}

/// 60 ms, of which `queries` milliseconds are queries of one shape in sequence.
fn looping(queries: u64) -> Request {
    Request::new(60_000).calls(ITEM, 0, 1_000, queries, by_id)
}

#[test]
fn a_query_per_row_is_found_with_its_number_and_what_one_query_saves() {
    let planted = served(&[looping(50), looping(40), looping(50)]);
    let finding = planted.finding("CTX410");
    assert_eq!(
        (finding.site.as_str(), finding.severity, finding.confidence),
        ("find", Severity::Critical, Confidence::High)
    );
    // 137 of 180 ms.
    let saving = finding.saving.unwrap();
    assert!((saving - 137.0 / 180.0).abs() < 1e-6, "{finding:#?}");
    assert!(finding.gain.low.unwrap() <= finding.gain.likely.unwrap());
    assert!(finding.gain.bound.unwrap() >= 180.0 / 40.0 - 1e-6);
    let message = &finding.message;
    assert!(
        message.contains("`root` ran `SELECT * FROM items WHERE order_id = ?` 40 to 50 times"),
        "{message}"
    );
    assert!(message.contains("seen in 3 operations"), "{message}");
    assert!(planted.findings("CTX411").is_empty(), "each one is fast");
    assert!(planted.findings("CTX001").is_empty());
}

#[test]
fn one_query_for_all_rows_is_healthy() {
    let request = Request::new(60_000).with(
        ITEM,
        0,
        (1_000, 3_000),
        &[
            query("SELECT * FROM items WHERE order_id = ANY($1)"),
            number("rows", 50),
        ],
    );
    assert!(served_often(3, &request).is_silent("CTX410"));
}

#[test]
fn below_five_queries_or_in_one_operation_only_it_is_no_pattern() {
    assert!(served_often(20, &Request::new(4_500).calls(ITEM, 0, 0, 4, by_id)).is_silent("CTX410"));
    let five = Request::new(6_000).calls(ITEM, 0, 0, 5, by_id);
    assert_eq!(served_often(10, &five).findings("CTX410").len(), 1);
    let once = |queries| {
        let slow = Request::new(100_000).calls(ITEM, 0, 0, queries, by_id);
        served(&[slow])
    };
    assert!(once(19).is_silent("CTX410"));
    assert_eq!(once(20).findings("CTX410").len(), 1);
}

#[test]
fn queries_side_by_side_inserts_pages_portions_retries_and_caches_are_left_alone() {
    let edited = |edit: fn(&mut crate::model::TreeSpan)| served_often(3, &looping(50).edit(edit));
    let beside = edited(|span| span.end = Nanos(span.end.0 + 10_000_000));
    assert!(beside.is_silent("CTX410"));
    assert!(edited(|span| span.error = true).is_silent("CTX410"));
    let with = |fields: &'static dyn Fn() -> Vec<Field>| {
        let request = Request::new(60_000).calls(ITEM, 0, 1_000, 50, |_| fields());
        served_often(3, &request)
    };
    for fields in [
        &(|| vec![query("INSERT INTO t VALUES (1)")]) as &'static dyn Fn() -> Vec<Field>,
        &|| vec![query("SELECT * FROM t ORDER BY id LIMIT 50 OFFSET 100")],
        &|| {
            vec![
                query("SELECT * FROM t WHERE id > 7 LIMIT 500"),
                number("rows", 500),
            ]
        },
        &|| {
            vec![
                said("db.system.name", "redis"),
                said("db.operation.name", "GET"),
            ]
        },
        &|| vec![query("BEGIN")],
    ] {
        assert!(with(fields).is_silent("CTX410"), "{:?}", fields());
    }
}

#[test]
fn a_function_around_each_query_hides_nothing_and_different_queries_are_not_one() {
    let wrapped = (0..20).fold(Request::new(60_000), |request, at| {
        let (from, index) = (at * 2_000, at as u32 * 2 + 1);
        request
            .with((3, "load"), 0, (from, from + 1_100), &[])
            .with(ITEM, index, (from + 50, from + 1_050), &by_id(at))
    });
    let finding = served_often(2, &wrapped).finding("CTX410");
    assert!(
        finding.message.starts_with("`root` ran"),
        "{}",
        finding.message
    );
    // With the functions around them the queries take 20 ms of 60, and the first stays.
    assert!(
        (finding.saving.unwrap() - 20.9 / 60.0).abs() < 1e-6,
        "{finding:#?}"
    );
    let different = Request::new(60_000).calls(ITEM, 0, 0, 20, |at| {
        vec![query(&format!("SELECT * FROM t_{at} WHERE id = 1"))]
    });
    assert!(served_often(2, &different).is_silent("CTX410"));
}

#[test]
fn a_slow_query_is_named_with_the_columns_that_it_filters_by() {
    let slow = |ms: u64| {
        let fields = [query(
            "SELECT * FROM orders WHERE user_id = 7 AND state = 'open'",
        )];
        let request =
            Request::new(100_000).with((2, "load"), 0, (1_000, 1_000 + ms * 1_000), &fields);
        served_often(5, &request)
    };
    let planted = slow(60);
    let finding = planted.finding("CTX411");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("load", Severity::Critical)
    );
    assert!(
        finding.recommendation.contains("user_id, state"),
        "{}",
        finding.recommendation
    );
    assert!((finding.saving.unwrap() - 0.6).abs() < 1e-6);
    // Half of it.
    assert!((finding.gain.likely.unwrap() - 1.0 / 0.7).abs() < 1e-6);
    assert!((finding.gain.bound.unwrap() - 2.5).abs() < 1e-6);
    assert!(slow(19).is_silent("CTX411"), "no fifth of the time");
    assert!(planted.findings("CTX410").is_empty());
}

#[test]
fn a_query_of_a_second_is_slow_however_rare_and_one_of_half_a_second_must_be_usual() {
    let of = |lengths: &[u64]| {
        let requests: Vec<_> = lengths
            .iter()
            .map(|ms| {
                let fields = [query("SELECT 1")];
                Request::new(9_000_000).with((2, "q"), 0, (0, ms * 1_000), &fields)
            })
            .collect();
        served(&requests)
    };
    assert_eq!(of(&[1_000]).findings("CTX411").len(), 1);
    assert!(of(&[600, 600]).is_silent("CTX411"));
    assert_eq!(of(&[600, 600, 600]).findings("CTX411").len(), 1);
    let usual: Vec<u64> = [600].into_iter().chain([5; 30]).collect();
    assert!(of(&usual).is_silent("CTX411"));
}

#[test]
fn waiting_for_a_pool_of_one_is_found_and_opening_the_first_connection_is_not() {
    let acquire = |wait: u64, to: u64| {
        let fields = [
            number("pool.wait_ns", wait as i64 * 1_000),
            query("SELECT 1"),
        ];
        Request::new(20_000).with((2, "run"), 0, (1_000, to), &fields)
    };
    let finding = served_often(30, &acquire(5_000, 8_000)).finding("CTX412");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("run", Severity::High)
    );
    assert!(
        (finding.saving.unwrap() - 0.25).abs() < 1e-6,
        "{finding:#?}"
    );
    let fields = [number("pool.wait_ns", 50_000_000), query("SELECT 1")];
    let long = Request::new(100_000).with((2, "run"), 0, (0, 60_000), &fields);
    let waiting = served_often(30, &long);
    assert_eq!(waiting.findings("CTX412").len(), 1);
    assert!(
        waiting.findings("CTX411").is_empty(),
        "the query takes 10 ms"
    );
    assert!(served_often(19, &acquire(5_000, 8_000)).is_silent("CTX412"));
    let of_many = |seen| with_others(served_often(seen, &acquire(5_000, 8_000)), 5);
    assert_eq!(
        of_many(17).findings("CTX412").len(),
        1,
        "17 of 85 were seen"
    );
    assert!(of_many(9).is_silent("CTX412"), "too few of 45 were seen");
    assert!(served_often(30, &acquire(50, 8_000)).is_silent("CTX412"));
    let mut requests = vec![acquire(5, 3_000); 30];
    requests[0] = acquire(18_000, 19_500);
    assert!(served(&requests).is_silent("CTX412"));
    let named = Request::new(20_000).with(
        (2, "acquire"),
        0,
        (0, 4_000),
        &[said("pool.name", "main"), number("pool.max", 1)],
    );
    let finding = served_often(30, &named).finding("CTX412");
    assert!(
        finding
            .message
            .contains("connection of 1 from the pool `main`"),
        "{}",
        finding.message
    );
}

#[test]
fn rows_that_nobody_uses_are_the_reason_rather_than_slowness() {
    let with = |rows: i64, used: Option<i64>| {
        let mut fields = vec![
            query("SELECT * FROM t"),
            number("db.response.returned_rows", rows),
        ];
        fields.extend(used.map(|used| number("db.rows_used", used)));
        let request = Request::new(100_000).with((2, "all"), 0, (0, 60_000), &fields);
        served_often(5, &request)
    };
    let planted = with(10_000, Some(10));
    let finding = planted.finding("CTX413");
    assert!(
        finding
            .message
            .contains("returned 10000 rows on average; 10 of them were used")
    );
    // 99.9 % of 60 %; half is what is promised.
    assert!(
        (finding.saving.unwrap() - 0.5994).abs() < 1e-6,
        "{finding:#?}"
    );
    assert!((finding.gain.low.unwrap() - 1.0 / 0.7).abs() < 1e-6);
    assert!(planted.findings("CTX411").is_empty());
    for healthy in [
        with(10_000, Some(9_000)),
        with(900, Some(10)),
        with(10_000, None),
    ] {
        assert!(healthy.is_silent("CTX413"));
        assert_eq!(healthy.findings("CTX411").len(), 1);
    }
}

#[test]
fn queries_are_listed_by_shape_with_what_they_brought() {
    let request = looping(10).with(
        (3, "count"),
        0,
        (20_000, 50_000),
        &[query("SELECT count(*) FROM t"), number("rows", 1)],
    );
    let mut planted = served_often(4, &request);
    let tables = planted.diagnosis().operations.unwrap();
    assert!(tables.exact);
    assert_eq!(
        (tables.trees, tables.roots, tables.network.len()),
        (4, 4, 0)
    );
    let rows: Vec<_> = tables
        .database
        .iter()
        .map(|row| (row.shape.as_str(), row.count, row.mean.0 / 1_000, row.rows))
        .collect();
    assert_eq!(
        rows,
        [
            ("SELECT count(*) FROM t", 4, 30_000, Some(1.0)),
            ("SELECT * FROM items WHERE order_id = ?", 40, 1_000, None),
        ]
    );
    assert!((tables.database[0].share - 0.5).abs() < 1e-9);
    // Each tree stands for ten roots.
    let group = &mut planted.profile.trees[0];
    (group.roots, group.wall) = (40, Nanos(group.wall.0 * 10));
    planted.profile.wall = Nanos(planted.profile.wall.0 * 10);
    planted.profile.paths[0].stats.busy = planted.profile.wall;
    let tables = planted.diagnosis().operations.unwrap();
    assert!(!tables.exact);
    assert_eq!(tables.database[1].count, 400);
    // The others took longer than those in the sample, but asked as often.
    planted.profile.trees[0].wall = Nanos(planted.profile.wall.0 * 3 / 2);
    planted.profile.wall = planted.profile.trees[0].wall;
    planted.profile.paths[0].stats.busy = planted.profile.wall;
    let tables = planted.diagnosis().operations.unwrap();
    let queries = &tables.database[1];
    assert_eq!((queries.count, queries.mean.0), (400, MS));
    assert_eq!(queries.total.0, 600 * MS);
}

#[test]
fn a_query_inside_another_one_is_a_part_of_it() {
    let request = Request::new(60_000)
        .with(
            (3, "save"),
            0,
            (0, 50_000),
            &[said("db.system.name", "sqlite")],
        )
        .calls(ITEM, 1, 0, 30, by_id);
    let planted = served_often(3, &request);
    let tables = planted.diagnosis().operations.unwrap();
    let rows = tables
        .database
        .iter()
        .map(|row| (row.shape.as_str(), row.count));
    assert_eq!(Vec::from_iter(rows), [("save", 3)]);
    assert!(planted.is_silent("CTX410"));
}
