//! Every case once per round, so that whatever else the machine does meets all of them alike.

use crate::case::{Case, Measurement};
use crate::system::System;
use crate::workload::Scenario;

/// The systems of each scenario; the baseline is among them wherever a ratio to it is taken.
const PLAN: &[(Scenario, &[System])] = &[
    (
        Scenario::Flat,
        &[
            System::Empty,
            System::CortexStats,
            System::CortexTrees,
            System::CortexResources,
            System::CortexChrome,
            System::TracingChrome,
            System::TracingTiming,
        ],
    ),
    (
        Scenario::Nested,
        &[
            System::Empty,
            System::CortexStats,
            System::CortexTrees,
            System::CortexResources,
            System::CortexChrome,
            System::TracingChromeArgs,
            System::TracingTiming,
        ],
    ),
    (
        Scenario::OneThread,
        &[System::Empty, System::CortexStats, System::CortexChrome],
    ),
    (
        Scenario::TwoThreads,
        &[System::Empty, System::CortexStats, System::CortexChrome],
    ),
    (
        Scenario::Polled,
        &[
            System::Empty,
            System::CortexStats,
            System::CortexTrees,
            System::CortexChrome,
            System::TracingTiming,
        ],
    ),
    (Scenario::Disabled, &[System::Empty, System::CortexStats]),
    (
        Scenario::Bulk,
        &[
            System::Empty,
            System::CortexStats,
            System::CortexChrome,
            System::CortexChromeBlock,
            System::TracingChromeArgs,
        ],
    ),
];

/// A bulk measurement of tracing-chrome takes seconds, and its figures are large against the noise.
const ROUNDS_PER_BULK: usize = 5;

/// One pass over all cases.
#[derive(Debug, Default)]
pub(crate) struct Round {
    measured: Vec<(Case, Measurement)>,
}

impl Round {
    /// Measures the cases of `scenarios`, in an order that differs from round to round.
    pub(crate) fn run(index: usize, scenarios: &[Scenario]) -> Round {
        let mut measured = Vec::new();
        for (scenario, systems) in rotated(PLAN, index) {
            let left_out = scenario == Scenario::Bulk && !index.is_multiple_of(ROUNDS_PER_BULK);
            if left_out || !scenarios.contains(&scenario) {
                continue;
            }
            for system in rotated(systems, index) {
                let case = Case { scenario, system };
                measured.push((case, case.spawn()));
            }
        }
        Round { measured }
    }

    pub(crate) fn get(&self, scenario: Scenario, system: System) -> Option<&Measurement> {
        let case = Case { scenario, system };
        let (_, measurement) = self.measured.iter().find(|(other, _)| *other == case)?;
        Some(measurement)
    }
}

/// Returns the cases in the order in which they are shown.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    PLAN.iter().flat_map(|(scenario, systems)| {
        systems.iter().map(|system| Case {
            scenario: *scenario,
            system: *system,
        })
    })
}

fn rotated<T: Copy>(items: &[T], by: usize) -> impl Iterator<Item = T> {
    let (before, after) = items.split_at(by % items.len());
    after.iter().chain(before).copied()
}
