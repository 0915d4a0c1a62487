//! Every system once per round, so that whatever else the machine does meets all of them alike.

use crate::case::{Measurement, System};

/// One pass over all systems.
#[derive(Debug)]
pub(crate) struct Round {
    measured: Vec<(System, Measurement)>,
}

impl Round {
    /// Measures every system, in an order that differs from round to round.
    pub(crate) fn run(index: usize) -> Round {
        let mut systems = System::ALL;
        systems.rotate_left(index % System::ALL.len());
        let measured = systems.map(|system| (system, system.spawn()));
        Round {
            measured: measured.into(),
        }
    }

    pub(crate) fn get(&self, system: System) -> &Measurement {
        let mut measured = self.measured.iter();
        let (_, measurement) = measured.find(|(other, _)| *other == system).unwrap();
        measurement
    }

    /// Returns what a system costs more than another in this round.
    pub(crate) fn added(&self, system: System, to: System) -> f64 {
        self.get(system).cpu_ns - self.get(to).cpu_ns
    }
}
