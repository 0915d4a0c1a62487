//! What is decided when a trace begins.

use super::super::OtlpError;
use crate::model::{Ids, TraceId};

/// Which traces are exported, decided for all of a trace's spans alike.
///
/// Those with a parent follow the process that began the trace. A ratio is the share of traces that are exported, 0 to
/// 1; it picks by trace id, so that all processes with the same ratio pick the same traces.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Sampling {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share of all.
    Ratio(f64),
    /// All that begin here; of the others, those that were sampled where they began.
    #[default]
    ParentOrAlwaysOn,
    /// None that begin here; of the others, those that were sampled where they began.
    ParentOrAlwaysOff,
    /// A share of those that begin here; of the others, those that were sampled where they began.
    ParentOrRatio(f64),
}

const ACCEPTED: &str = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                        parentbased_traceidratio";
const ACCEPTED_RATIO: &str = "a number from 0 to 1";

impl Sampling {
    /// Reads the variables `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    ///
    /// [`OtlpError::Value`] if one of them is not understood.
    pub(super) fn parse(sampler: &str, argument: Option<&str>) -> Result<Sampling, OtlpError> {
        let ratio = || match argument {
            None => Ok(1.0),
            Some(text) => {
                let number = text.trim().parse().ok();
                number.filter(is_ratio).ok_or_else(|| OtlpError::Value {
                    setting: "OTEL_TRACES_SAMPLER_ARG".to_owned(),
                    value: text.to_owned(),
                    accepted: ACCEPTED_RATIO,
                })
            }
        };
        Ok(match sampler.trim().to_ascii_lowercase().as_str() {
            "always_on" => Sampling::AlwaysOn,
            "always_off" => Sampling::AlwaysOff,
            "traceidratio" => Sampling::Ratio(ratio()?),
            "parentbased_always_on" => Sampling::ParentOrAlwaysOn,
            "parentbased_always_off" => Sampling::ParentOrAlwaysOff,
            "parentbased_traceidratio" => Sampling::ParentOrRatio(ratio()?),
            _ => {
                return Err(OtlpError::Value {
                    setting: "OTEL_TRACES_SAMPLER".to_owned(),
                    value: sampler.to_owned(),
                    accepted: ACCEPTED,
                });
            }
        })
    }

    /// Checks a ratio that was set by a method.
    pub(super) fn check(self) -> Result<Sampling, OtlpError> {
        match self {
            Sampling::Ratio(ratio) | Sampling::ParentOrRatio(ratio) if !is_ratio(&ratio) => {
                Err(OtlpError::Value {
                    setting: "Otlp::sample_ratio".to_owned(),
                    value: ratio.to_string(),
                    accepted: ACCEPTED_RATIO,
                })
            }
            _ => Ok(self),
        }
    }

    /// Whether the trace of these ids is exported.
    pub(crate) fn keeps(self, ids: &Ids) -> bool {
        match self {
            Sampling::ParentOrAlwaysOn
            | Sampling::ParentOrAlwaysOff
            | Sampling::ParentOrRatio(_)
                if ids.remote_trace =>
            {
                ids.sampled
            }
            Sampling::AlwaysOn | Sampling::ParentOrAlwaysOn => true,
            Sampling::AlwaysOff | Sampling::ParentOrAlwaysOff => false,
            Sampling::Ratio(ratio) | Sampling::ParentOrRatio(ratio) => picks(ratio, ids.trace),
        }
    }
}

/// NaN is none.
fn is_ratio(ratio: &f64) -> bool {
    (0.0..=1.0).contains(ratio)
}

/// Decides as the OpenTelemetry SDKs do: by 63 of the trace id's lower 64 bits.
fn picks(ratio: f64, trace: TraceId) -> bool {
    const RANGE: f64 = (1_u64 << 63) as f64;
    let below = (ratio * RANGE) as u64;
    (trace.0 as u64) >> 1 < below
}
