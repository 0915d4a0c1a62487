//! Operations that are slow at times, or in the course of time.

use std::time::Duration;

use crate::case::{Case, Forms, Tiers, plant};
use crate::program::{Body, Reading, Step, block, body, cpu, repeat, span, threads, us};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("rare-slow-calls", "CTX601", Forms::Sync, rare_slow_calls),
    plant("rare-slow-waits", "CTX601", Forms::Sync, rare_slow_waits),
    plant("hit-or-miss", "CTX602", Forms::Sync, hit_or_miss),
    plant("two-kinds-of-requests", "CTX602", Forms::Sync, two_kinds),
    plant("lazy-table", "CTX603", Forms::Sync, lazy_table),
    plant("lazy-connection", "CTX603", Forms::Sync, lazy_connection),
    plant(
        "flush-at-intervals",
        "CTX604",
        Forms::Sync,
        flush_at_intervals,
    ),
    plant(
        "slower-and-slower",
        "CTX605",
        Forms::Sync,
        slower_and_slower,
    ),
    plant("slower-in-steps", "CTX605", Forms::Sync, slower_in_steps),
    plant(
        "slower-than-promised",
        "CTX701",
        Forms::Sync,
        slower_than_promised,
    ),
    plant("workers-die", "CTX707", Forms::Sync, workers_die).only(Tiers::Trace),
];

/// Calls that take `usual`, one in `every` takes `slow`.
fn tail(s: &mut Scene, every: usize, step: fn(Duration) -> Step) -> Body {
    let site = s.site();
    s.planted(site);
    let usual = s.ms(0.25);
    let slow = (usual * 100).max(us(15_000.0));
    let cost = slow / every as u32;
    s.requests(700, cost, |s, number| {
        let length = s.rng.about(usual, 0.2);
        let is_slow = s.rng.pick(1, every) == 1 && number > 5 && !s.fixed;
        vec![span(site).run([step(if is_slow { slow } else { length })])]
    })
}

fn rare_slow_calls(s: &mut Scene) -> Body {
    tail(s, 40, cpu)
}

fn rare_slow_waits(s: &mut Scene) -> Body {
    tail(s, 45, block)
}

fn modes(s: &mut Scene, field: &'static str, often: usize, step: fn(Duration) -> Step) -> Body {
    let site = s.site();
    s.planted(site);
    let fast = s.ms(0.2);
    let slow = fast * 12;
    s.requests(400, slow / often as u32, |s, _| {
        let is_slow = s.rng.pick(1, often) == 1;
        let length = s
            .rng
            .about(if is_slow && !s.fixed { slow } else { fast }, 0.25);
        let mode = if is_slow && !s.fixed { "miss" } else { "hit" };
        vec![span(site).set(field, mode).run([step(length)])]
    })
}

fn hit_or_miss(s: &mut Scene) -> Body {
    modes(s, "cortex.cache", 4, cpu)
}

fn two_kinds(s: &mut Scene) -> Body {
    modes(s, "rpc.method", 3, cpu)
}

fn first_call(s: &mut Scene, step: fn(Duration) -> Step) -> Body {
    let site = s.site();
    s.planted(site);
    let first = s.ms(60.0);
    let usual = first / 200;
    let calls = 40;
    s.requests(calls as usize, first / calls, |s, number| {
        let length = if number == 0 && !s.fixed {
            first
        } else {
            usual
        };
        vec![span(site).run([step(length)])]
    })
}

fn lazy_table(s: &mut Scene) -> Body {
    first_call(s, cpu)
}

fn lazy_connection(s: &mut Scene) -> Body {
    first_call(s, block)
}

fn flush_at_intervals(s: &mut Scene) -> Body {
    let site = s.site();
    s.planted(site);
    let (usual, every) = (s.ms(0.3), 40);
    let stall = usual * 60;
    s.requests(440, stall / every as u32, |s, number| {
        let length = s.rng.about(usual, 0.15);
        let stalls = number % every == 23 && !s.fixed;
        vec![span(site).run([block(if stalls { stall } else { length })])]
    })
}

fn degrades(s: &mut Scene, factor: fn(f64) -> f64) -> Body {
    let site = s.site();
    s.planted(site);
    let (start, calls) = (s.ms(0.4), 500);
    s.requests(calls, start * 3, |s, number| {
        let done = number as f64 / calls as f64;
        let factor = if s.fixed { 1.0 } else { factor(done) };
        let length = s.rng.about(start, 0.15).mul_f64(factor);
        vec![span(site).run([cpu(length)])]
    })
}

fn slower_and_slower(s: &mut Scene) -> Body {
    degrades(s, |done| 1.0 + 6.0 * done)
}

fn slower_in_steps(s: &mut Scene) -> Body {
    degrades(s, |done| 1.0 + (done * 12.0).floor() * 0.5)
}

/// Four threads handle what comes into a queue at an even rate; with the plant three of them end one after the other.
fn workers_die(s: &mut Scene) -> Body {
    let root = s.site();
    s.planted(root);
    s.no_gain();
    s.share = 0.1;
    s.gauge(Reading::QueueDepth, 10.0);
    let all = 600;
    let mut bodies = Vec::new();
    for thread in 0..4 {
        let count = if s.fixed { all } else { all * (4 - thread) / 4 };
        let requests = (0..count).map(|_| {
            let taken = Step::Add(Reading::QueueDepth, -1.0);
            let request = s.request(root, us(4_000.0), [block(us(4_000.0))]);
            Step::Many(vec![taken, request, block(us(30_000.0))])
        });
        bodies.push(body(requests.collect::<Vec<_>>()));
    }
    let comes = repeat(all * 4, |_| {
        let more = Step::Add(Reading::QueueDepth, 1.0);
        Step::Many(vec![block(us(70_000.0 / 4.0)), more])
    });
    bodies.push(body([comes]));
    body([threads(bodies)])
}

/// Without the plant all take about as long. With it they wait for as long as chance has it, of which two speeds are no
/// part: those would be worth more than the target that they miss.
fn slower_than_promised(s: &mut Scene) -> Body {
    let root = s.site();
    s.planted(root);
    s.no_gain();
    let (usual, share) = (s.ms(0.5), s.share);
    let work: Vec<_> = (0..8).map(|_| s.site()).collect();
    s.limit(root, 95.0, usual * 3);
    let requests = (0..400).map(|_| {
        let slower = match s.fixed {
            true => 1.0,
            false => 0.25 + (1.0 + share) * s.rng.exponential(),
        };
        let steps = work.iter().map(|&site| {
            let length = s.rng.about(usual / 8, 0.3);
            span(site).run([block(length.mul_f64(slower))])
        });
        span(root).run(steps.collect::<Vec<_>>())
    });
    body(requests.collect::<Vec<_>>())
}
