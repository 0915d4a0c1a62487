//! Programs that ask a database too often, for too much, or wait for their turn.

use std::time::Duration;

use crate::case::{Case, Forms, plant};
use crate::program::{
    Body, How, Real, Site, SpanStep, Step, block, body, cpu, locked, repeat, span, together, us,
    wait,
};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("query-per-row", "CTX410", Forms::Sync, query_per_row),
    plant(
        "query-per-row-of-a-task",
        "CTX410",
        Forms::Async,
        query_per_row_of_a_task,
    ),
    plant(
        "query-per-row-of-two-levels",
        "CTX410",
        Forms::Sync,
        two_levels,
    ),
    plant("real-queries-per-row", "CTX410", Forms::Sync, real_queries),
    plant(
        "events-of-queries-per-row",
        "CTX410",
        Forms::Sync,
        events_per_row,
    ),
    plant(
        "query-without-an-index",
        "CTX411",
        Forms::Either,
        without_an_index,
    ),
    plant("one-report-query", "CTX411", Forms::Sync, report_query),
    plant("pool-of-one", "CTX412", Forms::Async, pool_of_one),
    plant(
        "all-rows-for-ten",
        "CTX413",
        Forms::Either,
        all_rows_for_ten,
    ),
];

fn query(site: Site, text: String) -> SpanStep {
    span(site)
        .set("db.system.name", "postgresql")
        .set("db.query.text", text)
}

fn waits(s: &Scene, length: Duration) -> Step {
    match s.tasks {
        true => wait(length),
        false => block(length),
    }
}

/// One query for each row of another one's answer.
fn per_row(s: &mut Scene, rows: usize, each: f64) -> Body {
    let (outer, list, one) = (s.site(), s.site(), s.site());
    s.planted(one);
    let (each, table) = (s.ms(each), s.name());
    s.requests(10, each * rows as u32, |s, number| {
        let first = query(list, format!("select id from {table} limit 100")).run([waits(s, each)]);
        let rows = rows + number % 3;
        let rest = match s.fixed {
            true => query(one, format!("select * from {table} where id = any($1)"))
                .run([waits(s, each)]),
            false => {
                let each = waits(s, each);
                repeat(rows, |row| {
                    query(one, format!("select * from {table} where id = {row}"))
                        .run([each.clone()])
                })
            }
        };
        vec![span(outer).run([first, rest])]
    })
}

fn query_per_row(s: &mut Scene) -> Body {
    per_row(s, 40, 0.4)
}

fn query_per_row_of_a_task(s: &mut Scene) -> Body {
    per_row(s, 12, 2.5)
}

/// For each order its lines, for each line its product.
fn two_levels(s: &mut Scene) -> Body {
    let (outer, order, line, product) = (s.site(), s.site(), s.site(), s.site());
    s.planted(product);
    s.also("CTX410");
    let (each, table) = (s.ms(0.3), s.name());
    let (orders, lines) = (5, 12);
    s.requests(8, each * (orders * lines) as u32, |s, _| {
        let ask = |site, text: String| query(site, text).run([block(each)]);
        let of_order = |order: usize| {
            let lines_of = ask(line, format!("select * from lines where parent = {order}"));
            match s.fixed {
                true => lines_of,
                false => Step::Many(vec![
                    lines_of,
                    repeat(lines, |line| {
                        ask(product, format!("select * from {table} where id = {line}"))
                    }),
                ]),
            }
        };
        let all = repeat(orders, |number| span(order).run([of_order(number)]));
        let once = ask(product, format!("select * from {table} where id = any($1)"));
        match s.fixed {
            true => vec![span(outer).run([all, once])],
            false => vec![span(outer).run([all])],
        }
    })
}

/// On SQLite, where the live tier has one; the rest of the time is the way to a server.
fn real_queries(s: &mut Scene) -> Body {
    let (outer, one) = (s.site(), s.site());
    s.planted(one);
    let (each, rows) = (s.ms(0.5), 30);
    s.requests(8, each * rows as u32, |s, _| {
        let ask = |text: String| query(one, text.clone()).run([Step::Real(Real::Sql(text), each)]);
        let queries = match s.fixed {
            true => ask("select * from items where owner < 30".to_owned()),
            false => repeat(rows, |row| {
                ask(format!("select * from items where owner = {row}"))
            }),
        };
        vec![span(outer).run([queries])]
    })
}

/// Without spans: all that is known is what the database's library says when a query has ended.
fn events_per_row(s: &mut Scene) -> Body {
    let outer = s.site();
    let table = s.name();
    s.planted_as(vec![format!("query: select * from {table} where id = ?")]);
    let (each, rows) = (s.ms(0.5), 30);
    s.requests(8, each * rows as u32, |s, _| {
        let ask = |text: String| {
            let event = Step::QueryEvent {
                text,
                elapsed: each,
                rows: 1,
            };
            Step::Many(vec![block(each), event])
        };
        let queries = match s.fixed {
            true => ask(format!("select * from {table} where id = any($1)")),
            false => repeat(rows, |row| {
                ask(format!("select * from {table} where id = {row}"))
            }),
        };
        vec![span(outer).run([queries])]
    })
}

fn slow(s: &mut Scene, requests: usize, cost: f64) -> Body {
    let site = s.site();
    s.planted(site);
    let (cost, table) = (s.ms(cost.max(22.0 / s.scale)), s.name());
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(requests, cost, |s, number| {
        let length = s.rng.about(length, 0.05);
        let text = format!("select * from {table} where lower(name) = 'n{number}'");
        vec![query(site, text).run([waits(s, length)])]
    })
}

fn without_an_index(s: &mut Scene) -> Body {
    slow(s, 8, 30.0)
}

fn report_query(s: &mut Scene) -> Body {
    slow(s, 4, 60.0)
}

fn pool_of_one(s: &mut Scene) -> Body {
    let (root, site, render) = (s.site(), s.site(), s.site());
    s.planted(site);
    s.workers = 2;
    let pool = s.gate(if s.fixed { 8 } else { 1 });
    let (length, own, table) = (s.ms(3.0), us(100.0), s.name());
    let clients = (0..8).map(|client| {
        let requests = (0..10).map(|number| {
            let length = s.rng.about(length, 0.1);
            let id = client * 100 + number;
            let ask = query(site, format!("select * from {table} where id = {id}"))
                .set("pool.name", "main")
                .later("pool.wait_ns")
                .run([locked(pool, "pool.wait_ns", None, [wait(length)])]);
            let answer = span(render).run([cpu(own), Step::Yield]);
            span(root).run([ask, answer])
        });
        body(requests.collect::<Vec<_>>())
    });
    body([together(How::Tasks, clients.collect::<Vec<_>>())])
}

fn all_rows_for_ten(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    s.also("CTX411");
    let (cost, table) = (s.ms(14.0), s.name());
    let (length, rows) = match s.fixed {
        true => (cost / 20, 10_usize),
        false => (cost, 10_000),
    };
    s.requests(12, cost, |s, _| {
        let text = format!("select * from {table} order by day");
        let ask = query(site, text)
            .set("rows", rows)
            .set("db.rows_used", 10_usize);
        vec![ask.run([waits(s, length)])]
    })
}
