//! Code over environment over default, checked.

use std::time::Duration;

use http::HeaderMap;

use super::environment::{self, Variable};
use super::identity::{Files, named};
use super::target::{Endpoint, Header, Signal, Target, headers, shown};
use super::{Compression, Destination, Otlp, Protocol, Settings};
use crate::sink::otlp::error::OtlpError;
use crate::sink::otlp::resource::Resource;

const TIMEOUT: Duration = Duration::from_secs(10);
const SCHEDULE_DELAY: Duration = Duration::from_secs(1);
const METRICS_INTERVAL: Duration = Duration::from_secs(60);
const MAX_BATCH_SPANS: usize = 2048;
const MAX_GPU_SPANS: u32 = 128;
const HOUR: Duration = Duration::from_secs(3600);

impl Otlp {
    /// Checks everything that can be known before the first request; `None` if `OTEL_SDK_DISABLED` is set or both
    /// signals are off.
    pub(crate) fn resolve(self) -> Result<Option<Settings>, OtlpError> {
        let env = &self.environment;
        if let Some(disabled) = env.get(environment::SDK_DISABLED)
            && disabled.boolean()?
        {
            return Ok(None);
        }
        let traces = self.is_on(self.traces, environment::TRACES_EXPORTER, true)?;
        // An exporter of spans takes none, and nobody may be there to take them.
        let by_default = self.span_exporter.is_none() || self.has_endpoint(Signal::Metrics);
        let metrics = self.is_on(self.metrics, environment::METRICS_EXPORTER, by_default)?;
        if !traces && !metrics {
            return Ok(None);
        }
        // The certificates of the second signal are usually those of the first; read once, they also share connections.
        let mut known = None;
        let traces = match traces {
            true => Some(self.destination(&mut known)?),
            false => None,
        };
        let metrics = match metrics {
            true => Some(self.target(Signal::Metrics, &mut known)?),
            false => None,
        };

        let max_batch_spans = self
            .max_batch_spans
            .map(|spans| ("Otlp::max_batch_spans", spans));
        let max_batch_spans = match (max_batch_spans, env.get(environment::MAX_BATCH)) {
            (Some(set), _) => set,
            (None, Some(variable)) => (variable.name, variable.number()?),
            (None, None) => ("", MAX_BATCH_SPANS),
        };
        let temporality = match (self.temporality, env.get(environment::TEMPORALITY)) {
            (Some(set), _) => set,
            (None, Some(variable)) => variable.temporality()?,
            (None, None) => Default::default(),
        };
        Ok(Some(Settings {
            resource: self.resource()?,
            traces,
            metrics,
            max_batch_spans: within(
                max_batch_spans,
                |spans| (1..=1 << 16).contains(spans),
                "1 to 65,536 spans",
            )?,
            max_gpu_spans: self.max_gpu_spans.unwrap_or(MAX_GPU_SPANS),
            adopt_ids: self.adopt_ids,
            schedule_delay: within(
                self.duration(
                    ("Otlp::schedule_delay", self.schedule_delay),
                    env.get(environment::SCHEDULE_DELAY),
                    SCHEDULE_DELAY,
                )?,
                |delay| *delay <= HOUR,
                "at most an hour",
            )?,
            metrics_interval: within(
                self.duration(
                    ("Otlp::metrics_interval", self.metrics_interval),
                    env.get(environment::METRIC_INTERVAL),
                    METRICS_INTERVAL,
                )?,
                |interval| (Duration::from_millis(10)..=24 * HOUR).contains(interval),
                "10 ms to a day",
            )?,
            temporality,
            max_queue_bytes: within(
                ("Otlp::max_queue_bytes", self.max_queue_bytes),
                |bytes| *bytes >= 64 << 10,
                "at least 65,536 bytes",
            )?,
            sampling: self.sampling.clone().resolve(
                env.get(environment::TRACES_SAMPLER)
                    .map(|known| known.value),
                env.get(environment::TRACES_SAMPLER_ARG)
                    .map(|known| known.value),
            )?,
            spill: self.spill,
        }))
    }

    fn is_on(&self, set: Option<bool>, variable: &str, default: bool) -> Result<bool, OtlpError> {
        match (set, self.environment.get(variable)) {
            (Some(on), _) => Ok(on),
            (None, Some(variable)) => variable.exporter(),
            (None, None) => Ok(default),
        }
    }

    /// Returns a duration and what set it.
    fn duration<'a>(
        &self,
        set: (&'a str, Option<Duration>),
        variable: Option<Variable<'a>>,
        default: Duration,
    ) -> Result<(&'a str, Duration), OtlpError> {
        match (set, variable) {
            ((setting, Some(set)), _) => Ok((setting, set)),
            (_, Some(variable)) => Ok((variable.name, variable.milliseconds()?)),
            ((setting, None), None) => Ok((setting, default)),
        }
    }

    fn destination(&self, known: &mut Option<KnownTls>) -> Result<Destination, OtlpError> {
        let Some(exporter) = &self.span_exporter else {
            let target = self.target(Signal::Traces, known)?;
            return Ok(Destination::Receiver(Box::new(target)));
        };
        let timeout = self.timeout_of(Signal::Traces)?;
        let exporter = exporter.claim().ok_or_else(|| OtlpError::ExporterTaken {
            setting: "Otlp::span_exporter".to_owned(),
        })?;
        Ok(Destination::Exporter(exporter, timeout))
    }

