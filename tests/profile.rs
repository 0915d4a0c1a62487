//! Profiles of whole programs: any tree of spans, many threads, many sites, over time.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use support::Rig;
use tracing::span::Id;
use tracing::{Span, Subscriber, info_span};
use tracing_cortex::Overflow;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// A small generator of random numbers (SplitMix64), so that a run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Eight sites, by number.
fn span(site: u64) -> Span {
    match site % 8 {
        0 => info_span!("s0"),
        1 => info_span!("s1"),
        2 => info_span!("s2", number = site),
        3 => info_span!("s3"),
        4 => info_span!("s4"),
        5 => info_span!("s5", text = "text"),
        6 => info_span!("s6"),
        _ => info_span!("s7"),
    }
}

/// What a thread did: by site, activations that were entered, and spans that were created.
#[derive(Default)]
struct Done {
    entered: BTreeMap<u64, u64>,
    created: BTreeMap<u64, u64>,
}

impl Done {
    fn create(&mut self, random: &mut Random) -> (u64, Span) {
        let site = random.below(8);
        *self.created.entry(site).or_default() += 1;
        (site, span(site))
    }

    fn enter(&mut self, site: u64) {
        *self.entered.entry(site).or_default() += 1;
    }
}

const THREADS: usize = 8;
const STEPS: u64 = 3000;

/// Builds a random tree, and hands some of its spans to other threads.
fn grow(
    done: &mut Done,
    random: &mut Random,
    depth: u64,
    to_others: &[mpsc::Sender<(u64, Span)>],
    from_others: &mpsc::Receiver<(u64, Span)>,
) {
    for _ in 0..random.below(4) {
        let (site, span) = done.create(random);
        match random.below(5) {
            0 => {
                let other = random.below(THREADS as u64) as usize;
                // A receiver that is gone closes the span here, which is as good a place as any.
                let _ = to_others[other].send((site, span));
            }
            1 => drop(span),
            2 => {
                done.enter(site);
                span.in_scope(|| ());
                done.enter(site);
                span.in_scope(|| ());
            }
            _ => {
                done.enter(site);
                let _entered = span.enter();
                if depth < 6 {
                    grow(done, random, depth + 1, to_others, from_others);
                }
            }
        }
    }
    if let Ok((site, span)) = from_others.try_recv() {
        if random.below(3) > 0 {
            done.enter(site);
            span.in_scope(|| ());
        }
        let other = random.below(THREADS as u64) as usize;
        if random.below(2) == 0 {
            let _ = to_others[other].send((site, span));
        }
    }
}

/// Counts by name which spans the subscriber closes. A span that is lost in a channel whose two ends go at once is not.
#[derive(Clone, Default)]
struct Closes(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Closes {
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.span(&id).map_or("", |span| span.name());
        *self.0.lock().unwrap().entry(name).or_default() += 1;
    }
}

fn stress(seed: u64, streaming: bool) {
    let closes = Closes::default();
    let rig = Rig::beside(closes.clone(), streaming, |builder| {
        builder.overflow(Overflow::Block)
    });
    rig.ms(1);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, receiver)| {
            let (senders, start) = (senders.clone(), Arc::clone(&start));
            rig.spawn(&format!("stress-{number}"), move || {
                let mut random = Random(seed.wrapping_mul(1000) + number as u64);
                let mut done = Done::default();
                start.wait();
                for _ in 0..STEPS {
                    grow(&mut done, &mut random, 0, &senders, &receiver);
                }
                done
            })
        })
        .collect();
    drop(senders);
    let mut total = Done::default();
    for thread in threads {
        let done = thread.join().unwrap();
        for (site, count) in done.entered {
            *total.entered.entry(site).or_default() += count;
        }
        for (site, count) in done.created {
            *total.created.entry(site).or_default() += count;
        }
    }
    let captured = rig.finish();
    for site in 0..8 {
        let stats = captured.site(&format!("s{site}"));
        assert_eq!(
            stats.activations, total.entered[&site],
            "s{site}: activations, seed {seed}"
        );
        assert_eq!(
            stats.spans, total.created[&site],
            "s{site}: spans, seed {seed}"
        );
        let closed = closes.0.lock().unwrap()[format!("s{site}").as_str()];
        assert_eq!(
            stats.open,
            total.created[&site] - closed,
            "s{site}: open, seed {seed}"
        );
    }
    let losses = &captured.profile.losses;
    assert_eq!((losses.unbalanced_exits, losses.out_of_order_exits), (0, 0));
    assert_eq!((losses.unknown_spans, losses.nested_enters), (0, 0));
}

