//! Resource readings on one thread of their own: the process, the system, and what the program adds.

use std::error::Error;

use crate::model::Unit;

/// Something that can be read at intervals: a queue's depth, a pool's size, a device's memory.
///
/// Called on the thread `cortex-sample`. A source that fails is reported once, in
/// [`Losses::failures`](crate::Losses::failures), and asked again at the next interval; one that panics is not asked
/// again. The other sources go on in either case.
pub trait ResourceSource: Send + 'static {
    /// Returns a short, stable name for error messages.
    fn name(&self) -> &str;

    /// Takes the readings that can be had now. What cannot be had is left out, never given as zero.
    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Collects the readings of one interval.
#[derive(Debug, Default)]
pub struct Readings {
    values: Vec<(String, Unit, f64)>,
}

impl Readings {
    /// Adds a reading of the series `name`, such as `"queue.depth"`. A value that is not finite is left out.
    pub fn record(&mut self, name: &str, unit: Unit, value: f64) {
        if value.is_finite() {
            self.values.push((name.to_owned(), unit, value));
        }
    }
}
