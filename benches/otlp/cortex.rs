//! The layer of this crate.

use tracing_cortex::CortexLayer;
use tracing_cortex::otlp::{Otlp, Protocol};

use crate::receiver::Endpoints;
use crate::system::{Finish, System, set_default};

/// Makes one of the `Cortex*` systems the default of this process.
pub(crate) fn install(system: System, endpoints: &Endpoints) -> Finish {
    let builder = CortexLayer::builder().no_resources();
    let builder = match system {
        System::CortexGrpc => builder.otlp(otlp(&endpoints.grpc, Protocol::Grpc)),
        System::CortexHttp => builder.otlp(otlp(&endpoints.http, Protocol::HttpProtobuf)),
        _ => builder,
    };
    let (layer, guard) = builder.build().unwrap();
    set_default(layer);
    Box::new(move || {
        guard.finish().unwrap();
    })
}

fn otlp(endpoint: &str, protocol: Protocol) -> Otlp {
    Otlp::new(endpoint).protocol(protocol)
}
