//! What has to hold, and whether it does.

use serde::Serialize;

use crate::rounds::Round;
use crate::shape::Shape;
use crate::spread::Spread;
use crate::system::System;

/// Cost on the thread that opens spans, over the layer alone.
const THREAD_LIMIT: f64 = 1.25;

/// CPU time of the process per exported span, over tracing-opentelemetry's.
const PROCESS_LIMIT: f64 = 1.0 / 3.0;

/// What is compared with the limit. A comparison with another system uses the measurement of the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    OverLayer,
    OverOtel,
    Lost,
}

impl Figure {
    fn of(self, shape: Shape, system: System, round: &Round) -> Option<f64> {
        let own = round.get(shape, system)?;
        match self {
            Figure::OverLayer => Some(own.span_ns() / round.get(shape, System::Cortex)?.span_ns()),
            Figure::OverOtel => {
                let otel = round.get(shape, System::OtelRoomy)?;
                Some(own.process_span_ns()? / otel.process_span_ns()?)
            }
            Figure::Lost => own.lost(),
        }
    }

    fn limit(self) -> f64 {
        match self {
            Figure::OverLayer => THREAD_LIMIT,
            Figure::OverOtel => PROCESS_LIMIT,
            Figure::Lost => 0.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Figure::OverLayer => "thread time per span, x cortex",
            Figure::OverOtel => "CPU per exported span, x otel-roomy",
            Figure::Lost => "lost",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Figure::OverLayer | Figure::OverOtel => "ratio",
            Figure::Lost => "spans",
        }
    }
}

/// A bar with what was measured for it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) shape: Shape,
    pub(crate) system: System,
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    /// Absent where the operating system does not say.
    pub(crate) measured: Option<Spread>,
    /// The value that was compared: the median of a speed, the worst round of a promise.
    pub(crate) judged: Option<f64>,
    pub(crate) met: bool,
}

/// Judges every bar.
pub(crate) fn judge(rounds: &[Round]) -> Vec<Verdict> {
    let paced = [
        Shape::Flat,
        Shape::FlatField,
        Shape::Nested,
        Shape::NestedField,
    ];
    let mut verdicts = Vec::new();
    for system in [System::CortexGrpc, System::CortexHttp] {
        for figure in [Figure::OverLayer, Figure::OverOtel] {
            verdicts.extend(paced.map(|shape| verdict(rounds, shape, system, figure)));
        }
        // A span that was not exported has cost little: the ratios above hold only if there is none.
        verdicts.extend(Shape::ALL.map(|shape| verdict(rounds, shape, system, Figure::Lost)));
    }
    verdicts
}

fn verdict(rounds: &[Round], shape: Shape, system: System, figure: Figure) -> Verdict {
    let measured = Spread::over(rounds, |round| figure.of(shape, system, round));
    let judged = measured.map(|spread| match figure {
        Figure::Lost => spread.max,
        Figure::OverLayer | Figure::OverOtel => spread.median,
    });
    let limit = figure.limit();
    Verdict {
        shape,
        system,
        figure: figure.name(),
        unit: figure.unit(),
        limit,
        measured,
        judged,
        met: judged.is_some_and(|value| value <= limit),
    }
}
