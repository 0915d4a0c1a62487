//! The time of one context's events on the capture's clock.

use std::collections::VecDeque;

use super::anchors::Anchors;
use super::event_api::{Event, EventApi, Status, Stream};
use crate::model::Nanos;

/// Between two anchors. What lies in between follows the line through both; after eight seconds, the driver's 32-bit
/// floats would be off by half a microsecond.
pub(super) const ANCHOR_PERIOD: Nanos = Nanos(1_000_000_000);

/// Readings of which the closest is taken: this thread may lose its core in between.
const READINGS: usize = 3;
/// There are more if none was so close, but no more than this.
const CLOSE: Nanos = Nanos(20_000);
const MOST_READINGS: usize = 12;
/// Events of anchors that are kept, two minutes of them.
const MOST: usize = 128;
/// A reading is worth nothing that is less close than this.
const WIDEST: Nanos = Nanos(200_000);
/// Questions until a reading is given up. A stream on which nothing else runs takes some ten microseconds, but another
/// process may have the device for two milliseconds.
const MOST_QUESTIONS: u32 = 10_000;

/// The device's time of the first anchor. Device times count from here, up and down.
const FIRST: u64 = 1 << 62;

/// Anchors of one context: events on a stream of its own whose time is known on both clocks.
#[derive(Debug)]
pub(super) struct Timeline {
    stream: Stream,
    /// The newest last.
    kept: VecDeque<Kept>,
    spare: Vec<Event>,
    anchors: Anchors,
}

#[derive(Debug)]
struct Kept {
    event: Event,
    device_ns: u64,
    host: Nanos,
}

impl Timeline {
    /// Makes a stream for the anchors, in the current context; `spare` are events for them.
    pub(super) fn new(api: &EventApi, spare: Vec<Event>) -> Result<Timeline, Status> {
        Ok(Timeline {
            stream: api.create_stream()?,
            kept: VecDeque::new(),
            spare,
            anchors: Anchors::default(),
        })
    }

    /// Returns the time of the newest anchor.
    pub(super) fn newest(&self) -> Option<Nanos> {
        Some(self.kept.back()?.host)
    }

    /// Whether a device's time is before the newest anchor, so that the drift around it is known.
    pub(super) fn covers(&self, device_ns: u64) -> bool {
        let newest = self.kept.back();
        newest.is_some_and(|newest| device_ns <= newest.device_ns)
    }

    /// Reads both clocks. Never waits for the device: where it does not answer at once, there is no new anchor.
    pub(super) fn anchor(&mut self, api: &EventApi, now: impl Fn() -> Nanos) -> Result<(), Status> {
        let mut best: Option<(Nanos, Nanos, Event)> = None;
        for reading in 0..MOST_READINGS {
            let is_close = best.as_ref().is_some_and(|(width, ..)| *width <= CLOSE);
            if reading >= READINGS && is_close {
                break;
            }
            let Some(event) = self.event(api)? else {
                break;
            };
            match self.read(api, &event, &now) {
                Ok(Some((width, host))) if best.as_ref().is_none_or(|best| width < best.0) => {
                    let worse = best.replace((width, host, event));
                    self.spare.extend(worse.map(|(_, _, event)| event));
                }
                Ok(_) => self.spare.push(event),
                Err(status) => {
                    self.spare.push(event);
                    self.spare.extend(best.map(|(_, _, event)| event));
                    return Err(status);
                }
            }
        }
        let Some((width, host, event)) = best else {
            return Ok(());
        };
        if width > WIDEST && !self.kept.is_empty() {
            // The line through the ones before is better.
            self.spare.push(event);
            return Ok(());
        }
        let device_ns = match self.kept.back() {
            None => FIRST,
            Some(last) => {
                let since = api.elapsed_ns(&last.event, &event)?;
                last.device_ns.saturating_add_signed(since.max(0))
            }
        };
        if self.kept.len() == MOST {
            self.spare
                .extend(self.kept.pop_front().map(|oldest| oldest.event));
        }
        self.anchors.add(device_ns, host);
        self.kept.push_back(Kept {
            event,
            device_ns,
            host,
        });
        Ok(())
    }

    /// Returns an event for a reading: a new one, or where the device has none left that of the oldest anchor.
    fn event(&mut self, api: &EventApi) -> Result<Option<Event>, Status> {
        if let Some(event) = self.spare.pop() {
            return Ok(Some(event));
        }
        match api.create_event() {
            Err(Status::OUT_OF_MEMORY) if self.kept.len() > 1 => {
                Ok(self.kept.pop_front().map(|oldest| oldest.event))
            }
            Err(Status::OUT_OF_MEMORY) => Ok(None),
            made => made.map(Some),
        }
    }

    /// Returns the host's time at which an event was passed, with how closely that is known.
    fn read(
        &self,
        api: &EventApi,
        event: &Event,
        now: impl Fn() -> Nanos,
    ) -> Result<Option<(Nanos, Nanos)>, Status> {
        let mut from = now();
        api.record(event, self.stream)?;
        for _ in 0..MOST_QUESTIONS {
            let asked = now();
            if api.is_passed(event)? {
                let width = now().saturating_sub(from);
                return Ok(Some((width, Nanos(from.0 + width.0 / 2))));
            }
            from = asked;
        }
        Ok(None)
    }

    /// Returns the device's time at which an event was passed that was recorded at about `guess`; `None` without an
    /// anchor.
    pub(super) fn device_ns(
        &self,
        api: &EventApi,
        event: &Event,
        guess: Nanos,
    ) -> Result<Option<u64>, Status> {
        let mut near = self.nearest(guess);
        // Work may have waited on its stream for long, and the driver's floats are only good nearby.
        for _ in 0..2 {
            let Some(anchor) = near.and_then(|near| self.kept.get(near)) else {
                return Ok(None);
            };
            let since = api.elapsed_ns(&anchor.event, event)?;
            let device_ns = anchor.device_ns.saturating_add_signed(since);
            let nearer = self.place(device_ns).and_then(|host| self.nearest(host));
            if nearer == near {
                return Ok(Some(device_ns));
            }
            near = nearer;
        }
        let Some(anchor) = near.and_then(|near| self.kept.get(near)) else {
            return Ok(None);
        };
        let since = api.elapsed_ns(&anchor.event, event)?;
        Ok(Some(anchor.device_ns.saturating_add_signed(since)))
    }

    /// Returns a device's time on the capture's clock.
    pub(super) fn place(&self, device_ns: u64) -> Option<Nanos> {
        self.anchors.place(device_ns)
    }

    fn nearest(&self, host: Nanos) -> Option<usize> {
        let after = self.kept.partition_point(|kept| kept.host <= host);
        let away = |at: &usize| {
            let kept = self.kept.get(*at);
            kept.map_or(u64::MAX, |kept| kept.host.0.abs_diff(host.0))
        };
        let last = self.kept.len().checked_sub(1)?;
        [after.saturating_sub(1), after.min(last)]
            .into_iter()
            .min_by_key(away)
    }

    /// Gives everything back to the driver.
    pub(super) fn close(self, api: &EventApi) {
        let kept = self.kept.into_iter().map(|kept| kept.event);
        for event in kept.chain(self.spare) {
            api.destroy_event(event);
        }
        api.destroy_stream(self.stream);
    }
}
