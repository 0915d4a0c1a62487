//! Lengths that vary as lengths do.

use std::time::Duration;

use crate::case::{Case, Forms, healthy};
use crate::program::{Body, block, body, cpu, span};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    healthy("exponential-latency", Forms::Sync, exponential),
    healthy("lognormal-latency", Forms::Sync, lognormal),
    healthy("uniform-latency", Forms::Sync, uniform),
    healthy("first-call-a-little-slower", Forms::Sync, first_call),
    healthy("few-misses", Forms::Sync, few_misses),
    healthy("five-per-cent-slower", Forms::Sync, five_per_cent),
    healthy("stalls-at-random", Forms::Sync, stalls_at_random),
];

/// Many requests of one kind, half of whose time is waiting.
fn requests(
    s: &mut Scene,
    count: usize,
    mut length: impl FnMut(&mut Scene, Duration, usize) -> Duration,
) -> Body {
    let (root, site) = (s.site(), s.site());
    let typical = s.ms(0.4);
    let requests = (0..count).map(|number| {
        let length = length(s, typical, number);
        let half = length / 2;
        span(root).run([cpu(half), span(site).run([block(length - half)])])
    });
    body(requests.collect::<Vec<_>>())
}

fn exponential(s: &mut Scene) -> Body {
    requests(s, 700, |s, typical, _| typical.mul_f64(s.rng.exponential()))
}

fn lognormal(s: &mut Scene) -> Body {
    requests(s, 700, |s, typical, _| {
        typical.mul_f64(s.rng.normal().exp())
    })
}

fn uniform(s: &mut Scene) -> Body {
    requests(s, 400, |s, typical, _| {
        typical.mul_f64(s.rng.between(0.2, 1.8))
    })
}

/// Worth a hundredth of the run.
fn first_call(s: &mut Scene) -> Body {
    requests(s, 600, |s, typical, number| {
        let length = s.rng.about(typical, 0.2);
        if number == 0 { typical * 6 } else { length }
    })
}

/// The slow mode has less than a twentieth of the calls and little of the time.
fn few_misses(s: &mut Scene) -> Body {
    requests(s, 500, |s, typical, _| {
        let length = s.rng.about(typical, 0.2);
        if s.rng.pick(1, 40) == 1 {
            length * 4
        } else {
            length
        }
    })
}

fn five_per_cent(s: &mut Scene) -> Body {
    requests(s, 500, |s, typical, number| {
        let drift = 1.0 + 0.05 * number as f64 / 500.0;
        s.rng.about(typical, 0.15).mul_f64(drift)
    })
}

fn stalls_at_random(s: &mut Scene) -> Body {
    requests(s, 400, |s, typical, _| {
        let length = s.rng.about(typical, 0.2);
        if s.rng.pick(1, 50) == 1 {
            length * 6
        } else {
            length
        }
    })
}
