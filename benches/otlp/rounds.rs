//! Every case once per round, so that whatever else the machine does meets all of them alike.

use crate::case::{Case, Measurement};
use crate::shape::Shape;
use crate::system::System;

const PACED: &[System] = &[
    System::Empty,
    System::Cortex,
    System::CortexGrpc,
    System::CortexHttp,
    System::OtelRoomy,
];

const BURST: &[System] = &[
    System::CortexGrpc,
    System::CortexHttp,
    System::OtelRoomy,
    System::OtelDefault,
];

/// One pass over all cases.
#[derive(Debug, Default)]
pub(crate) struct Round {
    measured: Vec<(Case, Measurement)>,
}

impl Round {
    /// Measures every case, in an order that differs from round to round.
    pub(crate) fn run(index: usize) -> Round {
        let mut cases: Vec<Case> = cases().collect();
        let by = index * 7 % cases.len();
        cases.rotate_left(by);
        let measured = cases.into_iter().map(|case| (case, case.spawn()));
        Round {
            measured: measured.collect(),
        }
    }

    pub(crate) fn get(&self, shape: Shape, system: System) -> Option<&Measurement> {
        let case = Case { shape, system };
        let (_, measurement) = self.measured.iter().find(|(other, _)| *other == case)?;
        Some(measurement)
    }
}

/// Returns the cases in the order in which they are shown.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    Shape::ALL.into_iter().flat_map(|shape| {
        systems(shape)
            .iter()
            .map(move |&system| Case { shape, system })
    })
}

/// Returns the systems that a shape is measured with; the baselines are among them wherever a ratio to them is taken.
pub(crate) fn systems(shape: Shape) -> &'static [System] {
    match shape {
        Shape::Burst => BURST,
        _ => PACED,
    }
}
