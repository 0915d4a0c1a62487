//! How sampling is set.

use std::time::Duration;

use super::super::{Otlp, OtlpError};
use super::head::Sampling;
use crate::model::Nanos;

/// What the user set.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    sampling: Option<Sampling>,
    rules: Rules,
}

/// What was checked.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) head: Sampling,
    pub(super) errors: bool,
    pub(super) slow: bool,
    /// Span names and the longest time that is fine.
    pub(super) targets: Vec<(String, Nanos)>,
    pub(super) max_tail_bytes: usize,
}

const MIN_TAIL_BYTES: usize = 64 << 10;

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            sampling: None,
            rules: Rules {
                head: Sampling::default(),
                errors: false,
                slow: false,
                targets: Vec::new(),
                max_tail_bytes: 16 << 20,
            },
        }
    }
}

impl Choice {
    /// Checks the settings; those made by methods win over the environment's.
    ///
    /// # Errors
    ///
    /// [`OtlpError::Value`] if a setting that counts is out of range.
    pub(crate) fn resolve(
        self,
        sampler: Option<&str>,
        argument: Option<&str>,
    ) -> Result<Rules, OtlpError> {
        let head = match (self.sampling, sampler) {
            (Some(sampling), _) => sampling.check()?,
            (None, Some(sampler)) => Sampling::parse(sampler, argument)?,
            (None, None) => Sampling::default(),
        };
        if self.rules.max_tail_bytes < MIN_TAIL_BYTES {
            return Err(OtlpError::Value {
                setting: "Otlp::max_tail_bytes".to_owned(),
                value: self.rules.max_tail_bytes.to_string(),
                accepted: "at least 65,536 bytes",
            });
        }
        Ok(Rules { head, ..self.rules })
    }
}

impl Rules {
    /// Whether anything that the head leaves out may be kept.
    pub(crate) fn has_tail(&self) -> bool {
        self.errors || self.slow || !self.targets.is_empty()
    }

    /// Whether the live profile is needed.
    pub(crate) fn needs_profile(&self) -> bool {
        self.slow
    }
}

/// Sampling. The statistics, the findings and the metrics are exact over all operations, whatever is exported.
impl Otlp {
    /// Exports this share of the traces that begin here, 0 to 1; those that began elsewhere are exported if they were
    /// sampled there. Default: all that begin here.
    pub fn sample_ratio(self, ratio: f64) -> Otlp {
        self.sampling(Sampling::ParentOrRatio(ratio))
    }

    /// Sets which traces are exported; wins over `OTEL_TRACES_SAMPLER`. Default: [`Sampling::ParentOrAlwaysOn`].
    pub fn sampling(mut self, sampling: Sampling) -> Otlp {
        self.sampling.sampling = Some(sampling);
        self
    }

    /// Exports traces with an error in this process, also those that [`Otlp::sampling`] leaves out. Default: off.
    ///
    /// This and the other rules hold the spans of a trace back until a second after its outermost span in this process;
    /// then the trace is exported as a whole or not at all. Spans that end later follow that decision, except that one
    /// to which a rule applies, and what ends after it, is exported. Other processes do not learn of it: what they left
    /// out stays out.
    pub fn keep_errors(mut self) -> Otlp {
        self.sampling.rules.errors = true;
        self
    }

    /// Exports traces with an operation that took longer than 99 % of those of its callsite, also those that
    /// [`Otlp::sampling`] leaves out. Default: off.
    ///
    /// Compared is with what is known some seconds before; callsites with fewer than 100 operations keep nothing.
    pub fn keep_slow(mut self) -> Otlp {
        self.sampling.rules.slow = true;
        self
    }

    /// Exports traces in which an operation of this name took longer than its target, also those that
    /// [`Otlp::sampling`] leaves out. May be called for several names. Default: none.
    pub fn keep_slower_than(mut self, span: impl Into<String>, target: Duration) -> Otlp {
        let target = (span.into(), Nanos::from(target));
        self.sampling.rules.targets.push(target);
        self
    }

    /// Limits the memory for spans whose trace is not decided yet. Default: 16 MiB, at least 64 KiB; beyond it, the
    /// oldest trace is left out.
    pub fn max_tail_bytes(mut self, bytes: usize) -> Otlp {
        self.sampling.rules.max_tail_bytes = bytes;
        self
    }
}
