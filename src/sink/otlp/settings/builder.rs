//! The settings as the user makes them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanExporter;

use super::environment::Environment;
use super::span_exporter::Held;
use super::{Compression, Protocol, Temporality};
use crate::sink::otlp::sampling::Choice;

/// Where and how to export; see [`CortexBuilder::otlp`](crate::CortexBuilder::otlp).
///
/// ```
/// use std::time::Duration;
/// use tracing_cortex::otlp::{Compression, Otlp, Protocol};
///
/// let otlp = Otlp::new("https://collector.example:4317")
///     .protocol(Protocol::Grpc)
///     .header("authorization", "Bearer 5f4dcc3b")
///     .compression(Compression::Gzip)
///     .service_name("checkout")
///     .spill("unsent.jsonl");
/// ```
///
/// Settings are checked when the capture is built. What is set here wins over the environment, of which
/// [`Otlp::new`] takes nothing and [`Otlp::from_env`] everything that the specification of OpenTelemetry names.
#[derive(Clone)]
#[must_use = "settings do nothing until they are given to a capture"]
pub struct Otlp {
    pub(super) environment: Environment,
    pub(super) endpoint: Option<String>,
    pub(super) traces_endpoint: Option<String>,
    pub(super) metrics_endpoint: Option<String>,
    pub(super) protocol: Option<Protocol>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) compression: Option<Compression>,
    pub(super) timeout: Option<Duration>,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) ca_certificate: Option<PathBuf>,
    pub(super) client_identity: Option<(PathBuf, PathBuf)>,
    pub(super) max_queue_bytes: usize,
    pub(super) spill: Option<PathBuf>,
    pub(super) schedule_delay: Option<Duration>,
    pub(super) adopt_ids: bool,
    pub(super) max_gpu_spans: Option<u32>,
    pub(super) max_batch_spans: Option<usize>,
    pub(super) span_exporter: Option<Held>,
    pub(super) traces: Option<bool>,
    pub(super) metrics: Option<bool>,
    pub(super) metrics_interval: Option<Duration>,
    pub(super) temporality: Option<Temporality>,
    pub(in crate::sink::otlp) sampling: Choice,
}

impl Otlp {
    /// Sends to a receiver at a base URL such as `http://localhost:4318`; takes nothing from the environment.
    pub fn new(endpoint: impl Into<String>) -> Otlp {
        Otlp::with(Environment::default()).endpoint(endpoint)
    }

