//! One signal's receiver.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::{Compression, Protocol};
use crate::sink::otlp::error::OtlpError;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// The path behind a base URL.
    fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        }
    }
}

/// Where the requests of one signal go, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) signal: Signal,
    /// For HTTP with the whole path; for gRPC its path comes before that of the service.
    pub(crate) uri: Uri,
    /// The URL without its query, which may hold a secret.
    pub(crate) shown: String,
    /// The method or variable that named the endpoint.
    pub(crate) setting: String,
    pub(crate) protocol: Protocol,
    pub(crate) compression: Compression,
    /// For one request.
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    /// Set for `https`.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the values of headers, which may be secrets.
        f.debug_struct("Target")
            .field("endpoint", &self.shown)
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

/// An endpoint as it was set.
pub(super) struct Endpoint {
    pub(super) setting: String,
    pub(super) url: String,
    /// Set for all signals, so that HTTP adds the signal's path.
    pub(super) is_base: bool,
}

const URL: &str = "a URL such as http://localhost:4318 or https://collector.example:4317";

impl Endpoint {
    /// Returns where to send to; `insecure` says what a gRPC endpoint without a scheme means.
    pub(super) fn uri(
        &self,
        signal: Signal,
        protocol: Protocol,
        insecure: bool,
    ) -> Result<Uri, OtlpError> {
        let wrong = |accepted| OtlpError::Endpoint {
            setting: self.setting.clone(),
            value: self.url.clone(),
            accepted,
        };
        let mut url = self.url.clone();
        if protocol == Protocol::Grpc && !url.contains("://") {
            let scheme = if insecure { "http" } else { "https" };
            url = format!("{scheme}://{url}");
        }
        if self.is_base && protocol != Protocol::Grpc {
            let (base, query) = match url.split_once('?') {
                Some((base, query)) => (base, format!("?{query}")),
                None => (url.as_str(), String::new()),
            };
            url = format!("{}{}{query}", base.trim_end_matches('/'), signal.path());
        }
        let uri: Uri = url.parse().map_err(|_| wrong(URL))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong(URL));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            // Not shown: it holds a password.
            return Err(OtlpError::Endpoint {
                setting: self.setting.clone(),
                value: "a URL with a user name".to_owned(),
                accepted: "a URL without one; say who you are with the header `authorization`",
            });
        }
        // A port that is none parses as a part of the authority.
        let port_is_number = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            }
            _ => true,
        };
        if uri.host().is_none_or(str::is_empty) || !port_is_number {
            return Err(wrong(URL));
        }
        Ok(uri)
    }
}

/// Returns a URL as it may be shown.
pub(super) fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    let text = text.split('?').next().unwrap_or_default();
    text.strip_suffix('/').unwrap_or(text).to_owned()
}

/// A header and the setting that it came from.
pub(super) struct Header<'a> {
    pub(super) setting: &'a str,
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

/// Checks headers; a later one replaces an earlier one of the same name.
pub(super) fn headers<'a>(
    all: impl IntoIterator<Item = Header<'a>>,
) -> Result<HeaderMap, OtlpError> {
    let mut map = HeaderMap::new();
    for entry in all {
        let wrong = |accepted| OtlpError::Header {
            setting: entry.setting.to_owned(),
            header: entry.name.to_owned(),
            accepted,
        };
        let name = HeaderName::try_from(entry.name)
            .map_err(|_| wrong("names of letters, digits and hyphens"))?;
        let mut value = HeaderValue::try_from(entry.value)
            .map_err(|_| wrong("values without line breaks and control characters"))?;
        if OURS.contains(&name) || name.as_str().starts_with("grpc-") {
            return Err(wrong("headers that the protocol does not set itself"));
        }
        if name.as_str().ends_with("-bin") {
            return Err(wrong("text; names that end in -bin are for binary values"));
        }
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// Headers that say how the request is made; others in their place would break it.
const OURS: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
];