    fn target(&self, signal: Signal, known: &mut Option<KnownTls>) -> Result<Target, OtlpError> {
        let env = &self.environment;
        let protocol = match (self.protocol, env.of(signal, "PROTOCOL")) {
            (Some(set), _) => set,
            (None, Some(variable)) => variable.protocol()?,
            (None, None) => Protocol::default(),
        };
        let compression = match (self.compression, env.of(signal, "COMPRESSION")) {
            (Some(set), _) => set,
            (None, Some(variable)) => variable.compression()?,
            (None, None) => Compression::default(),
        };
        let timeout = self.timeout_of(signal)?;
        let insecure = match env.of(signal, "INSECURE") {
            Some(variable) => variable.boolean()?,
            None => false,
        };
        let endpoint = self.endpoint_of(signal, protocol);
        let uri = endpoint.uri(signal, protocol, insecure)?;
        let shown = shown(&uri);
        let tls = match uri.scheme_str() {
            Some("https") => {
                let files = self.files(signal);
                let tls = match known.take() {
                    Some(known) if known.files == files => known.tls,
                    _ => files.tls(&endpoint.setting, &shown)?,
                };
                *known = Some(KnownTls {
                    files,
                    tls: tls.clone(),
                });
                Some(tls)
            }
            _ => None,
        };
        Ok(Target {
            signal,
            uri,
            shown,
            setting: endpoint.setting,
            protocol,
            compression,
            timeout,
            headers: self.headers_of(signal)?,
            tls,
        })
    }

    fn timeout_of(&self, signal: Signal) -> Result<Duration, OtlpError> {
        within(
            self.duration(
                ("Otlp::timeout", self.timeout),
                self.environment.of(signal, "TIMEOUT"),
                TIMEOUT,
            )?,
            |timeout| !timeout.is_zero() && *timeout <= HOUR,
            "more than zero, at most an hour",
        )
    }

    /// Whether anything says where to send to.
    fn has_endpoint(&self, signal: Signal) -> bool {
        let own = match signal {
            Signal::Traces => &self.traces_endpoint,
            Signal::Metrics => &self.metrics_endpoint,
        };
        own.is_some()
            || self.endpoint.is_some()
            || self.environment.of(signal, "ENDPOINT").is_some()
    }

    /// Code before environment, and in both the signal's own before that of all signals.
    fn endpoint_of(&self, signal: Signal, protocol: Protocol) -> Endpoint {
        let (own, method) = match signal {
            Signal::Traces => (&self.traces_endpoint, "Otlp::traces_endpoint"),
            Signal::Metrics => (&self.metrics_endpoint, "Otlp::metrics_endpoint"),
        };
        let endpoint = |setting: &str, url: &str, is_base| Endpoint {
            setting: setting.to_owned(),
            url: url.trim().to_owned(),
            is_base,
        };
        if let Some(url) = own {
            return endpoint(method, url, false);
        }
        if let Some(url) = &self.endpoint {
            return endpoint("Otlp::endpoint", url, true);
        }
        if let Some(variable) = self.environment.own(signal, "ENDPOINT") {
            return endpoint(variable.name, variable.value, false);
        }
        if let Some(variable) = self.environment.common("ENDPOINT") {
            return endpoint(variable.name, variable.value, true);
        }
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf | Protocol::HttpJson => "http://localhost:4318",
        };
        endpoint("Otlp::endpoint", default, true)
    }

    fn headers_of(&self, signal: Signal) -> Result<HeaderMap, OtlpError> {
        let variable = self.environment.of(signal, "HEADERS");
        let from_env = match variable {
            Some(variable) => variable.headers()?,
            None => Vec::new(),
        };
        let setting = variable.map_or("", |variable| variable.name);
        let all = from_env.iter().map(|entry| (setting, entry));
        let all = all.chain(self.headers.iter().map(|entry| ("Otlp::header", entry)));
        headers(all.map(|(setting, (name, value))| Header {
            setting,
            name,
            value,
        }))
    }

    fn files(&self, signal: Signal) -> Files {
        let env = |name| {
            let variable = self.environment.of(signal, name)?;
            Some(named(variable.name, variable.value))
        };
        let ca = self.ca_certificate.as_ref();
        let ca = ca.map(|path| named("Otlp::ca_certificate", path));
        let (certificate, key) = match &self.client_identity {
            Some((certificate, key)) => (
                Some(named("Otlp::client_identity", certificate)),
                Some(named("Otlp::client_identity", key)),
            ),
            None => (env("CLIENT_CERTIFICATE"), env("CLIENT_KEY")),
        };
        Files {
            ca: ca.or_else(|| env("CERTIFICATE")),
            certificate,
            key,
        }
    }

    /// From the weakest to the strongest.
    fn resource(&self) -> Result<Resource, OtlpError> {
        let mut resource = Resource::detect();
        if let Some(variable) = self.environment.get(environment::RESOURCE_ATTRIBUTES) {
            for (key, value) in variable.attributes()? {
                resource.set(key, value);
            }
        }
        if let Some(variable) = self.environment.get(environment::SERVICE_NAME) {
            resource.set("service.name", variable.value);
        }
        for (key, value) in &self.resource {
            resource.set(key.as_str(), value.as_str());
        }
        if let Some(name) = &self.service_name {
            resource.set("service.name", name.as_str());
        }
        Ok(resource)
    }
}

/// What was read for the signal before.
struct KnownTls {
    files: Files,
    tls: std::sync::Arc<rustls::ClientConfig>,
}

fn within<T: std::fmt::Debug>(
    (setting, value): (&str, T),
    is_right: impl FnOnce(&T) -> bool,
    accepted: &'static str,
) -> Result<T, OtlpError> {
    if is_right(&value) {
        return Ok(value);
    }
    Err(OtlpError::Value {
        setting: setting.to_owned(),
        value: format!("{value:?}"),
        accepted,
    })
}