    /// Takes every setting from the environment; without any it sends protobuf to `http://localhost:4318`.
    ///
    /// | variable | values |
    /// |---|---|
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | a base URL; HTTP adds `/v1/traces` and `/v1/metrics` |
    /// | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf`, `grpc` or `http/json` |
    /// | `OTEL_EXPORTER_OTLP_HEADERS` | `name=value,name=value`, values percent-encoded |
    /// | `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` or `none` |
    /// | `OTEL_EXPORTER_OTLP_TIMEOUT` | for one request, in milliseconds |
    /// | `OTEL_EXPORTER_OTLP_CERTIFICATE` | a PEM file: whom to trust |
    /// | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_CLIENT_KEY` | PEM files: who we are |
    /// | `OTEL_EXPORTER_OTLP_INSECURE` | `true`: no TLS for a gRPC endpoint without a scheme |
    /// | all of them with `_TRACES_` or `_METRICS_` behind `OTLP` | for one signal; an endpoint is taken as it is |
    /// | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta` or `lowmemory` |
    /// | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | a name; `key=value,key=value` |
    /// | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `otlp` or `none` |
    /// | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | as the specification has them |
    /// | `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds |
    /// | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | spans |
    /// | `OTEL_SDK_DISABLED` | `true`: nothing is exported |
    ///
    /// A variable without a value counts as not set. A wrong value is an error when the capture is built, unless a
    /// method has set the same.
    pub fn from_env() -> Otlp {
        Otlp::from_lookup(&|name| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    pub(super) fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Otlp {
        Otlp::with(Environment::read(lookup))
    }

    fn with(environment: Environment) -> Otlp {
        Otlp {
            environment,
            endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            protocol: None,
            headers: Vec::new(),
            compression: None,
            timeout: None,
            service_name: None,
            resource: Vec::new(),
            ca_certificate: None,
            client_identity: None,
            max_queue_bytes: 64 << 20,
            spill: None,
            schedule_delay: None,
            max_gpu_spans: None,
            adopt_ids: false,
            max_batch_spans: None,
            span_exporter: None,
            traces: None,
            metrics: None,
            metrics_interval: None,
            temporality: None,
            sampling: Choice::default(),
        }
    }

    /// Sends both signals to a base URL, to which HTTP adds `/v1/traces` and `/v1/metrics`.
    ///
    /// Default: `http://localhost:4318`, and port 4317 for gRPC.
    pub fn endpoint(mut self, url: impl Into<String>) -> Otlp {
        self.endpoint = Some(url.into());
        self
    }

    /// Sends spans to this URL as it is, whatever [`Otlp::endpoint`] says.
    pub fn traces_endpoint(mut self, url: impl Into<String>) -> Otlp {
        self.traces_endpoint = Some(url.into());
        self
    }

    /// Sends metrics to this URL as it is, whatever [`Otlp::endpoint`] says.
    pub fn metrics_endpoint(mut self, url: impl Into<String>) -> Otlp {
        self.metrics_endpoint = Some(url.into());
        self
    }

    /// Sets how requests travel. Default: protobuf over HTTP.
    pub fn protocol(mut self, protocol: Protocol) -> Otlp {
        self.protocol = Some(protocol);
        self
    }

    /// Adds a header to every request, such as `authorization`; replaces one of the same name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Otlp {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how request bodies are compressed. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Otlp {
        self.compression = Some(compression);
        self
    }

    /// Limits one request, from the connection to the answer; it is then tried again. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Otlp {
        self.timeout = Some(timeout);
        self
    }

    /// Names the program in the backend: the attribute `service.name`. Default: `unknown_service:` and the executable.
    pub fn service_name(mut self, name: impl Into<String>) -> Otlp {
        self.service_name = Some(name.into());
        self
    }

