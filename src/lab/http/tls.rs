//! TLS for the lab's client, with rustls and without an async runtime.
//!
//! The system's certificates are loaded when the first connection needs them, so most runs load nothing.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, InvalidMessage, RootCertStore,
    SignatureScheme, StreamOwned,
};

use super::HttpError;
use super::wire::PlainWire;

/// Whether and how a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// Against the certificates that the system trusts.
    #[default]
    System,
    /// Not at all: any certificate is accepted.
    Skipped,
}

/// How connections are secured. Clones share the loaded certificates and the sessions.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    verification: Verification,
    config: Arc<OnceLock<ClientConfig>>,
}

impl Tls {
    /// TLS with this verification. Loads no certificates yet.
    pub fn new(verification: Verification) -> Tls {
        Tls { verification, config: Arc::default() }
    }

    /// The configuration that offers these protocols, the preferred one first. The first call loads the system's
    /// certificates. `to` names the server in an error.
    pub(crate) fn config(&self, protocols: &[&[u8]], to: &str) -> Result<Arc<ClientConfig>, HttpError> {
        let config = match self.config.get() {
            Some(config) => config,
            None => {
                let made = self.make(to)?;
                self.config.get_or_init(|| made)
            }
        };
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn make(&self, to: &str) -> Result<ClientConfig, HttpError> {
        let failed = |error: rustls::Error| HttpError::Tls { to: to.to_owned(), why: error.to_string() };
        match self.verification {
            Verification::System => verifying(system_roots(to)?).map_err(failed),
            Verification::Skipped => unverified().map_err(failed),
        }
    }

    /// Performs the TLS handshake with the server `host`. Blocks at most until the wire's deadline.
    pub(super) fn handshake(
        &self,
        mut wire: PlainWire,
        host: &str,
        to: &str,
    ) -> Result<Box<StreamOwned<ClientConnection, PlainWire>>, HttpError> {
        let config = self.config(&[b"http/1.1"], to)?;
        let mut connection = ClientConnection::new(config, server_name(host, to)?)
            .map_err(|error| HttpError::Tls { to: to.to_owned(), why: error.to_string() })?;
        while connection.is_handshaking() {
            connection.complete_io(&mut wire).map_err(|error| handshake_error(error, to))?;
        }
        Ok(Box::new(StreamOwned::new(connection, wire)))
    }
}

/// The name for which a server's certificate must be valid. `host` is a name or an address without brackets.
pub(crate) fn server_name(host: &str, to: &str) -> Result<ServerName<'static>, HttpError> {
    let name = host.strip_suffix('.').unwrap_or(host).to_owned();
    let bad = |_| HttpError::Tls {
        to: to.to_owned(),
        why: "a certificate cannot be issued for this host name".to_owned(),
    };
    ServerName::try_from(name).map_err(bad)
}

/// Why a handshake failed. A socket error is converted in the same way as without TLS.
pub(crate) fn handshake_error(error: io::Error, to: &str) -> HttpError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let to = to.to_owned();
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            HttpError::Certificate { to, why: certificate_in_words(why) }
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            HttpError::Tls { to, why: "its answer is not TLS; give http:// instead of https://".to_owned() }
        }
        Some(other) => HttpError::Tls { to, why: other.to_string() },
        None if error.kind() == io::ErrorKind::UnexpectedEof => HttpError::NoAnswer,
        None => HttpError::from_body(error),
    }
}

fn certificate_in_words(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "it is not signed by an authority that this system trusts".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        // The server presents a CA certificate as its own. Self-signed certificates are often CA certificates.
        CertificateError::Other(other) => format!("it is self-signed or malformed ({other})"),
        other => other.to_string(),
    }
}

fn system_roots(to: &str) -> Result<RootCertStore, HttpError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(loaded.certs);
    if usable == 0 {
        let cause = loaded.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let why = format!("no usable CA certificates on this system{cause}");
        return Err(HttpError::Certificate { to: to.to_owned(), why });
    }
    Ok(roots)
}

fn verifying(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn unverified() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions()?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(AcceptAny(provider))).with_no_client_auth())
}

/// The two methods of a verifier that check a signature, one per version of TLS. They differ only in their names.
macro_rules! accept_signatures {
    ($($method:ident),+) => {$(
        fn $method(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
    )+};
}

/// Accepts every certificate and every signature.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    accept_signatures!(verify_tls12_signature, verify_tls13_signature);

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
