//! A number that the program gives when asked.

use std::error::Error;
use std::fmt;

use super::{Readings, ResourceSource};
use crate::model::Unit;

/// One series that is read by calling a closure.
pub(crate) struct Callback {
    name: String,
    unit: Unit,
    read: Box<dyn FnMut() -> Option<f64> + Send>,
}

impl Callback {
    /// Names the series and the closure that reads it; `None` leaves a reading out.
    pub(crate) fn new(
        name: impl Into<String>,
        unit: Unit,
        read: impl FnMut() -> Option<f64> + Send + 'static,
    ) -> Callback {
        Callback {
            name: name.into(),
            unit,
            read: Box::new(read),
        }
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("name", &self.name)
            .field("unit", &self.unit)
            .finish_non_exhaustive()
    }
}

impl ResourceSource for Callback {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        let value = (self.read)();
        readings.record_some(&self.name, self.unit, value);
        Ok(())
    }
}
