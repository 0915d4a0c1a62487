//! Requests to the receiver over gRPC and HTTP.

mod answer;
mod client;
mod grpc;
mod http;
mod network;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::client::Client;
use super::retry::Again;
use super::settings::{Protocol, Settings, Signal, Target};

const USER_AGENT: &str = concat!("tracing-cortex/", env!("CARGO_PKG_VERSION"));

/// A receiver that asks for more than this has made a mistake.
const LONGEST_DEMAND: Duration = Duration::from_secs(300);

/// The receivers of both signals. Sends ready protobuf bytes.
#[derive(Debug)]
pub(super) struct Transport {
    traces: Option<Channel>,
    metrics: Option<Channel>,
}

#[derive(Debug)]
struct Channel {
    target: Target,
    client: Client,
}

/// The receiver has the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Spans or points that it refused nevertheless.
    pub(super) rejected: u64,
    /// Why, if it did; what it warns of, if it did not; empty if it says nothing.
    pub(super) why: String,
}

/// The receiver does not have the request, or may not have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Names the endpoint and what to look at.
    pub(super) why: String,
    pub(super) again: Again,
}

impl Transport {
    /// Connects when the first request is sent. To be called on the runtime that will send.
    pub(super) fn new(settings: &Settings) -> Transport {
        let traces = settings.traces.clone().map(|target| Channel {
            client: Client::new(&target),
            target,
        });
        let metrics = settings.metrics.clone().map(|target| Channel {
            client: match &traces {
                // One connection for both where they can share it.
                Some(traces) if is_same_client(&traces.target, &target) => traces.client.clone(),
                _ => Client::new(&target),
            },
            target,
        });
        Transport { traces, metrics }
    }

    /// Sends one request and waits for the answer, at most for the target's timeout.
    pub(super) async fn send(&self, signal: Signal, request: Bytes) -> Result<Accepted, Failure> {
        let channel = match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
        };
        let Some(Channel { target, client }) = channel else {
            return Err(Failure {
                why: "this signal is switched off".to_owned(),
                again: Again::Never,
            });
        };
        let answer = async {
            match target.protocol {
                Protocol::Grpc => grpc::send(client, target, request).await,
                Protocol::HttpProtobuf | Protocol::HttpJson => {
                    http::send(client, target, request).await
                }
            }
        };
        let answer = tokio::time::timeout(target.timeout, answer).await;
        let mut accepted = answer.unwrap_or_else(|_| Err(network::no_answer(target)))?;
        if accepted.rejected > 0 {
            let why = format!("{} refused a part of a request", target.shown);
            accepted.why = network::with_message(why, &accepted.why);
        } else if !accepted.why.is_empty() {
            let why = format!("{} took a request", target.shown);
            accepted.why = network::with_message(why, &accepted.why);
        }
        Ok(accepted)
    }
}

fn is_same_client(one: &Target, other: &Target) -> bool {
    let is_grpc = |target: &Target| target.protocol == Protocol::Grpc;
    let tls = match (&one.tls, &other.tls) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    };
    is_grpc(one) == is_grpc(other) && tls
}
