//! TLS with certificates made for the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::receiver::{Receiver, Reply};
use super::{assert_counts, batch, fate, start};
use crate::model::Export;
use crate::sink::otlp::settings::Otlp;

/// An authority and what it has signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Two of the same name would be taken for one with two keys.
        let name = folder.path().to_string_lossy();
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_ref());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { folder, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate and returns it with its key, both as PEM.
    fn sign(&self, host: &str, last_year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn receiver(&self, host: &str, last_year: i32, asks_for_client: bool) -> Receiver {
        let (certificate, key) = self.sign(host, last_year);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if asks_for_client {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_file(self.file("ca.pem")).unwrap();
            roots.add(ca).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
        let wrap = move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(Box::new(StreamOwned::new(connection, stream)) as Box<dyn super::receiver::Stream>)
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nothing: [Reply; 0] = [];
        Receiver::wrapped(listener, nothing, Box::new(wrap))
    }
}

fn https(receiver: &Receiver) -> Otlp {
    Otlp::new(format!("https://127.0.0.1:{}", receiver.port))
}

/// What becomes of 3 spans in a second.
fn failure(otlp: Otlp) -> Export {
    let exporter = start(otlp);
    exporter.send_spans(batch(3));
    let began = Instant::now();
    exporter.finish(Instant::now() + Duration::from_secs(5));
    // There is nothing to wait for: nobody mends a certificate while the program ends.
    assert!(began.elapsed() < Duration::from_secs(3));
    exporter.account()
}

#[test]
fn a_receiver_of_the_named_authority_is_trusted() {
    let authority = Authority::new();
    let receiver = authority.receiver("127.0.0.1", 2100, false);
    let export = fate(https(&receiver).ca_certificate(authority.file("ca.pem")));
    assert_counts(&export, [3, 0, 0, 0]);
    assert_eq!(receiver.received()[0].body, batch(3).request);
}

#[test]
fn a_receiver_that_asks_who_we_are_is_told() {
    let authority = Authority::new();
    let receiver = authority.receiver("127.0.0.1", 2100, true);
    let (certificate, key) = authority.sign("client", 2100);
    std::fs::write(authority.file("client.pem"), certificate).unwrap();
    std::fs::write(authority.file("client.key"), key).unwrap();
    let otlp = https(&receiver).ca_certificate(authority.file("ca.pem"));
    let with_identity = otlp
        .clone()
        .client_identity(authority.file("client.pem"), authority.file("client.key"));
    assert_counts(&fate(with_identity), [3, 0, 0, 0]);

    let export = failure(otlp);
    assert_counts(&export, [0, 0, 3, 0]);
    let error = export.last_error.unwrap();
    assert!(error.contains("does not accept who we are"), "{error}");
    assert!(error.contains("Otlp::client_identity"), "{error}");
}

#[test]
fn certificates_that_are_not_trusted_are_explained() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (receiver, expected) in [
        (
            authority.receiver("127.0.0.1", 2021, false),
            "has expired: renew it there",
        ),
        (
            authority.receiver("elsewhere.example", 2100, false),
            "is for another host: check the host of Otlp::endpoint",
        ),
        (
            stranger.receiver("127.0.0.1", 2100, false),
            "is of an unknown authority: name that authority's in OTEL_EXPORTER_OTLP_CERTIFICATE or \
             Otlp::ca_certificate",
        ),
    ] {
        let export = failure(https(&receiver).ca_certificate(authority.file("ca.pem")));
        assert_counts(&export, [0, 0, 3, 0]);
        assert_eq!(
            export.last_error.unwrap(),
            format!(
                "the certificate of https://127.0.0.1:{}/v1/traces {expected}",
                receiver.port
            )
        );
    }
}

#[test]
fn a_receiver_without_tls_is_told_apart() {
    let authority = Authority::new();
    // Answers whatever comes with what is no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let otlp = Otlp::new(format!("https://127.0.0.1:{port}"));
    let export = failure(otlp.ca_certificate(authority.file("ca.pem")));
    assert_counts(&export, [0, 0, 3, 0]);
    let error = export.last_error.unwrap();
    assert!(error.contains("does not speak TLS: use http://"), "{error}");
}
