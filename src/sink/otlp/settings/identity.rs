//! Certificates: whom to trust, and who we are.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::sink::otlp::error::OtlpError;

/// A file and the setting that named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub(super) setting: String,
    pub(super) path: PathBuf,
}

/// The files of one signal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    pub(super) ca: Option<NamedFile>,
    pub(super) certificate: Option<NamedFile>,
    pub(super) key: Option<NamedFile>,
}

impl NamedFile {
    fn read(&self) -> Result<Vec<u8>, OtlpError> {
        std::fs::read(&self.path).map_err(|source| OtlpError::File {
            setting: self.setting.clone(),
            path: self.path.clone(),
            source,
        })
    }

    fn unusable(
        &self,
        accepted: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> OtlpError {
        OtlpError::Pem {
            setting: self.setting.clone(),
            path: self.path.clone(),
            accepted,
            source,
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, OtlpError> {
        let bytes = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates =
            certificates.map_err(|error| self.unusable("certificate", Some(error.into())))?;
        if certificates.is_empty() {
            return Err(self.unusable("certificate", None));
        }
        Ok(certificates)
    }
}

impl Files {
    /// Builds what a TLS connection needs. `setting` and `url` are those of the endpoint.
    pub(super) fn tls(&self, setting: &str, url: &str) -> Result<Arc<ClientConfig>, OtlpError> {
        let tls = |source: rustls::Error| OtlpError::Tls {
            setting: setting.to_owned(),
            source: source.into(),
        };
        let identity = self.identity()?;
        let trusted = self.ca.as_ref().map(trusted).transpose()?;
        let provider = provider().ok_or_else(|| OtlpError::NoCryptoProvider {
            setting: setting.to_owned(),
            value: url.to_owned(),
        })?;
        let roots = match trusted {
            Some(roots) => roots,
            None => system_roots(setting, url)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots);
        let config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(tls)?,
            None => config.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn identity(&self) -> Result<Option<Identity>, OtlpError> {
        let half = |file: &NamedFile, missing: &str| OtlpError::HalfIdentity {
            setting: file.setting.clone(),
            missing: missing.to_owned(),
        };
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(file), None) => Err(half(file, "OTEL_EXPORTER_OTLP_CLIENT_KEY")),
            (None, Some(file)) => Err(half(file, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")),
            (Some(certificate), Some(key)) => {
                let chain = certificate.certificates()?;
                let bytes = key.read()?;
                let key = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| key.unusable("private key", Some(error.into())))?;
                Ok(Some((chain, key)))
            }
        }
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Trusts nothing but what stands in the file, so that a private receiver cannot be impersonated by a public one.
fn trusted(ca: &NamedFile) -> Result<RootCertStore, OtlpError> {
    let mut roots = RootCertStore::empty();
    for certificate in ca.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| ca.unusable("certificate", Some(error.into())))?;
    }
    Ok(roots)
}

fn system_roots(setting: &str, url: &str) -> Result<RootCertStore, OtlpError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(OtlpError::NoCertificates {
            setting: setting.to_owned(),
            value: url.to_owned(),
        });
    }
    Ok(roots)
}

/// The program's choice comes first: two providers in one program are two sets of rules.
fn provider() -> Option<Arc<CryptoProvider>> {
    let installed = CryptoProvider::get_default().cloned();
    #[cfg(feature = "otlp-ring")]
    let installed = installed.or_else(|| Some(Arc::new(rustls::crypto::ring::default_provider())));
    installed
}

/// Builds a [`NamedFile`].
pub(super) fn named(setting: &str, path: impl AsRef<Path>) -> NamedFile {
    NamedFile {
        setting: setting.to_owned(),
        path: path.as_ref().to_owned(),
    }
}
