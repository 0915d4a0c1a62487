//! Threads that wait for one another, for a queue, or for a core.

use crate::case::{Case, Forms, Tiers, plant};
use crate::program::{
    Body, Gate, Site, SpanStep, Step, block, body, cpu, locked, repeat, span, threads, us,
};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("cores-are-full", "CTX007", Forms::Sync, cores_are_full),
    plant("hot-mutex", "CTX201", Forms::Sync, hot_mutex),
    plant(
        "writer-keeps-readers-out",
        "CTX201",
        Forms::Sync,
        long_holder,
    ),
    plant(
        "lock-held-over-a-file",
        "CTX202",
        Forms::Sync,
        held_over_a_file,
    ),
    plant(
        "lock-held-over-a-query",
        "CTX202",
        Forms::Sync,
        held_over_a_query,
    ),
    plant(
        "more-threads-than-cores",
        "CTX205",
        Forms::Sync,
        oversubscribed,
    ),
    plant("unlabelled-sleep", "CTX206", Forms::Sync, unlabelled_sleep),
    plant(
        "waits-without-a-name",
        "CTX206",
        Forms::Sync,
        waits_without_a_name,
    ),
    plant("slow-consumer", "CTX207", Forms::Sync, slow_consumer),
    plant(
        "slow-consumer-of-tasks",
        "CTX207",
        Forms::Async,
        slow_consumer,
    ),
    plant("ping-pong", "CTX208", Forms::Sync, ping_pong).only(Tiers::Live),
];

/// A critical section in a span that says how long it waited and held.
fn section(site: Site, name: &str, lock: Gate, steps: Vec<Step>) -> Step {
    with_lock(span(site), name).run([locked(lock, "lock.wait_ns", Some("lock.hold_ns"), steps)])
}

fn with_lock(span: SpanStep, name: &str) -> SpanStep {
    span.set("lock.name", name)
        .later("lock.wait_ns")
        .later("lock.hold_ns")
}

/// More than enough threads that compute all the time, each a little of everything.
fn busy_threads(s: &mut Scene, count: usize, whole: f64) -> Body {
    let root = s.site();
    let sites: Vec<_> = (0..12).map(|_| s.site()).collect();
    s.cores = 2;
    let each = s.ms(whole) / (6 * sites.len() * count) as u32;
    let bodies = (0..count).map(|_| {
        let requests = (0..6).map(|_| {
            let steps = sites.iter().map(|&site| {
                let length = s.rng.about(each, 0.2);
                span(site).run([cpu(length)])
            });
            span(root).run(steps.collect::<Vec<_>>())
        });
        body(requests.collect::<Vec<_>>())
    });
    body([threads(bodies.collect::<Vec<_>>())])
}

fn cores_are_full(s: &mut Scene) -> Body {
    s.planted_in_process();
    s.no_gain();
    s.also("CTX205");
    let count = if s.fixed { 2 } else { 4 };
    busy_threads(s, count, 500.0)
}

fn oversubscribed(s: &mut Scene) -> Body {
    s.planted_in_process();
    s.no_gain();
    s.also("CTX007");
    let count = if s.fixed { 2 } else { 32 };
    busy_threads(s, count, 700.0)
}

/// Threads that each do something of their own and then want a lock.
fn contended(s: &mut Scene, count: usize, rounds: usize, own: f64, hold: f64) -> Body {
    let (root, own_work, site) = (s.site(), s.site(), s.site());
    s.planted(site);
    let (own, hold) = (s.ms(own), s.ms(hold));
    s.cores = 8;
    let name = s.name();
    let locks: Vec<_> = (0..count).map(|_| s.gate(1)).collect();
    let bodies = (0..count).map(|thread| {
        let lock = locks[if s.fixed { thread } else { 0 }];
        let rounds: Vec<_> = (0..rounds)
            .map(|_| {
                let (own, hold) = (s.rng.about(own, 0.3), s.rng.about(hold, 0.2));
                let section = section(site, &name, lock, vec![cpu(hold)]);
                let own = span(own_work).run([cpu(own / 4), block(own - own / 4)]);
                span(root).run([own, section])
            })
            .collect();
        body(rounds)
    });
    body([threads(bodies.collect::<Vec<_>>())])
}

fn hot_mutex(s: &mut Scene) -> Body {
    contended(s, 8, 40, 0.4, 0.4)
}

