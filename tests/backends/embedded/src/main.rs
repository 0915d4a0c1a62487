//! A receiver of OTLP over gRPC with Jaeger's query API, for machines without a Go toolchain.
//!
//! Ports come from the environment: `GRPC_PORT` receives, `QUERY_PORT` answers.

use std::error::Error;

use otlp_embedded::{Config, State, TraceServiceImpl, TraceServiceServer, ui_app};

fn port(name: &str) -> Result<u16, Box<dyn Error>> {
    let text = std::env::var(name).map_err(|error| format!("{name}: {error}"))?;
    Ok(text.parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = State::new(Config {
        max_length: 1_000_000,
        max_memory_usage: 1 << 32,
    });
    let query = tokio::net::TcpListener::bind(("127.0.0.1", port("QUERY_PORT")?)).await?;
    let receiver = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(TraceServiceImpl::new(
            state.clone(),
        )))
        .serve(([127, 0, 0, 1], port("GRPC_PORT")?).into());
    tokio::select! {
        answered = axum::serve(query, ui_app(state, "/")) => Ok(answered?),
        received = receiver => Ok(received?),
    }
}
