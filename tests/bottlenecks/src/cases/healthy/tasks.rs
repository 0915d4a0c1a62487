//! Tasks that let others have their turn.

use crate::case::{Case, Forms, Tiers, healthy};
use crate::program::{Body, How, Step, body, cpu, inside, repeat, span, together, us, wait};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    healthy("short-polls", Forms::Async, short_polls),
    healthy("computes-on-a-thread-of-its-own", Forms::Async, blocking),
    healthy("queries-side-by-side", Forms::Async, side_by_side),
    healthy("pipelined-gets", Forms::Async, pipelined),
    healthy("awaits-that-depend", Forms::Async, dependent),
    healthy("one-await-a-request", Forms::Async, one_await),
    healthy("bounded-fan-out", Forms::Async, bounded),
    healthy("daemon-task", Forms::Async, daemon).only(Tiers::Trace),
];

fn short_polls(s: &mut Scene) -> Body {
    let site = s.site();
    s.share = 0.1;
    s.workers = 2;
    s.at_once(20, 2, us(1_200.0), |_| {
        let polls = repeat(20, |_| Step::Many(vec![cpu(us(60.0)), wait(us(90.0))]));
        vec![span(site).run([polls])]
    })
}

fn blocking(s: &mut Scene) -> Body {
    let (root, site, other) = (s.site(), s.site(), s.site());
    let rounds = (0..4).map(|_| {
        let requests = (0..2).map(|_| {
            let compute = Step::Blocking(body([span(site).run([cpu(us(40_000.0))])]));
            let answer = s.work(other, us(300.0));
            body([span(root).run([compute, answer])])
        });
        together(How::Tasks, requests.collect::<Vec<_>>())
    });
    body(rounds.collect::<Vec<_>>())
}

/// Many queries of one shape at the same time are one wait.
fn at_the_same_time(s: &mut Scene, count: usize, system: &'static str) -> Body {
    let (outer, site) = (s.site(), s.site());
    s.share = 0.4;
    let (each, table) = (s.ms(4.0), s.name());
    s.requests(15, each, |s, _| {
        let queries = (0..count).map(|number| {
            let length = s.rng.about(each, 0.2);
            let text = match system {
                "redis" => format!("GET {table}:{number}"),
                _ => format!("select * from {table} where id = {number}"),
            };
            let query = span(site)
                .set("db.system.name", system)
                .set("db.query.text", text);
            body([query.run([wait(length)])])
        });
        let queries: Vec<_> = queries.collect();
        vec![span(outer).run([together(How::Join, queries)])]
    })
}

fn side_by_side(s: &mut Scene) -> Body {
    at_the_same_time(s, 20, "postgresql")
}

fn pipelined(s: &mut Scene) -> Body {
    at_the_same_time(s, 30, "redis")
}

/// The second asks for what the first has answered.
fn dependent(s: &mut Scene) -> Body {
    let (login, load) = (s.site(), s.site());
    s.share = 0.3;
    let each = s.ms(3.0);
    s.requests(15, each * 2, |_, number| {
        let first = span(login).set("cortex.user_id", number);
        let second = span(load).set("cortex.user_id", number);
        vec![first.run([wait(each)]), second.run([wait(each)])]
    })
}

fn one_await(s: &mut Scene) -> Body {
    let site = s.site();
    s.share = 0.3;
    let cost = s.ms(3.0);
    s.requests(20, cost, |s, _| {
        let length = s.rng.about(cost, 0.2);
        vec![span(site).run([wait(length)])]
    })
}

/// Eight at a time.
fn bounded(s: &mut Scene) -> Body {
    let site = s.site();
    let places = s.gate(8);
    let length = s.ms(2.0);
    let tasks = (0..160).map(|_| {
        let length = s.rng.about(length, 0.2);
        body([inside(
            places,
            [span(site).run([wait(length), cpu(us(50.0))])],
        )])
    });
    body([together(How::Tasks, tasks.collect::<Vec<_>>())])
}

/// It is meant to be open to the end.
fn daemon(s: &mut Scene) -> Body {
    let site = s.site();
    let never = s.gate(0);
    s.share = 0.1;
    let cost = us(500.0);
    let daemon = span(site)
        .set("cortex.daemon", true)
        .run([inside(never, [])]);
    let root = s.site();
    let mut steps = vec![Step::Detached(body([daemon]))];
    for _ in 0..60 {
        steps.push(s.request(root, cost, [wait(cost)]));
        steps.push(wait(us(95_000.0)));
    }
    body(steps)
}
