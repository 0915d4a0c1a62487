//! Programs that compute more than they must, or leave threads with nothing to do.

use std::time::Duration;

use crate::case::{Case, Forms, plant};
use crate::program::{
    Body, How, SpanStep, Step, block, body, cpu, repeat, span, threads, together, wait,
};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("hot-function", "CTX001", Forms::Sync, hot_function),
    plant(
        "hot-below-wrappers",
        "CTX001",
        Forms::Sync,
        hot_below_wrappers,
    ),
    plant("hot-in-a-loop", "CTX001", Forms::Sync, hot_in_a_loop),
    plant("tiny-puts", "CTX004", Forms::Sync, tiny_puts),
    plant("lines-one-by-one", "CTX004", Forms::Sync, lines_one_by_one),
    plant("same-key-again", "CTX005", Forms::Either, same_key_again),
    plant(
        "same-key-across-requests",
        "CTX005",
        Forms::Sync,
        same_key_across,
    ),
    plant("square-of-n", "CTX006", Forms::Sync, square),
    plant("cube-of-rows", "CTX006", Forms::Sync, cube),
    plant("retries-at-once", "CTX009", Forms::Sync, retries),
    plant("failing-requests", "CTX009", Forms::Async, failing_requests),
    plant(
        "one-thread-gets-most",
        "CTX203",
        Forms::Sync,
        one_thread_gets_most,
    ),
    plant("growing-parts", "CTX203", Forms::Sync, growing_parts),
    plant("serial-stage", "CTX204", Forms::Sync, serial_stage),
    plant(
        "serial-part-of-each-step",
        "CTX204",
        Forms::Sync,
        serial_part,
    ),
];

fn hot_function(s: &mut Scene) -> Body {
    let hot = s.site();
    s.planted(hot);
    let cost = s.ms(2.0);
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(30, cost, |_, _| vec![span(hot).run([cpu(length)])])
}

fn hot_below_wrappers(s: &mut Scene) -> Body {
    let (outer, middle, hot) = (s.site(), s.site(), s.site());
    s.planted(hot);
    let cost = s.ms(2.0);
    let length = if s.fixed { cost / 20 } else { cost };
    s.requests(30, cost, |_, _| {
        let hot = span(hot).run([cpu(length)]);
        vec![span(outer).run([span(middle).run([hot])])]
    })
}

/// Different lengths, so that no batch of equal calls suggests itself.
fn hot_in_a_loop(s: &mut Scene) -> Body {
    let (outer, hot) = (s.site(), s.site());
    s.planted(hot);
    let (cost, calls) = (s.ms(4.0), 6);
    s.requests(20, cost, |s, _| {
        let lengths: Vec<_> = (0..calls)
            .map(|_| s.rng.about(cost / calls as u32, 0.5))
            .collect();
        let fixed = s.fixed;
        let calls = repeat(calls, |call| {
            let length = lengths[call];
            span(hot).run([cpu(if fixed { length / 20 } else { length })])
        });
        vec![span(outer).run([calls])]
    })
}

/// Calls that cost something each, and a little for each of the bytes; one call could do it for all.
fn batch(s: &mut Scene, calls: usize, field: &'static str, step: fn(Duration) -> Step) -> Body {
    let (outer, put) = (s.site(), s.site());
    s.planted(put);
    let (fixed_cost, of_each) = (s.ms(0.04), s.ms(0.000_5));
    let usual = fixed_cost + of_each * 16;
    s.requests(24, usual * calls as u32, |s, _| {
        let sizes: Vec<_> = (0..calls).map(|_| s.rng.pick(4, 28)).collect();
        let one = |size: usize| {
            span(put)
                .set(field, size)
                .run([step(fixed_cost + of_each * size as u32)])
        };
        let puts = match s.fixed {
            true => one(sizes.iter().sum()),
            false => Step::Many(sizes.into_iter().map(one).collect()),
        };
        vec![span(outer).run([puts])]
    })
}

fn tiny_puts(s: &mut Scene) -> Body {
    batch(s, 100, "bytes", cpu)
}

fn lines_one_by_one(s: &mut Scene) -> Body {
    batch(s, 80, "len", cpu)
}

fn keyed(s: &mut Scene, requests: usize, calls: usize, keys: usize) -> Body {
    let site = s.site();
    s.planted(site);
    let each = s.ms(0.8);
    let names: Vec<_> = (0..keys).map(|_| s.name()).collect();
    let mut known = vec![false; keys];
    let tasks = s.tasks;
    s.requests(requests, each * calls as u32, |s, number| {
        let calls = (0..calls).map(|call| {
            let key = (number * 7 + call) % keys;
            let is_known = std::mem::replace(&mut known[key], true);
            let looked_up = s.fixed && is_known;
            let length = if looked_up {
                Duration::from_micros(2)
            } else {
                each
            };
            let compute = match tasks {
                true => s.polite(length),
                false => cpu(length),
            };
            span(site)
                .set("cortex.key", names[key].clone())
                .run([compute])
        });
        calls.collect()
    })
}

