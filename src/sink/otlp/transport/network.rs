//! What went wrong on the way, in words that say what to change.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::Failure;
use crate::sink::otlp::retry::Again;
use crate::sink::otlp::settings::{Protocol, Target};

pub(super) const TOKEN: &str =
    "the header `authorization` in OTEL_EXPORTER_OTLP_HEADERS or Otlp::header";
pub(super) const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL or Otlp::protocol";
const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE or Otlp::ca_certificate";
const IDENTITY: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE or Otlp::client_identity";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT or Otlp::timeout";

pub(super) fn protocol(target: &Target) -> &'static str {
    match target.protocol {
        Protocol::Grpc => "gRPC",
        Protocol::HttpProtobuf => "protobuf over HTTP",
        Protocol::HttpJson => "JSON over HTTP",
    }
}

pub(super) fn with_message(mut why: String, message: &str) -> String {
    if !message.is_empty() {
        why.push_str("; it says: ");
        why.push_str(message);
    }
    why
}

/// Receivers of spans alone say it in the same way as those that are asked at a wrong place.
pub(super) fn no_metrics(target: &Target, code: &dyn fmt::Display) -> String {
    format!(
        "{} takes no metrics ({code}): switch them off with Otlp::metrics(false) or OTEL_METRICS_EXPORTER=none, or \
         correct {}",
        target.shown, target.setting
    )
}

pub(super) fn no_answer(target: &Target) -> Failure {
    Failure {
        why: format!(
            "{} did not answer within {:?}: see what it is busy with, or raise {TIMEOUT}",
            target.shown, target.timeout
        ),
        again: Again::Backoff,
    }
}

/// Describes why there is no answer.
pub(super) fn failure(target: &Target, error: &(dyn Error + 'static)) -> Failure {
    let Target { shown, setting, .. } = target;
    if let Some(tls) = find::<rustls::Error>(error) {
        return Failure {
            why: tls_failure(target, tls),
            again: Again::NotAtTheEnd,
        };
    }
    let cause = deepest(error);
    let could_connect =
        find::<hyper_util::client::legacy::Error>(error).is_none_or(|error| !error.is_connect());
    let why = if could_connect {
        let grpc_port = target.uri.port_u16() == Some(4317) && target.protocol != Protocol::Grpc;
        let hint = if grpc_port {
            format!("; port 4317 is usually for gRPC: check {PROTOCOL}")
        } else {
            String::new()
        };
        format!("the connection to {shown} broke ({cause}){hint}")
    } else {
        // Of requests that wait for one connection only the first learns why there is none.
        let is_follower = find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        let cause = match is_follower {
            true => String::new(),
            false => format!(" ({cause})"),
        };
        format!("cannot connect to {shown}{cause}: start the receiver, or correct {setting}")
    };
    Failure {
        why,
        again: Again::Backoff,
    }
}

fn tls_failure(target: &Target, error: &rustls::Error) -> String {
    let Target { shown, setting, .. } = target;
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {shown} has expired: renew it there")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {shown} is not valid yet: check the clocks")
            }
            CertificateError::UnknownIssuer => format!(
                "the certificate of {shown} is of an unknown authority: name that authority's in {CA}"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "the certificate of {shown} is for another host: check the host of {setting}"
                )
            }
            other => format!("the certificate of {shown} is not usable ({other}): check {CA}"),
        },
        rustls::Error::InvalidMessage(_) => {
            format!("{shown} does not speak TLS: use http:// in {setting}, or check its port")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure),
        ) => format!("{shown} does not accept who we are ({alert:?}): check {IDENTITY}"),
        other => format!("no TLS connection to {shown} ({other}): check {setting} and {CA}"),
    }
}

/// Goes down to the cause, also through system errors, which hide what they wrap.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), below)
}

fn below<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let error: &'a (dyn Error + 'static) = *error;
    let system = error.downcast_ref::<io::Error>();
    match system.and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn deepest(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}
