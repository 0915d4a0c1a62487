//! `OTEL_*` variables: which are read, and what their values mean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::target::Signal;
use super::{Compression, Protocol, Temporality};
use crate::sink::otlp::error::OtlpError;

/// Settings that a signal can have of its own, behind `OTEL_EXPORTER_OTLP_` and `OTEL_EXPORTER_OTLP_TRACES_`.
const OF_SIGNALS: &[&str] = &[
    "ENDPOINT",
    "PROTOCOL",
    "TIMEOUT",
    "HEADERS",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
    "INSECURE",
];

const OTHERS: &[&str] = &[
    SDK_DISABLED,
    SERVICE_NAME,
    RESOURCE_ATTRIBUTES,
    TRACES_EXPORTER,
    METRICS_EXPORTER,
    TRACES_SAMPLER,
    TRACES_SAMPLER_ARG,
    TEMPORALITY,
    METRIC_INTERVAL,
    SCHEDULE_DELAY,
    MAX_BATCH,
];

pub(super) const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
pub(super) const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
pub(super) const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
pub(super) const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
pub(super) const METRICS_EXPORTER: &str = "OTEL_METRICS_EXPORTER";
pub(super) const TRACES_SAMPLER: &str = "OTEL_TRACES_SAMPLER";
pub(super) const TRACES_SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
pub(super) const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
pub(super) const METRIC_INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";
pub(super) const SCHEDULE_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
pub(super) const MAX_BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";

/// The variables that are set, as they stand there. Empty, nothing is.
#[derive(Clone, Default)]
pub(super) struct Environment {
    values: BTreeMap<String, String>,
}

/// A variable and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl Environment {
    /// Reads every variable that has a meaning here. A variable without a value counts as not set.
    pub(super) fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Environment {
        let of_signals = ["", "TRACES_", "METRICS_"].into_iter().flat_map(|signal| {
            OF_SIGNALS
                .iter()
                .map(move |name| format!("OTEL_EXPORTER_OTLP_{signal}{name}"))
        });
        let others = OTHERS.iter().map(|name| (*name).to_owned());
        let values = of_signals.chain(others).filter_map(|name| {
            let value = lookup(&name)?.trim().to_owned();
            (!value.is_empty()).then_some((name, value))
        });
        Environment {
            values: values.collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Variable<'_>> {
        let (name, value) = self.values.get_key_value(name)?;
        Some(Variable { name, value })
    }

    /// Returns the signal's own variable.
    pub(super) fn own(&self, signal: Signal, name: &str) -> Option<Variable<'_>> {
        let signal = match signal {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        };
        self.get(&format!("OTEL_EXPORTER_OTLP_{signal}_{name}"))
    }

    /// Returns the variable of all signals.
    pub(super) fn common(&self, name: &str) -> Option<Variable<'_>> {
        self.get(&format!("OTEL_EXPORTER_OTLP_{name}"))
    }

    /// Returns the signal's own variable, otherwise that of all signals.
    pub(super) fn of(&self, signal: Signal, name: &str) -> Option<Variable<'_>> {
        self.own(signal, name).or_else(|| self.common(name))
    }
}

impl Variable<'_> {
    fn wrong(self, accepted: &'static str) -> OtlpError {
        OtlpError::Value {
            setting: self.name.to_owned(),
            value: self.value.to_owned(),
            accepted,
        }
    }

    pub(super) fn protocol(self) -> Result<Protocol, OtlpError> {
        match self.value {
            "grpc" => Ok(Protocol::Grpc),
            "http/protobuf" => Ok(Protocol::HttpProtobuf),
            "http/json" => Ok(Protocol::HttpJson),
            _ => Err(self.wrong("grpc, http/protobuf or http/json")),
        }
    }

    pub(super) fn compression(self) -> Result<Compression, OtlpError> {
        match self.value {
            "gzip" => Ok(Compression::Gzip),
            "none" => Ok(Compression::None),
            _ => Err(self.wrong("gzip or none")),
        }
    }

    pub(super) fn temporality(self) -> Result<Temporality, OtlpError> {
        match self.value.to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Temporality::Cumulative),
            "delta" => Ok(Temporality::Delta),
            "lowmemory" => Ok(Temporality::LowMemory),
            _ => Err(self.wrong("cumulative, delta or lowmemory")),
        }
    }

    pub(super) fn boolean(self) -> Result<bool, OtlpError> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// Whether a list of exporters names ours.
    pub(super) fn exporter(self) -> Result<bool, OtlpError> {
        let mut names = self.value.split(',').map(str::trim);
        if names.clone().any(|name| name == "otlp") {
            return Ok(true);
        }
        if names.all(|name| name == "none") {
            return Ok(false);
        }
        Err(self.wrong("otlp or none"))
    }

    pub(super) fn milliseconds(self) -> Result<Duration, OtlpError> {
        let number = self.value.parse().map(Duration::from_millis);
        number.map_err(|_| self.wrong("a whole number of milliseconds"))
    }

    pub(super) fn number(self) -> Result<usize, OtlpError> {
        let number = self.value.parse();
        number.map_err(|_| self.wrong("a whole number"))
    }

    /// Returns the entries of `key=value,key=value`, whose values may be percent-encoded.
    ///
    /// The error names the number of the entry: what stands there may be a secret.
    pub(super) fn headers(self) -> Result<Vec<(String, String)>, OtlpError> {
        self.entries().map_err(|number| OtlpError::Header {
            setting: self.name.to_owned(),
            header: format!("number {number}"),
            accepted: "name=value, several of them with commas between, values percent-encoded",
        })
    }

    /// As `headers`, of attributes, which are no secrets.
    pub(super) fn attributes(self) -> Result<Vec<(String, String)>, OtlpError> {
        self.entries().map_err(|_| {
            self.wrong("key=value, several of them with commas between, values percent-encoded")
        })
    }

    fn entries(self) -> Result<Vec<(String, String)>, usize> {
        let mut entries = Vec::new();
        for (index, entry) in self.value.split(',').enumerate() {
            if entry.trim().is_empty() {
                continue;
            }
            let split = entry.split_once('=').and_then(|(key, value)| {
                let key = percent_decoded(key.trim())?;
                (!key.is_empty()).then_some((key, percent_decoded(value.trim())?))
            });
            entries.push(split.ok_or(index + 1)?);
        }
        Ok(entries)
    }
}

/// Returns `None` where what is encoded is no text. A `%` that begins no pair of digits stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let digit = |at: usize| (*rest.get(at)? as char).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                bytes = &rest[2..];
            }
            _ => {
                decoded.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8(decoded).ok()
}