fn same_key_again(s: &mut Scene) -> Body {
    keyed(s, 24, 6, 4)
}

fn same_key_across(s: &mut Scene) -> Body {
    keyed(s, 60, 2, 12)
}

fn growing(s: &mut Scene, field: &'static str, power: i32) -> Body {
    let site = s.site();
    s.planted(site);
    let calls = 40;
    let sizes: Vec<f64> = (0..calls)
        .map(|call| 100.0 * 32_f64.powf(f64::from(call * 17 % calls) / f64::from(calls - 1)))
        .collect();
    let of = |size: f64, power: i32| (size / 100.0).powi(power);
    let mean = sizes.iter().map(|&size| of(size, power)).sum::<f64>() / f64::from(calls);
    let cost = s.ms(1.5);
    let power = if s.fixed { 1 } else { power };
    // Three sizes in each request, because not all requests are looked at.
    s.requests(calls as usize, cost * 3, |_, number| {
        let call = |at: usize| {
            let size = sizes[(number + at * 13) % sizes.len()];
            let length = cost.mul_f64(of(size, power) / mean);
            span(site).set(field, size as i64).run([cpu(length)])
        };
        (0..3).map(call).collect()
    })
}

fn square(s: &mut Scene) -> Body {
    growing(s, "n", 2)
}

fn cube(s: &mut Scene) -> Body {
    growing(s, "rows", 3)
}

fn tries(s: &mut Scene, call: impl Fn(SpanStep, Duration) -> Step) -> Body {
    let (outer, site) = (s.site(), s.site());
    s.planted(site);
    let each = s.ms(1.5);
    s.requests(25, each * 4, |s, _| {
        let failed = if s.fixed { 0 } else { 3 };
        let attempts = repeat(failed + 1, |attempt| {
            let attempt = match attempt < failed {
                true => span(site).set("error", true),
                false => span(site),
            };
            call(attempt, each)
        });
        vec![span(outer).run([attempts])]
    })
}

fn retries(s: &mut Scene) -> Body {
    tries(s, |span, length| span.run([block(length)]))
}

fn failing_requests(s: &mut Scene) -> Body {
    tries(s, |span, length| {
        span.set("otel.kind", "client")
            .set("http.request.method", "GET")
            .set("server.address", "inventory")
            .run([wait(length)])
    })
}

/// Regions in which threads share work, in parts of these sizes.
fn uneven(s: &mut Scene, parts: &[f64]) -> Body {
    let (root, region, part) = (s.site(), s.site(), s.site());
    s.planted_at(&[region, part]);
    let whole = s.ms(16.0);
    let even = 1.0 / parts.len() as f64;
    let largest = parts.iter().fold(0.0, |one: f64, &other| one.max(other));
    let regions = (0..10).map(|_| {
        let bodies = parts.iter().map(|&share| {
            let share = if s.fixed { even } else { share };
            body([span(part).run([cpu(whole.mul_f64(share))])])
        });
        let region = span(region).run([threads(bodies)]);
        let (length, saved) = (whole.mul_f64(largest), whole.mul_f64(largest - even));
        s.request_saving(root, length, saved, [region])
    });
    body(regions.collect::<Vec<_>>())
}

fn one_thread_gets_most(s: &mut Scene) -> Body {
    uneven(s, &[0.82, 0.18])
}

fn growing_parts(s: &mut Scene) -> Body {
    uneven(s, &[0.1, 0.9])
}

/// Before a pool gets to work, one thread does what the pool could do.
fn serial(s: &mut Scene, steps: usize) -> Body {
    let (root, stage, item, other) = (s.site(), s.site(), s.site(), s.site());
    s.planted_at(&[item, stage]);
    let cost = s.ms(120.0) / steps as u32;
    let items = 12;
    let each = cost / items as u32;
    let pool = How::Threads(2);
    let rest = cost.div_f64(s.share) - cost;
    let steps = (0..steps).map(|_| {
        let serial = (0..items).map(|_| {
            let length = s.rng.about(each, 0.1);
            span(item).run([cpu(length)])
        });
        let serial: Vec<_> = serial.collect();
        let first = match s.fixed {
            true => together(pool, serial.into_iter().map(|item| body([item]))),
            false => Step::Many(serial),
        };
        let parallel = (0..16).map(|_| body([span(other).run([cpu(rest * 2 / 16)])]));
        let second = together(pool, parallel);
        s.wrapped(root, vec![span(stage).run([first]), second])
    });
    body(steps.collect::<Vec<_>>())
}

fn serial_stage(s: &mut Scene) -> Body {
    serial(s, 1)
}

fn serial_part(s: &mut Scene) -> Body {
    serial(s, 8)
}
