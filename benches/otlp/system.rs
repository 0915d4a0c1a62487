//! The subscribers under test.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfig, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider,
};
use serde::Serialize;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, registry};

use crate::cortex;
use crate::receiver::Endpoints;

/// A subscriber under test, always on top of [`Registry`] and under a global filter: without one, a layer that exports
/// would export the spans of its own HTTP/2 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// A layer that does nothing.
    Empty,
    /// Statistics and call tree: the layer alone.
    Cortex,
    /// The same, and OTLP over gRPC.
    CortexGrpc,
    /// The same over HTTP/1.1.
    CortexHttp,
    /// tracing-opentelemetry, batch processor and gRPC exporter, with a queue that takes every span.
    OtelRoomy,
    /// The same with the default queue.
    OtelDefault,
}

impl System {
    pub(crate) const ALL: [System; 6] = [
        System::Empty,
        System::Cortex,
        System::CortexGrpc,
        System::CortexHttp,
        System::OtelRoomy,
        System::OtelDefault,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            System::Empty => "empty",
            System::Cortex => "cortex",
            System::CortexGrpc => "cortex-grpc",
            System::CortexHttp => "cortex-http",
            System::OtelRoomy => "otel-roomy",
            System::OtelDefault => "otel-default",
        }
    }

    pub(crate) fn parse(id: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.id() == id)
    }

    /// Whether it is to export what it records.
    pub(crate) fn exports(self) -> bool {
        !matches!(self, System::Empty | System::Cortex)
    }

    /// Makes the system the default of this process and returns what ends it.
    pub(crate) fn install(self, endpoints: &Endpoints) -> Finish {
        match self {
            System::Empty => {
                set_default(Empty);
                Box::new(|| {})
            }
            System::Cortex | System::CortexGrpc | System::CortexHttp => {
                cortex::install(self, endpoints)
            }
            System::OtelRoomy => {
                let config = BatchConfigBuilder::default().with_max_queue_size(1 << 18);
                otel(endpoints, config.build())
            }
            System::OtelDefault => otel(endpoints, BatchConfig::default()),
        }
    }
}

/// Exports what is left.
pub(crate) type Finish = Box<dyn FnOnce()>;

/// The way its documentation shows, but for a runtime of its own that the program need not drive.
fn otel(endpoints: &Endpoints, config: BatchConfig) -> Finish {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let exporter = {
        let _inside = runtime.enter();
        SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&endpoints.grpc)
            .build()
            .unwrap()
    };
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("bench").build())
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("bench");
    set_default(tracing_opentelemetry::layer().with_tracer(tracer));
    Box::new(move || {
        // More than the default of 5 s, so that nothing is lost but what the queue refused.
        provider
            .shutdown_with_timeout(Duration::from_secs(60))
            .unwrap();
        drop(runtime);
    })
}

pub(crate) fn set_default(layer: impl Layer<Registry> + Send + Sync) {
    let subscriber = registry().with(layer).with(LevelFilter::INFO);
    tracing::subscriber::set_global_default(subscriber).unwrap();
}

struct Empty;

impl<S: Subscriber> Layer<S> for Empty {}
