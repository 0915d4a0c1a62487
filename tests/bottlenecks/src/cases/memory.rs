//! Processes that take more and more of something. Minutes on virtual time, so that the trace tier alone has them.

use crate::case::{Case, Forms, Tiers, plant};
use crate::program::{Body, Reading, Step, block, body, us};
use crate::scene::Scene;

pub const CASES: &[Case] = &[
    plant("map-without-an-end", "CTX303", Forms::Sync, unbounded_map).only(Tiers::Trace),
    plant("whole-file-in-memory", "CTX305", Forms::Sync, whole_file).only(Tiers::Trace),
    plant("memory-is-short", "CTX306", Forms::Sync, memory_is_short).only(Tiers::Trace),
    plant("files-stay-open", "CTX308", Forms::Sync, files_stay_open).only(Tiers::Trace),
    plant(
        "thread-per-request",
        "CTX309",
        Forms::Sync,
        thread_per_request,
    )
    .only(Tiers::Trace),
];

/// A program that handles a request now and then for so many seconds; each may change a reading.
pub fn steady(
    s: &mut Scene,
    seconds: usize,
    mut change: impl FnMut(&mut Scene, usize) -> Vec<Step>,
) -> Body {
    let root = s.site();
    s.share = 0.1;
    let requests = (0..seconds * 4).map(|number| {
        let changes = change(s, number);
        let request = s.request(root, us(1_000.0), [block(us(1_000.0))]);
        Step::Many([changes, vec![request, block(us(235_000.0))]].concat())
    });
    body(requests.collect::<Vec<_>>())
}

fn grows(s: &mut Scene, reading: Reading, start: f64, by: f64) -> Body {
    s.planted_in_process();
    s.no_gain();
    s.gauge(reading, start);
    let by = by * s.scale;
    steady(s, 80, |s, number| {
        // At first both grow; with the plant it goes on.
        let amount = s.rng.between(0.0, 2.0) * by;
        let goes_on = !s.fixed || number < 60;
        goes_on
            .then_some(Step::Add(reading, amount))
            .into_iter()
            .collect()
    })
}

fn unbounded_map(s: &mut Scene) -> Body {
    grows(s, Reading::ResidentBytes, 120e6, 0.6e6)
}

fn files_stay_open(s: &mut Scene) -> Body {
    grows(s, Reading::OpenFiles, 14.0, 1.0)
}

fn thread_per_request(s: &mut Scene) -> Body {
    grows(s, Reading::Threads, 4.0, 0.8)
}

fn whole_file(s: &mut Scene) -> Body {
    s.planted_in_process();
    s.no_gain();
    s.gauge(Reading::ResidentBytes, 80e6);
    let peak = 260e6 * s.scale.max(1.0);
    let peak = if s.fixed { peak / 50.0 } else { peak };
    steady(s, 30, |_, number| match number % 40 {
        25 => vec![Step::Add(Reading::ResidentBytes, peak)],
        28 => vec![Step::Add(Reading::ResidentBytes, -peak)],
        _ => Vec::new(),
    })
}

fn memory_is_short(s: &mut Scene) -> Body {
    s.planted_in_process();
    s.no_gain();
    s.gauge(Reading::SystemMemoryPercent, 55.0);
    s.gauge(Reading::MajorFaults, 0.0);
    let (more, faults) = if s.fixed { (10.0, 0.0) } else { (38.0, 400.0) };
    steady(s, 30, |_, number| match number {
        30 => vec![
            Step::Add(Reading::SystemMemoryPercent, more),
            Step::Add(Reading::MajorFaults, faults),
        ],
        _ => Vec::new(),
    })
}
