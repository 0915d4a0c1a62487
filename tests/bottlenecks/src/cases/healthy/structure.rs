//! Loops, queries, files and threads as they should be.

use std::time::Duration;

use crate::case::{Case, Forms, healthy};
use crate::program::{Body, Real, Step, block, body, cpu, locked, repeat, span, threads, us};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    healthy("flat", Forms::Either, flat),
    healthy("one-function-is-the-program", Forms::Sync, one_function),
    healthy("loop-without-a-fixed-cost", Forms::Sync, plain_loop),
    healthy("linear-in-n", Forms::Sync, linear),
    healthy("every-key-once", Forms::Sync, every_key_once),
    healthy("four-queries", Forms::Sync, four_queries),
    healthy("rare-retries-with-backoff", Forms::Sync, backoff),
    healthy("little-lock-wait", Forms::Sync, little_lock_wait),
    healthy("slightly-uneven-threads", Forms::Sync, slightly_uneven),
    healthy("fast-consumer", Forms::Sync, fast_consumer),
    healthy("buffered-writes", Forms::Sync, buffered_writes),
    healthy("sync-once", Forms::Sync, sync_once),
    healthy("writer-nobody-waits-for", Forms::Sync, background_writer),
    healthy("one-connection", Forms::Sync, one_connection),
];

fn flat(s: &mut Scene) -> Body {
    s.share = 0.08;
    let site = s.site();
    let cost = s.ms(0.4);
    s.requests(25, cost, |s, _| vec![s.work(site, cost)])
}

/// That is what it is for.
fn one_function(s: &mut Scene) -> Body {
    s.share = 0.9;
    let site = s.site();
    let cost = s.ms(5.0);
    s.requests(30, cost, |s, _| {
        let length = s.rng.about(cost, 0.3);
        vec![span(site).run([cpu(length)])]
    })
}

/// Each call takes as long as it has bytes; one call for all would take as long.
fn plain_loop(s: &mut Scene) -> Body {
    let (outer, site) = (s.site(), s.site());
    let of_byte = s.ms(0.002);
    s.requests(20, of_byte * 20 * 60, |s, _| {
        let calls = (0..60).map(|_| {
            let bytes = s.rng.pick(5, 35);
            span(site)
                .set("bytes", bytes)
                .run([cpu(of_byte * bytes as u32)])
        });
        vec![span(outer).run(calls.collect::<Vec<_>>())]
    })
}

fn linear(s: &mut Scene) -> Body {
    let site = s.site();
    let of_each = s.ms(0.002);
    s.requests(40, of_each * 900, |s, _| {
        let n = 100.0 * 32_f64.powf(s.rng.unit());
        let length = s.rng.about(of_each.mul_f64(n), 0.05);
        vec![span(site).set("n", n as i64).run([cpu(length)])]
    })
}

fn every_key_once(s: &mut Scene) -> Body {
    let site = s.site();
    let cost = s.ms(1.0);
    s.requests(40, cost, |s, number| {
        let length = s.rng.about(cost, 0.3);
        vec![
            span(site)
                .set("cortex.key", format!("key {number}"))
                .run([cpu(length)]),
        ]
    })
}

/// Four different ones; a loop would be more.
fn four_queries(s: &mut Scene) -> Body {
    let sites: Vec<_> = (0..4).map(|_| s.site()).collect();
    let names: Vec<_> = (0..4).map(|_| s.name()).collect();
    let each = s.ms(0.6);
    s.requests(25, each * 4, |_, number| {
        let queries = sites.iter().zip(&names).map(|(&site, table)| {
            span(site)
                .set("db.system.name", "postgresql")
                .set(
                    "db.query.text",
                    format!("select * from {table} where id = {number}"),
                )
                .run([block(each)])
        });
        queries.collect()
    })
}

/// One request in forty is tried again, later and later.
fn backoff(s: &mut Scene) -> Body {
    let (outer, site) = (s.site(), s.site());
    let each = s.ms(0.8);
    s.requests(40, each, |_, number| {
        let failures = if number == 21 { 2 } else { 0 };
        let mut steps = Vec::new();
        for attempt in 0..failures {
            steps.push(span(site).set("error", true).run([block(each)]));
            steps.push(block(each * (1 << attempt)));
        }
        steps.push(span(site).run([block(each)]));
        vec![span(outer).run(steps)]
    })
}

