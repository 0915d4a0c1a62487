//! Resource readings on their way from the sampler to the sinks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::collector::OwnedSample;
use super::lock;
use crate::capture::{Capture, suppress_on_this_thread};
use crate::clock::Clock;
use crate::model::Sample;
use crate::resources::{ResourceSource, SamplerSettings};

/// Readings that wait for the sinks; at one round every 10 ms this is about half a minute.
const MAX_WAITING_SAMPLES: usize = 1 << 16;

/// Returns what the sampler is told; `to_sinks` is where the readings wait, if a sink wants them.
pub(super) fn sampler_settings(
    interval: Option<Duration>,
    sources: Vec<Box<dyn ResourceSource>>,
    clock: Clock,
    capture: &Arc<Capture>,
    to_sinks: Option<Arc<Mutex<VecDeque<OwnedSample>>>>,
) -> SamplerSettings {
    let (capture, of_open) = (Arc::clone(capture), Arc::clone(capture));
    let mut names: Vec<Arc<str>> = Vec::new();
    let deliver = move |samples: &[Sample<'_>]| {
        let Some(to_sinks) = &to_sinks else { return };
        let mut waiting = lock(to_sinks);
        for sample in samples {
            if waiting.len() >= MAX_WAITING_SAMPLES {
                // Sinks that are that far behind lose the oldest readings; the series in the profile keep them.
                waiting.pop_front();
            }
            let known = names.iter().find(|name| ***name == *sample.series);
            let series = known.cloned().unwrap_or_else(|| {
                let name: Arc<str> = sample.series.into();
                names.push(Arc::clone(&name));
                name
            });
            waiting.push_back(OwnedSample {
                series,
                unit: sample.unit,
                at: sample.at,
                value: sample.value,
            });
        }
    };
    SamplerSettings {
        interval,
        sources,
        clock,
        tops: Box::new(move |tops| capture.tops(tops)),
        open: Box::new(move |counts| of_open.open_by_site(counts)),
        deliver: Box::new(deliver),
        on_thread_start: Box::new(suppress_on_this_thread),
    }
}
