//! What has to hold, and whether it does.

use serde::Serialize;

use crate::case::System;
use crate::rounds::Round;
use crate::spread::Spread;

/// What a launch may cost more with attribution than without, in nanoseconds.
const LAUNCH_LIMIT: f64 = 150.0;

/// What a span may cost more on a machine without a driver: what measurements of the same instructions differ by. The exact
/// answer, none at all, is that of `--callgrind`.
const SPAN_LIMIT: f64 = 10.0;

/// A bar with what was measured for it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) system: System,
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    pub(crate) measured: Option<Spread>,
    /// The value that was compared: the median of a speed, the worst round of a promise.
    pub(crate) judged: Option<f64>,
    pub(crate) met: bool,
}

/// Judges every bar.
pub(crate) fn judge(rounds: &[Round]) -> Vec<Verdict> {
    let speed = |system: System, limit| {
        let measured = Spread::over(rounds, |round| Some(round.added(system, system.baseline())));
        let judged = measured.map(|spread| spread.median);
        verdict(
            system,
            "added to the baseline",
            "ns",
            limit,
            measured,
            judged,
        )
    };
    // A launch that is not attributed has cost little: the speeds hold only if there is none.
    let lost = |system: System| {
        let measured = Spread::over(rounds, |round| {
            let of = round.get(system);
            Some(of.done.abs_diff(of.attributed?) as f64)
        });
        let judged = measured.map(|spread| spread.max);
        verdict(system, "not attributed", "launches", 0.0, measured, judged)
    };
    vec![
        speed(System::On, LAUNCH_LIMIT),
        speed(System::OnIds, LAUNCH_LIMIT),
        speed(System::SpanNoDriver, SPAN_LIMIT),
        lost(System::On),
        lost(System::OnIds),
    ]
}

fn verdict(
    system: System,
    figure: &'static str,
    unit: &'static str,
    limit: f64,
    measured: Option<Spread>,
    judged: Option<f64>,
) -> Verdict {
    Verdict {
        system,
        figure,
        unit,
        limit,
        measured,
        judged,
        met: judged.is_some_and(|value| value <= limit),
    }
}