/// Readers share the lock; a writer that holds it for long keeps all of them out.
fn long_holder(s: &mut Scene) -> Body {
    let (root, work, read, write) = (s.site(), s.site(), s.site(), s.site());
    s.planted_at(&[read, write]);
    s.cores = 8;
    let name = s.name();
    let lock = s.gate(1);
    let long = s.ms(4.0);
    let long = if s.fixed { long / 40 } else { long };
    let (short, own) = (s.ms(0.05), s.ms(0.5));
    // Below 50 ms nothing is judged, and a variant may take three quarters of the time.
    let writer = (0..20).map(|_| {
        let own = span(work).run([block(own)]);
        let held = section(write, &name, lock, vec![cpu(long)]);
        span(root).run([own, held])
    });
    let mut bodies = vec![body(writer.collect::<Vec<_>>())];
    for _ in 0..4 {
        let rounds = (0..40).map(|_| {
            let own = s.rng.about(own, 0.3);
            let own = span(work).run([block(own)]);
            let held = section(read, &name, lock, vec![cpu(short)]);
            span(root).run([own, held])
        });
        bodies.push(body(rounds.collect::<Vec<_>>()));
    }
    body([threads(bodies)])
}

/// What needs no lock is done while it is held.
fn held_over(s: &mut Scene, fields: fn(SpanStep) -> SpanStep) -> Body {
    let (root, own_work, site, inner) = (s.site(), s.site(), s.site(), s.site());
    s.planted(site);
    s.also("CTX201");
    s.cores = 8;
    let name = s.name();
    let lock = s.gate(1);
    let (own, hold, io) = (s.ms(0.8), s.ms(0.05), s.ms(2.0));
    let bodies = (0..4).map(|_| {
        let rounds: Vec<_> = (0..18)
            .map(|_| {
                let (own, io) = (s.rng.about(own, 0.3), s.rng.about(io, 0.2));
                let io = fields(span(inner)).run([block(io)]);
                let own = span(own_work).run([cpu(own / 4), block(own - own / 4)]);
                let mut steps = vec![own];
                match s.fixed {
                    true => {
                        steps.push(io);
                        steps.push(section(site, &name, lock, vec![cpu(hold)]));
                    }
                    false => {
                        steps.push(section(site, &name, lock, vec![cpu(hold), io]));
                    }
                }
                span(root).run(steps)
            })
            .collect();
        body(rounds)
    });
    body([threads(bodies.collect::<Vec<_>>())])
}

fn held_over_a_file(s: &mut Scene) -> Body {
    held_over(s, |span| {
        span.set("cortex.kind", "io").set("io.bytes", 65_536_usize)
    })
}

fn held_over_a_query(s: &mut Scene) -> Body {
    held_over(s, |span| {
        span.set("db.system.name", "postgresql")
            .set("db.query.text", "select total from accounts where id = $1")
    })
}

fn off_cpu(s: &mut Scene, calls: usize, cost: f64) -> Body {
    let site = s.site();
    s.planted(site);
    s.share = s.share.mul_add(0.5, 0.5);
    let cost = s.ms(cost);
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(calls, cost, |s, _| {
        let length = s.rng.about(length, 0.3);
        vec![span(site).run([cpu(length / 20), block(length - length / 20)])]
    })
}

fn unlabelled_sleep(s: &mut Scene) -> Body {
    off_cpu(s, 30, 4.0)
}

fn waits_without_a_name(s: &mut Scene) -> Body {
    off_cpu(s, 25, 9.0)
}

/// A producer that is faster than the one who takes its items.
fn slow_consumer(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    s.workers = 2;
    let queue = s.queue();
    let name = s.name();
    let (make, take) = (s.ms(0.4), s.ms(2.0));
    let pushes = repeat(120, |_| {
        Step::Many(vec![pause(s.tasks, make), Step::Push(queue)])
    });
    let producer = body([pushes, Step::Close(queue)]);
    let consumers = if s.fixed { 6 } else { 1 };
    let each = span(site)
        .set("queue.name", name)
        .with([cpu(us(50.0)), pause(s.tasks, take)]);
    let consumer = body([Step::Drain {
        queue,
        each,
        waited: Some("queue.wait_ns"),
    }]);
    let mut bodies = vec![producer];
    bodies.extend(std::iter::repeat_n(consumer, consumers));
    match s.tasks {
        true => body([crate::program::together(crate::program::How::Tasks, bodies)]),
        false => body([threads(bodies)]),
    }
}

fn pause(tasks: bool, length: std::time::Duration) -> Step {
    match tasks {
        true => Step::Wait(length),
        false => block(length),
    }
}

/// Threads that hand one token back and forth.
fn ping_pong(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted_in_process();
    s.no_gain();
    s.only_low();
    let turns = s.gate(1);
    let count = if s.fixed { 50 } else { 60_000 };
    let rest = us(if s.fixed { 10_000.0 } else { 0.0 });
    let bodies = (0..4).map(|_| {
        let turn = repeat(count / 50, |_| {
            let pass = repeat(50, |_| crate::program::inside(turns, []));
            span(site).run([pass, block(rest)])
        });
        body([turn])
    });
    body([threads(bodies.collect::<Vec<_>>())])
}
