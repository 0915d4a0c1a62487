//! What has to hold, and whether it does.

use serde::Serialize;

use crate::rounds::Round;
use crate::spread::Spread;
use crate::system::System;
use crate::workload::Scenario;

/// One requirement.
struct Bar {
    scenario: Scenario,
    system: System,
    figure: Figure,
    /// The largest value that meets the bar.
    limit: f64,
}

/// What is compared with the limit. Every comparison with another case uses the one of the same round.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// The cost of a span over the baseline's.
    OverBaseline,
    /// The cost of a span over that of the same system on one thread.
    OverOneThread,
    /// The cost of a span.
    SpanNs,
    /// The wall time per span that the system adds to the baseline, over what the peer adds. Not CPU time: what a peer's
    /// worker thread takes from the loop is a cost of the peer.
    AddedOver(System),
    /// Total wall time over the peer's.
    TotalOver(System),
    /// Peak resident set.
    PeakRssMib,
    /// Spans opened but not in the trace.
    Lost,
    /// Spans opened that are neither in the trace nor counted as dropped, or counted twice.
    Unaccounted,
}

const BARS: &[Bar] = &[
    bar(
        Scenario::Flat,
        System::CortexStats,
        Figure::OverBaseline,
        1.45,
    ),
    bar(
        Scenario::Flat,
        System::CortexChrome,
        Figure::OverBaseline,
        1.75,
    ),
    bar(
        Scenario::Flat,
        System::CortexStats,
        Figure::AddedOver(System::TracingTiming),
        0.1,
    ),
    bar(
        Scenario::Flat,
        System::CortexChrome,
        Figure::AddedOver(System::TracingChrome),
        0.1,
    ),
    bar(
        Scenario::Nested,
        System::CortexStats,
        Figure::OverBaseline,
        1.45,
    ),
    bar(
        Scenario::Nested,
        System::CortexChrome,
        Figure::OverBaseline,
        1.75,
    ),
    bar(
        Scenario::Nested,
        System::CortexStats,
        Figure::AddedOver(System::TracingTiming),
        0.1,
    ),
    bar(
        Scenario::Nested,
        System::CortexChrome,
        Figure::AddedOver(System::TracingChromeArgs),
        0.1,
    ),
    bar(
        Scenario::TwoThreads,
        System::CortexStats,
        Figure::OverOneThread,
        1.05,
    ),
    bar(
        Scenario::TwoThreads,
        System::CortexChrome,
        Figure::OverOneThread,
        1.25,
    ),
    bar(
        Scenario::Polled,
        System::CortexStats,
        Figure::OverBaseline,
        4.2,
    ),
    bar(
        Scenario::Polled,
        System::CortexChrome,
        Figure::OverBaseline,
        5.0,
    ),
    bar(Scenario::Disabled, System::CortexStats, Figure::SpanNs, 3.0),
    bar(
        Scenario::Bulk,
        System::CortexChrome,
        Figure::PeakRssMib,
        64.0,
    ),
    bar(
        Scenario::Bulk,
        System::CortexChrome,
        Figure::TotalOver(System::TracingChromeArgs),
        0.25,
    ),
    bar(
        Scenario::Bulk,
        System::CortexChrome,
        Figure::Unaccounted,
        0.0,
    ),
    bar(
        Scenario::Bulk,
        System::CortexChromeBlock,
        Figure::PeakRssMib,
        64.0,
    ),
    bar(
        Scenario::Bulk,
        System::CortexChromeBlock,
        Figure::TotalOver(System::TracingChromeArgs),
        0.25,
    ),
    bar(Scenario::Bulk, System::CortexChromeBlock, Figure::Lost, 0.0),
];

const fn bar(scenario: Scenario, system: System, figure: Figure, limit: f64) -> Bar {
    Bar {
        scenario,
        system,
        figure,
        limit,
    }
}

impl Figure {
    fn of(self, scenario: Scenario, system: System, round: &Round) -> Option<f64> {
        let own = round.get(scenario, system)?;
        Some(match self {
            Figure::OverBaseline => own.span_ns() / round.get(scenario, System::Empty)?.span_ns(),
            Figure::OverOneThread => {
                own.span_ns() / round.get(Scenario::OneThread, system)?.span_ns()
            }
            Figure::SpanNs => own.span_ns(),
            Figure::AddedOver(peer) => {
                let baseline = round.get(scenario, System::Empty)?.wall_ns;
                (own.wall_ns - baseline) / (round.get(scenario, peer)?.wall_ns - baseline)
            }
            Figure::TotalOver(peer) => own.total_wall_ms / round.get(scenario, peer)?.total_wall_ms,
            Figure::PeakRssMib => own.peak_rss_mib?,
            Figure::Lost => own.opened.abs_diff(own.written?) as f64,
            Figure::Unaccounted => own.opened.abs_diff(own.written? + own.dropped?) as f64,
        })
    }

    /// Whether the worst round decides, not the median: for what is a promise and not a speed.
    fn by_worst(self) -> bool {
        matches!(
            self,
            Figure::PeakRssMib | Figure::Lost | Figure::Unaccounted
        )
    }

    fn unit(self) -> &'static str {
        match self {
            Figure::OverBaseline
            | Figure::OverOneThread
            | Figure::AddedOver(_)
            | Figure::TotalOver(_) => "ratio",
            Figure::SpanNs => "ns",
            Figure::PeakRssMib => "MiB",
            Figure::Lost | Figure::Unaccounted => "spans",
        }
    }

    fn name(self) -> String {
        match self {
            Figure::OverBaseline => "per span, x empty".to_owned(),
            Figure::OverOneThread => "per span, x its one thread".to_owned(),
            Figure::SpanNs => "per span".to_owned(),
            Figure::AddedOver(peer) => format!("added wall per span, x {}", peer.id()),
            Figure::TotalOver(peer) => format!("wall, x {}", peer.id()),
            Figure::PeakRssMib => "peak RSS".to_owned(),
            Figure::Lost => "lost".to_owned(),
            Figure::Unaccounted => "neither written nor counted".to_owned(),
        }
    }
}

/// A bar with what was measured for it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) scenario: Scenario,
    pub(crate) system: System,
    pub(crate) figure: String,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    /// Absent where the operating system does not say.
    pub(crate) measured: Option<Spread>,
    /// The value that was compared: the median, or the worst round.
    pub(crate) judged: Option<f64>,
    pub(crate) met: bool,
}

/// Judges every bar whose scenario ran.
pub(crate) fn judge(rounds: &[Round]) -> Vec<Verdict> {
    BARS.iter()
        .filter(|bar| {
            rounds
                .iter()
                .any(|round| round.get(bar.scenario, bar.system).is_some())
        })
        .map(|bar| {
            let measured = Spread::over(rounds, |round| {
                bar.figure.of(bar.scenario, bar.system, round)
            });
            let judged = measured.map(|spread| {
                if bar.figure.by_worst() {
                    spread.max
                } else {
                    spread.median
                }
            });
            Verdict {
                scenario: bar.scenario,
                system: bar.system,
                figure: bar.figure.name(),
                unit: bar.figure.unit(),
                limit: bar.limit,
                measured,
                judged,
                met: judged.is_some_and(|value| value <= bar.limit),
            }
        })
        .collect()
}
