//! Requests to the receiver over gRPC and HTTP.

mod answer;
mod client;
mod custom;
mod grpc;
mod http;
mod network;
mod span_data;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::client::Client;
use self::custom::Custom;
use super::retry::Again;
use super::settings::{Destination, Protocol, Settings, Signal, Target};

const USER_AGENT: &str = concat!("tracing-cortex/", env!("CARGO_PKG_VERSION"));

/// A receiver that asks for more than this has made a mistake.
const LONGEST_DEMAND: Duration = Duration::from_secs(300);

/// The receivers of both signals. Sends ready protobuf bytes.
#[derive(Debug)]
pub(super) struct Transport {
    traces: Option<Route>,
    metrics: Option<Channel>,
}

#[derive(Debug)]
enum Route {
    Receiver(Box<Channel>),
    Exporter(Custom),
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
    /// Connects when the first request is sent.
    pub(super) fn new(settings: &Settings) -> Transport {
        let traces = settings.traces.clone().map(|traces| match traces {
            Destination::Receiver(target) => Route::Receiver(Box::new(Channel {
                client: Client::new(&target),
                target: *target,
            })),
            Destination::Exporter(exporter, timeout) => {
                Route::Exporter(Custom::new(&exporter, timeout))
            }
        });
        let metrics = settings.metrics.clone().map(|target| Channel {
            client: match &traces {
                // One connection for both where they can share it.
                Some(Route::Receiver(traces)) if is_same_client(&traces.target, &target) => {
                    traces.client.clone()
                }
                _ => Client::new(&target),
            },
            target,
        });
        Transport { traces, metrics }
    }

    /// Sends one request and waits for the answer, at most for the destination's timeout.
    pub(super) async fn send(&self, signal: Signal, request: Bytes) -> Result<Accepted, Failure> {
        let channel = match (signal, &self.traces) {
            (Signal::Traces, Some(Route::Exporter(exporter))) => {
                return exporter.send(request).await;
            }
            (Signal::Traces, Some(Route::Receiver(channel))) => Some(channel.as_ref()),
            (Signal::Traces, None) => None,
            (Signal::Metrics, _) => self.metrics.as_ref(),
        };
        match channel {
            Some(channel) => channel.send(request).await,
            None => Err(Failure {
                why: "this signal is switched off".to_owned(),
                again: Again::Never,
            }),
        }
    }

    /// Begins to end what has to be ended before the program does.
    pub(super) fn close(&self, runtime: &Runtime, deadline: Instant) -> Option<Closing> {
        let Some(Route::Exporter(exporter)) = &self.traces else {
            return None;
        };
        Some(Closing {
            task: exporter.close(runtime, deadline),
            unclosed: exporter.unclosed(),
        })
    }
}

/// The end of an exporter.
#[derive(Debug)]
pub(super) struct Closing {
    task: JoinHandle<Result<(), String>>,
    unclosed: String,
}

impl Closing {
    /// Returns what went wrong, at the deadline at the latest.
    pub(super) async fn wait(self, deadline: Instant) -> Result<(), String> {
        let closed = tokio::time::timeout_at(deadline.into(), self.task).await;
        match closed {
            Ok(Ok(result)) => result,
            _ => Err(self.unclosed),
        }
    }
}

impl Channel {
    async fn send(&self, request: Bytes) -> Result<Accepted, Failure> {
        let Channel { target, client } = self;
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
