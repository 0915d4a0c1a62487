//! Why an export could not start.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A setting that cannot work. `setting` is the method or the environment variable that it came from.
///
/// The values of headers are never part of an error: they may be secrets.
#[derive(Debug)]
#[non_exhaustive]
pub enum OtlpError {
    /// The endpoint is no URL that can be sent to.
    Endpoint {
        /// Where it was set.
        setting: String,
        /// What was set.
        value: String,
        /// What it takes.
        accepted: &'static str,
    },
    /// A value is not one of those that the setting takes.
    Value {
        /// Where it was set.
        setting: String,
        /// What was set.
        value: String,
        /// What it takes.
        accepted: &'static str,
    },
    /// A header cannot be sent.
    Header {
        /// Where it was set.
        setting: String,
        /// Its name, or the number of the entry if it has none.
        header: String,
        /// What it takes.
        accepted: &'static str,
    },
    /// A file could not be read.
    File {
        /// Where it was set.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    Pem {
        /// Where it was set.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What the file must hold.
        accepted: &'static str,
        /// What the reader said; `None` if the file holds nothing of the kind.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Of a certificate and its key only one was set.
    HalfIdentity {
        /// Where the one was set.
        setting: String,
        /// Where the other is to be set.
        missing: String,
    },
    /// The endpoint wants TLS and the program has no cryptography for it.
    NoCryptoProvider {
        /// Where the endpoint was set.
        setting: String,
        /// What was set.
        value: String,
    },
    /// The endpoint wants TLS and the system has no certificates to trust.
    NoCertificates {
        /// Where the endpoint was set.
        setting: String,
        /// What was set.
        value: String,
    },
    /// The certificates and the key do not make a TLS client.
    Tls {
        /// Where the endpoint was set.
        setting: String,
        /// What the TLS library said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An exporter belongs to one capture, and another was built with it before.
    ExporterTaken {
        /// Where it was set.
        setting: String,
    },
}

impl fmt::Display for OtlpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OtlpError::Endpoint {
                setting,
                value,
                accepted,
            }
            | OtlpError::Value {
                setting,
                value,
                accepted,
            } => write!(f, "{setting} is {value:?}; it takes {accepted}"),
            OtlpError::Header {
                setting,
                header,
                accepted,
            } => write!(
                f,
                "{setting} has a header {header:?} that cannot be sent; it takes {accepted}"
            ),
            OtlpError::File { setting, path, .. } => write!(
                f,
                "cannot read {}; correct the path or the permissions of {setting}",
                path.display()
            ),
            OtlpError::Pem {
                setting,
                path,
                accepted,
                ..
            } => write!(
                f,
                "{} has no usable {accepted}; {setting} takes a PEM file with one",
                path.display()
            ),
            OtlpError::HalfIdentity { setting, missing } => {
                write!(f, "{setting} is of no use alone; set {missing} as well")
            }
            OtlpError::NoCryptoProvider { setting, value } => write!(
                f,
                "{setting} is {value:?}, which needs TLS; enable the feature `otlp-ring` of tracing-cortex, or install \
                 a rustls `CryptoProvider` before"
            ),
            OtlpError::NoCertificates { setting, value } => write!(
                f,
                "{setting} is {value:?}, and this system has no certificates to check it with; name one with \
                 Otlp::ca_certificate or OTEL_EXPORTER_OTLP_CERTIFICATE"
            ),
            OtlpError::Tls { setting, .. } => write!(
                f,
                "the certificates for {setting} make no TLS client; check that the client's key belongs to its \
                 certificate"
            ),
            OtlpError::ExporterTaken { setting } => write!(
                f,
                "{setting} has an exporter that another capture was built with before; make one for each capture"
            ),
        }
    }
}

impl Error for OtlpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OtlpError::File { source, .. } => Some(source),
            OtlpError::Pem { source, .. } => match source {
                Some(source) => Some(source.as_ref()),
                None => None,
            },
            OtlpError::Tls { source, .. } => Some(source.as_ref()),
            OtlpError::Endpoint { .. }
            | OtlpError::Value { .. }
            | OtlpError::Header { .. }
            | OtlpError::HalfIdentity { .. }
            | OtlpError::NoCryptoProvider { .. }
            | OtlpError::NoCertificates { .. }
            | OtlpError::ExporterTaken { .. } => None,
        }
    }
}
