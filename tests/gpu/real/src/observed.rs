//! What tracing-cortex says of a case: single pieces of work through a sink, sums through the profile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing_cortex::{
    Diagnosis, GpuApi, GpuBatch, GpuKind, Profile, Sink, SinkError, SpanSeq, Wants,
};

/// The spans of the cases have this name.
pub const SPAN: &str = "case";

/// A piece of work, or a call; nanoseconds of the capture's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub start: u64,
    pub end: u64,
}

/// What was started in one span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OfSpan {
    pub work: Vec<Interval>,
    /// For each piece of work, when its call began.
    pub called: Vec<u64>,
    /// Calls that waited.
    pub waits: Vec<Interval>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub spans: BTreeMap<SpanSeq, OfSpan>,
    /// Lengths, by the name of the kernel or the direction of the copy.
    pub lengths: BTreeMap<String, Vec<u64>>,
    /// Functions of the driver that started work.
    pub functions: BTreeSet<&'static str>,
}

/// A sink that keeps them.
#[derive(Clone, Default)]
pub struct Collect(Arc<Mutex<Observed>>);

impl Collect {
    pub fn take(&self) -> Observed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Collect {
    fn name(&self) -> &str {
        "gpu-check"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.gpu = true;
        wants
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for work in batch.work {
            let Some(caller) = work
                .caller
                .as_ref()
                .filter(|caller| caller.site.name == SPAN)
            else {
                continue;
            };
            let span = observed.spans.entry(caller.span).or_default();
            span.work.push(Interval {
                start: work.start.0,
                end: work.end.0,
            });
            if let Some(call) = &work.call {
                span.called.push(call.start.0);
                observed.functions.insert(call.function);
            }
            let what = match &work.kind {
                GpuKind::Kernel(kernel) => kernel.name.to_string(),
                GpuKind::Copy(copy) => copy.direction().to_owned(),
                _ => continue,
            };
            observed
                .lengths
                .entry(what)
                .or_default()
                .push(work.length().0);
        }
        for call in batch.calls {
            let Some(caller) = call
                .caller
                .as_ref()
                .filter(|caller| caller.site.name == SPAN)
            else {
                continue;
            };
            if let (GpuApi::Synchronize, Some(end)) = (call.api, call.end) {
                observed
                    .spans
                    .entry(caller.span)
                    .or_default()
                    .waits
                    .push(Interval {
                        start: call.start.0,
                        end: end.0,
                    });
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

impl OfSpan {
    /// Returns the length of the union of the intervals.
    pub fn busy(&self) -> u64 {
        let mut sorted = self.work.clone();
        sorted.sort_by_key(|interval| interval.start);
        let mut until = 0;
        let mut busy = 0;
        for interval in sorted {
            busy += interval.end.saturating_sub(interval.start.max(until));
            until = until.max(interval.end);
        }
        busy
    }

    /// Returns the time from the begin of the first to the end of the last.
    pub fn extent(&self) -> u64 {
        let start = self.work.iter().map(|interval| interval.start).min();
        let end = self.work.iter().map(|interval| interval.end).max();
        end.zip(start)
            .map_or(0, |(end, start)| end.saturating_sub(start))
    }

    /// Returns the sum of the lengths.
    pub fn sum(&self) -> u64 {
        self.work
            .iter()
            .map(|interval| interval.end.saturating_sub(interval.start))
            .sum()
    }

    /// Returns how long after its call work began, at least; negative if it began before.
    pub fn after_call(&self) -> Option<i64> {
        let pairs = self.work.iter().zip(&self.called);
        pairs
            .map(|(work, called)| work.start as i64 - *called as i64)
            .min()
    }

    /// Returns how long before the return of the last wait the work ended; negative if it ended after.
    pub fn before_return(&self) -> Option<i64> {
        let returned = self.waits.iter().map(|wait| wait.end).max()?;
        let end = self.work.iter().map(|work| work.end).max()?;
        Some(returned as i64 - end as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(work: &[(u64, u64)]) -> OfSpan {
        OfSpan {
            work: work
                .iter()
                .map(|&(start, end)| Interval { start, end })
                .collect(),
            ..OfSpan::default()
        }
    }

    #[test]
    fn work_at_the_same_time_is_busy_once() {
        let overlapping = span(&[(10, 30), (20, 50), (60, 70), (62, 65)]);
        assert_eq!(overlapping.busy(), 50);
        assert_eq!(overlapping.extent(), 60);
        assert_eq!(overlapping.sum(), 63);
    }

    #[test]
    fn work_outside_of_its_call_and_its_wait_is_negative() {
        let mut span = span(&[(10, 30), (40, 50)]);
        assert_eq!(span.before_return(), None);
        span.called = vec![12, 39];
        span.waits = vec![Interval { start: 41, end: 47 }];
        assert_eq!(span.after_call(), Some(-2));
        assert_eq!(span.before_return(), Some(-3));
    }
}