#[test]
fn random_trees_on_eight_threads_add_up() {
    for seed in 0..4 {
        stress(seed, seed % 2 == 0);
    }
}

#[test]
fn the_profile_can_be_read_at_any_time() {
    let rig = Rig::new(false, |builder| builder);
    let (stop, stopped) = mpsc::channel::<()>();
    let worker = rig.spawn("worker", move || {
        let mut random = Random(1);
        let mut done = Done::default();
        let (to, from) = mpsc::channel();
        let senders = vec![to; THREADS];
        while stopped.try_recv().is_err() {
            grow(&mut done, &mut random, 0, &senders, &from);
        }
        done
    });
    let mut before = 0;
    for _ in 0..25 {
        let profile = rig.guard.profile();
        let activations: u64 = profile.sites.iter().map(|row| row.stats.activations).sum();
        // An activation that ends while it is read may be missing this once, or be there twice.
        assert!(activations + 8 >= before, "{activations} after {before}");
        before = activations;
    }
    stop.send(()).unwrap();
    let done = worker.join().unwrap();
    let profile = rig.finish().profile;
    let activations: u64 = profile.sites.iter().map(|row| row.stats.activations).sum();
    assert_eq!(activations, done.entered.values().sum::<u64>());
}

#[test]
fn throughput_is_counted_by_window() {
    let rig = Rig::new(false, |builder| builder);
    let work = |count: u64| {
        for _ in 0..count {
            rig.run(|| info_span!("request").in_scope(|| info_span!("part").in_scope(|| ())));
        }
    };
    for (window, count) in [5, 3, 0].into_iter().enumerate() {
        work(count);
        rig.ms(50);
        // The windows follow the capture's clock, but somebody has to look at it: the collector does, once a window.
        support::wait_for(|| rig.guard.profile().throughput.per_window.len() == window + 2);
    }
    work(8);
    rig.ms(50);
    let captured = rig.finish();
    let throughput = &captured.profile.throughput;
    assert_eq!(throughput.window, Duration::from_millis(50).into());
    // Roots only; the last window is the one under way.
    assert_eq!(throughput.per_window, [5, 3, 0, 8]);
    assert_eq!(throughput.per_second, 80.0);
    let part = captured
        .profile
        .sites
        .iter()
        .find(|row| row.site.name == "part")
        .unwrap();
    assert_eq!(
        (part.per_window.as_slice(), part.per_second),
        ([5, 3, 0, 8].as_slice(), 80.0)
    );
}

#[test]
fn a_long_run_has_longer_windows() {
    let rig = Rig::new(false, |builder| builder);
    let work = || rig.run(|| info_span!("request").in_scope(|| ()));
    work();
    rig.clock.advance(Duration::from_secs(1000));
    support::wait_for(|| rig.guard.profile().throughput.per_window.len() > 1);
    work();
    let throughput = rig.finish().profile.throughput;
    assert_eq!(throughput.window, Duration::from_millis(12_800).into());
    assert!(throughput.per_window.len() <= 121);
    assert_eq!(throughput.per_window.iter().sum::<u64>(), 2);
}

#[test]
fn a_profile_serialises_with_the_same_numbers() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        info_span!("outer").in_scope(|| info_span!("inner").in_scope(|| rig.ms(3)));
    });
    let profile = rig.finish().profile;
    let json = serde_json::to_value(&profile).unwrap();
    assert_eq!(json["sites"][0]["name"], "inner");
    assert_eq!(json["sites"][0]["busy_ns"], 3_000_000);
    assert_eq!(
        json["paths"][1]["path"],
        serde_json::json!(["outer", "inner"])
    );
    assert_eq!(json["split"]["busy_ns"], 3_000_000);
}