fn little_lock_wait(s: &mut Scene) -> Body {
    let (root, site) = (s.site(), s.site());
    let works: Vec<_> = (0..10).map(|_| s.site()).collect();
    s.cores = 8;
    let lock = s.gate(1);
    let (own, hold) = (s.ms(0.3), s.ms(0.03));
    let bodies = (0..2).map(|_| {
        let rounds = (0..25).map(|_| {
            let mut steps: Vec<_> = works
                .iter()
                .map(|&work| {
                    let own = s.rng.about(own, 0.4);
                    span(work).run([cpu(own)])
                })
                .collect();
            steps.push(
                span(site)
                    .set("lock.name", "counters")
                    .later("lock.wait_ns")
                    .later("lock.hold_ns")
                    .run([locked(
                        lock,
                        "lock.wait_ns",
                        Some("lock.hold_ns"),
                        [cpu(hold)],
                    )]),
            );
            span(root).run(steps)
        });
        body(rounds.collect::<Vec<_>>())
    });
    body([threads(bodies.collect::<Vec<_>>())])
}

/// By an eighth.
fn slightly_uneven(s: &mut Scene) -> Body {
    let (root, region, part) = (s.site(), s.site(), s.site());
    let each = s.ms(7.0);
    let regions = (0..10).map(|_| {
        let parts = [1.12, 0.88].map(|share| body([span(part).run([cpu(each.mul_f64(share))])]));
        let region = span(region).run([threads(parts)]);
        s.request(root, each, [region])
    });
    body(regions.collect::<Vec<_>>())
}

fn fast_consumer(s: &mut Scene) -> Body {
    let (make, site) = (s.site(), s.site());
    let queue = s.queue();
    let (slow, fast) = (s.ms(1.5), s.ms(0.3));
    let pushes = repeat(80, |_| {
        Step::Many(vec![span(make).run([block(slow)]), Step::Push(queue)])
    });
    let each = span(site).set("queue.name", "jobs").with([cpu(fast)]);
    let drain = Step::Drain {
        queue,
        each,
        waited: Some("queue.wait_ns"),
    };
    body([threads([body([pushes, Step::Close(queue)]), body([drain])])])
}

fn buffered_writes(s: &mut Scene) -> Body {
    s.share = 0.15;
    let site = s.site();
    let cost = s.ms(0.5);
    s.requests(30, cost, |_, _| {
        let write = span(site)
            .set("cortex.kind", "io")
            .set("io.bytes", 65_536_usize);
        vec![write.run([Step::Real(Real::Write(65_536), cost)])]
    })
}

fn sync_once(s: &mut Scene) -> Body {
    s.share = 0.2;
    let (outer, site) = (s.site(), s.site());
    let cost = s.ms(3.0);
    s.requests(12, cost, |_, _| {
        let write = repeat(25, |_| Step::Real(Real::Write(64), us(2.0)));
        let sync = span(site)
            .set("cortex.kind", "fsync")
            .run([Step::Real(Real::Sync, cost)]);
        vec![span(outer).run([write, sync])]
    })
}

/// Its thread is busy with a slow disk all the time, and the program never waits for it.
fn background_writer(s: &mut Scene) -> Body {
    s.share = 0.08;
    let (site, write) = (s.site(), s.site());
    let cost = s.ms(0.3);
    let main = s.requests(30, cost, |s, _| vec![s.work(site, cost)]);
    let length = cost.mul_f64(30.0 / 0.08 * 0.9);
    let writes = repeat(30, |_| {
        span(write)
            .set("cortex.kind", "io")
            .set("io.bytes", 100_000_usize)
            .run([block(length / 30)])
    });
    body([threads([main, body([writes])])])
}

/// Connects once.
fn one_connection(s: &mut Scene) -> Body {
    s.share = 0.3;
    let site = s.site();
    let cost = s.ms(2.0);
    let connect = cost.mul_f64(1.5);
    s.requests(30, cost, |_, number| {
        let ask = span(site)
            .set("otel.kind", "client")
            .set("http.request.method", "GET")
            .set("server.address", "prices");
        let (connect, extra) = match number {
            0 => (connect.as_nanos() as i64, connect),
            _ => (0, Duration::ZERO),
        };
        vec![
            ask.set("net.connect_ns", connect)
                .run([block(cost + extra)]),
        ]
    })
}
