//! Readings that rise for a while and then do not, and machines that are busy because there is work.

use crate::case::{Case, Forms, Tiers, healthy};
use crate::cases::memory::steady;
use crate::program::{Body, Reading, Step, block, body, cpu, repeat, span, threads, us};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    healthy("warm-up-plateau", Forms::Sync, warm_up).only(Tiers::Trace),
    healthy("cache-up-to-its-cap", Forms::Sync, cache_to_its_cap).only(Tiers::Trace),
    healthy("capacity-doubles", Forms::Sync, doubling).only(Tiers::Trace),
    healthy("sawtooth-cache", Forms::Sync, sawtooth).only(Tiers::Trace),
    healthy("files-open-and-close", Forms::Sync, files).only(Tiers::Trace),
    healthy("memory-is-used", Forms::Sync, memory_is_used).only(Tiers::Trace),
    healthy("idle-daemon", Forms::Sync, idle_daemon),
    healthy("batch-on-all-cores", Forms::Sync, batch),
    healthy("short-run", Forms::Sync, short_run),
];

fn changes(s: &mut Scene, reading: Reading, start: f64, by: impl Fn(usize) -> f64) -> Body {
    s.gauge(reading, start);
    steady(s, 80, |s, number| {
        let amount = by(number) * s.rng.between(0.9, 1.1);
        vec![Step::Add(reading, amount)]
    })
}

fn warm_up(s: &mut Scene) -> Body {
    changes(s, Reading::ResidentBytes, 40e6, |number| {
        8e6 * (-(number as f64) / 15.0).exp()
    })
}

fn cache_to_its_cap(s: &mut Scene) -> Body {
    changes(s, Reading::ResidentBytes, 60e6, |number| {
        if number < 80 { 1.5e6 } else { 0.0 }
    })
}

fn doubling(s: &mut Scene) -> Body {
    changes(s, Reading::ResidentBytes, 40e6, |number| match number {
        4 => 8e6,
        12 => 16e6,
        30 => 32e6,
        _ => 0.0,
    })
}

fn sawtooth(s: &mut Scene) -> Body {
    s.gauge(Reading::ResidentBytes, 90e6);
    steady(s, 80, |_, number| {
        let amount = if number % 20 == 19 { -19e6 } else { 1e6 };
        vec![Step::Add(Reading::ResidentBytes, amount)]
    })
}

fn files(s: &mut Scene) -> Body {
    s.gauge(Reading::OpenFiles, 20.0);
    let mut open = 0.0;
    steady(s, 60, |s, _| {
        let now = s.rng.pick(0, 40) as f64;
        let change = now - open;
        open = now;
        vec![Step::Add(Reading::OpenFiles, change)]
    })
}

/// Nothing is fetched back from a disk.
fn memory_is_used(s: &mut Scene) -> Body {
    s.gauge(Reading::SystemMemoryPercent, 78.0);
    s.gauge(Reading::MajorFaults, 0.0);
    steady(s, 30, |_, _| Vec::new())
}

/// A request now and then.
fn idle_daemon(s: &mut Scene) -> Body {
    let root = s.site();
    s.share = 0.15;
    let rest = if s.live { 12_000.0 } else { 400_000.0 };
    let requests = (0..25).map(|_| {
        let request = s.request(root, us(300.0), [cpu(us(300.0))]);
        Step::Many(vec![request, block(us(rest))])
    });
    body(requests.collect::<Vec<_>>())
}

/// As many threads as cores, all busy.
fn batch(s: &mut Scene) -> Body {
    let sites: Vec<_> = (0..12).map(|_| s.site()).collect();
    let root = s.site();
    s.cores = 2;
    let bodies = (0..2).map(|_| {
        let items = (0..20).map(|_| {
            let steps = sites.iter().map(|&site| {
                let length = s.rng.about(us(900.0), 0.3);
                span(site).run([cpu(length)])
            });
            span(root).run(steps.collect::<Vec<_>>())
        });
        body(items.collect::<Vec<_>>())
    });
    body([threads(bodies.collect::<Vec<_>>())])
}

fn short_run(s: &mut Scene) -> Body {
    let (root, site) = (s.site(), s.site());
    let calls = repeat(3, |_| span(site).run([cpu(us(1_500.0))]));
    body([span(root).run([calls])])
}
