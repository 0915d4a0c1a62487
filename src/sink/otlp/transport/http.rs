//! One request over HTTP: protobuf or JSON.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use tonic::body::Body;

use super::client::Client;
use super::{Accepted, Failure, answer, network};
use crate::sink::otlp::json;
use crate::sink::otlp::retry::Again;
use crate::sink::otlp::settings::{Compression, Protocol, Signal, Target};

/// Of an answer, which is a few dozen bytes, no more is read than this.
const MAX_ANSWER_BYTES: usize = 64 << 10;

pub(super) async fn send(
    client: &Client,
    target: &Target,
    request: Bytes,
) -> Result<Accepted, Failure> {
    let request = built(target, request)?;
    let length = request.1;
    let response = client.request(request.0).await;
    let response = response.map_err(|error| network::failure(target, &error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    // The status has said whether the request was taken; a body that cannot be read changes nothing about that.
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    if head.status.is_success() {
        return Ok(answer::accepted(&body));
    }
    let again = match head.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let wait = head.headers.get(header::RETRY_AFTER).and_then(seconds);
            wait.map_or(Again::Backoff, Again::After)
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
            if target.signal == Signal::Metrics =>
        {
            Again::NothingOfThisSignal
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Again::Backoff,
        _ => Again::Never,
    };
    let elsewhere = head.headers.get(header::LOCATION);
    let elsewhere = elsewhere.and_then(|place| place.to_str().ok());
    Err(Failure {
        why: refusal(
            target,
            head.status,
            length,
            elsewhere,
            &answer::message(&body),
        ),
        again,
    })
}

/// Returns the request and the length of its body.
fn built(target: &Target, request: Bytes) -> Result<(Request<Body>, usize), Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure {
        why: format!("a request to {} could not be made ({error})", target.shown),
        again: Again::Never,
    };
    let (content_type, body) = match target.protocol {
        Protocol::HttpJson => {
            let json = json::from_protobuf(target.signal, &request);
            let json = json.map_err(|error| broken(&error))?;
            ("application/json", Bytes::from(json))
        }
        Protocol::Grpc | Protocol::HttpProtobuf => ("application/x-protobuf", request),
    };
    let (encoding, body) = match target.compression {
        Compression::None => (None, body),
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let compressed = gzip.write_all(&body).and_then(|()| gzip.finish());
            let compressed = compressed.map_err(|error| broken(&error))?;
            (Some("gzip"), Bytes::from(compressed))
        }
    };
    let length = body.len();
    let mut request = Request::new(Body::new(Full::new(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.uri.clone();
    let headers = request.headers_mut();
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(super::USER_AGENT),
    );
    headers.extend(target.headers.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Ok((request, length))
}

/// Reads `Retry-After` in seconds. Receivers of OTLP send no dates there; one that does gets our own back-off.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(super::LONGEST_DEMAND))
}

fn refusal(
    target: &Target,
    status: StatusCode,
    length: usize,
    elsewhere: Option<&str>,
    message: &str,
) -> String {
    let Target { shown, setting, .. } = target;
    let code = status.as_u16();
    let why = match code {
        401 => format!("{shown} refused the token (401): check {}", network::TOKEN),
        403 => format!(
            "{shown} does not allow this (403): check {}",
            network::TOKEN
        ),
        404 | 405 if target.signal == Signal::Metrics => network::no_metrics(target, &code),
        404 => format!(
            "{shown} has nothing at this path (404): check the path of {setting}; receivers of OTLP usually have \
             /v1/traces and /v1/metrics"
        ),
        405 | 415 => format!(
            "{shown} does not take {} ({code}): check {}",
            network::protocol(target),
            network::PROTOCOL
        ),
        413 => format!(
            "{shown} finds a request of {length} bytes too large (413): lower Otlp::max_batch_spans, or raise the \
             receiver's limit"
        ),
        429 => format!("{shown} asks for fewer requests (429): raise its limits, or sample"),
        300..=399 => match elsewhere {
            Some(place) => format!("{shown} has moved ({code}): set {setting} to {place}"),
            None => format!("{shown} has moved ({code}): correct {setting}"),
        },
        502..=504 => format!("{shown} is not available ({code})"),
        _ => format!("{shown} refused the request ({code})"),
    };
    network::with_message(why, message)
}