    /// Adds an attribute that stands over all spans and metrics, such as `deployment.environment.name`.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Otlp {
        self.resource.push((key.into(), value.into()));
        self
    }

    /// Trusts only receivers with a certificate of this authority: a PEM file. Default: whom the system trusts.
    pub fn ca_certificate(mut self, path: impl Into<PathBuf>) -> Otlp {
        self.ca_certificate = Some(path.into());
        self
    }

    /// Shows the receiver a certificate of our own: two PEM files.
    pub fn client_identity(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Otlp {
        self.client_identity = Some((certificate.into(), key.into()));
        self
    }

    /// Limits the memory of encoded requests that wait or are under way. Default: 64 MiB, at least 64 KiB; beyond it,
    /// the oldest are spilled or dropped.
    pub fn max_queue_bytes(mut self, bytes: usize) -> Otlp {
        self.max_queue_bytes = bytes;
        self
    }

    /// Writes spans that cannot be sent to the end of a file, which is made when it is first needed. Default: none.
    ///
    /// Each line is one request as OTLP-JSON, which the `otlpjsonfile` receiver of the OpenTelemetry Collector reads. It
    /// takes lines of up to 1 MiB (`max_log_size`); only a span that is longer by itself makes a longer line.
    pub fn spill(mut self, path: impl Into<PathBuf>) -> Otlp {
        self.spill = Some(path.into());
        self
    }

    /// Sets how long a finished span may wait for others to go with it. Default: 1 s.
    pub fn schedule_delay(mut self, delay: Duration) -> Otlp {
        self.schedule_delay = Some(delay);
        self
    }

    /// Limits the spans of one request. Default: 2048.
    pub fn max_batch_spans(mut self, spans: usize) -> Otlp {
        self.max_batch_spans = Some(spans);
        self
    }

    /// Limits the spans that one operation gets for what devices did for it: kernels, copies, fills, ranges. Default: 128;
    /// 0 for none. What lies beyond is counted in [`Export::gpu_beyond_limit`](crate::Export::gpu_beyond_limit), and in the
    /// statistics as always.
    ///
    /// They are children of the operation, with the device's times and attributes `gpu.*`. A model launches thousands of
    /// kernels for one call, which no backend shows well.
    pub fn max_gpu_spans(mut self, spans: u32) -> Otlp {
        self.max_gpu_spans = Some(spans);
        self
    }

    /// Hands spans to an exporter instead of sending them to an endpoint: any [`SpanExporter`] of `opentelemetry_sdk` 0.33,
    /// such as those of `opentelemetry-otlp` or one of the program's own. Default: none.
    ///
    /// ```
    /// use opentelemetry_sdk::error::OTelSdkResult;
    /// use opentelemetry_sdk::trace::{SpanData, SpanExporter};
    /// use tracing_cortex::otlp::Otlp;
    ///
    /// #[derive(Debug)]
    /// struct Names;
    ///
    /// impl SpanExporter for Names {
    ///     async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
    ///         for span in batch {
    ///             println!("{}", span.name);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let otlp = Otlp::from_env().span_exporter(Names);
    /// ```
    ///
    /// What it gets is what would be sent, after sampling and in the same batches, with the queue, the account and the
    /// spill file as they are. Its `Ok` counts as exported.
    ///
    /// * After `OTelSdkError::Timeout` and `InternalFailure` a batch is tried again like one that could not be sent, also
    ///   after what the exporter tries itself. After `AlreadyShutdown` or a panic it is not: it is spilled or dropped.
    /// * One call at a time runs on a thread named `cortex-export`, where telemetry is suppressed. The exporter may block
    ///   it, and finds a runtime of tokio's for its timers and connections. [`Otlp::timeout`] limits a call; one that
    ///   blocks cannot be interrupted and is waited for, but not beyond the deadline of the exit.
    /// * What it does on threads of its own is the program's. A gRPC exporter works on the runtime in which it was built:
    ///   that has to be one that runs until the capture is finished, and a filter should leave out its `h2` and `tonic`
    ///   spans, each of which would be exported by another call.
    /// * `set_resource` comes before the first batch. `shutdown_with_timeout` comes once, after the last one, with what is
    ///   left of the deadline; what it says of a failure is [`Export::last_warning`](crate::Export::last_warning).
    /// * Endpoint, protocol, headers, compression and certificates do not apply to it.
    ///
    /// Metrics do not go through it. They go to the endpoint if one was set, in code or in the environment; without one
    /// they are off unless they were switched on ([`Otlp::metrics`], `OTEL_METRICS_EXPORTER`).
    ///
    /// An exporter belongs to one capture: building a second from a clone of these settings is an error.
    pub fn span_exporter(mut self, exporter: impl SpanExporter + 'static) -> Otlp {
        self.span_exporter = Some(Held::new(exporter));
        self
    }

    /// Switches the export of spans on or off. Default: on.
    pub fn traces(mut self, on: bool) -> Otlp {
        self.traces = Some(on);
        self
    }

    /// Takes over the ids of a tracing-opentelemetry layer that was added to the subscriber before this one, and leaves
    /// the spans that it has to it. That layer is recognised by itself; only where one of the two is boxed
    /// (`Box<dyn Layer<_>>`, a `Vec` of layers) does this have to be said.
    pub fn adopt_ids(mut self) -> Otlp {
        self.adopt_ids = true;
        self
    }

    /// Switches the export of metrics on or off. Default: on, but see [`Otlp::span_exporter`]. A receiver that says it
    /// takes none is asked only once.
    pub fn metrics(mut self, on: bool) -> Otlp {
        self.metrics = Some(on);
        self
    }

    /// Sets the time between two exports of metrics. Default: 60 s, at least 10 ms.
    pub fn metrics_interval(mut self, interval: Duration) -> Otlp {
        self.metrics_interval = Some(interval);
        self
    }

    /// Sets what metrics count from. Default: the start of the capture.
    pub fn temporality(mut self, temporality: Temporality) -> Otlp {
        self.temporality = Some(temporality);
        self
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the environment and the values of headers, which may be secrets.
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .field("compression", &self.compression)
            .field("span_exporter", &self.span_exporter)
            .field("spill", &self.spill)
            .finish_non_exhaustive()
    }
}
