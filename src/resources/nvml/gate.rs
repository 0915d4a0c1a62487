//! When to ask again for what was not answered.

use std::time::{Duration, Instant};

use nvml_wrapper::error::NvmlError;

use super::device::Answer;

/// After the first refusal; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Guards one reading: most refusals mean that the device will never have it, a few that it has none yet.
#[derive(Debug, Default)]
pub(super) struct Gate {
    refused: Option<(Instant, Duration)>,
}

/// What a round was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) answers: u32,
    /// The last refusal.
    pub(super) refusal: Option<NvmlError>,
    pub(super) lost: Option<NvmlError>,
}

impl Gate {
    /// Asks, unless the last refusal is too fresh or the device is lost.
    pub(super) fn ask<T>(
        &mut self,
        now: Instant,
        told: &mut Told,
        question: impl FnOnce() -> Answer<T>,
    ) -> Option<T> {
        let pause = match self.refused {
            Some((at, pause)) if now.saturating_duration_since(at) < pause => return None,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        if told.lost.is_some() {
            return None;
        }
        match question() {
            Ok(answer) => {
                self.refused = None;
                told.answers += 1;
                Some(answer)
            }
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => {
                told.lost = Some(error);
                None
            }
            Err(error) => {
                self.refused = Some((now, pause));
                told.refusal = Some(error);
                None
            }
        }
    }
}
