//! Connections, with and without TLS.

use std::fmt;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::body::Body;

use crate::sink::otlp::settings::{Protocol, Target};

/// How often a connection with a request under way is asked whether it is still there. Without it, a connection that
/// the network has forgotten would be chosen for every new attempt.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A pool of connections. Clones share it.
#[derive(Clone)]
pub(super) enum Client {
    Plain(legacy::Client<HttpConnector, Body>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Body>),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::Plain(_) => "Plain",
            Client::Tls(_) => "Tls",
        })
    }
}

impl Client {
    pub(super) fn new(target: &Target) -> Client {
        let is_grpc = target.protocol == Protocol::Grpc;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(is_grpc)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(60)));
        let Some(tls) = &target.tls else {
            return Client::Plain(builder.build(connector));
        };
        // What is below only carries bytes; the scheme is for the TLS connector around it.
        connector.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls.as_ref().clone())
            .https_only();
        Client::Tls(match is_grpc {
            true => builder.build(tls.enable_http2().wrap_connector(connector)),
            false => builder.build(tls.enable_http1().wrap_connector(connector)),
        })
    }

    pub(super) async fn request(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        match self {
            Client::Plain(client) => client.request(request).await,
            Client::Tls(client) => client.request(request).await,
        }
    }
}
