//! The only file that names rustls: TLS 1.3 and nothing older, with the one crypto library.
//!
//! Promises: no option makes it weaker. Refuses: a certificate file without a certificate, a key that does
//! not belong to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};

/// Builds the server's side of TLS. With `client_ca`, who has no certificate of it gets no connection.
///
/// # Errors
/// When a file cannot be read or holds something else than it should.
pub fn server_config(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Protocol)?;
    let builder = match client_ca {
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| unreadable(key, source))?;
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
            source,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::ClientRoot {
                path: path.to_owned(),
                source,
            })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(TlsError::ClientVerifier)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(path, source))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

fn unreadable(path: &Path, source: pem::Error) -> TlsError {
    match source {
        pem::Error::Io(source) => TlsError::Read {
            path: path.to_owned(),
            source,
        },
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        source => TlsError::Pem {
            path: path.to_owned(),
            source,
        },
    }
}

/// Why there is no TLS, and therefore no dashboard.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A client root is no root.
    #[error("{}: a certificate cannot serve as a client root", path.display())]
    ClientRoot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The roots make no verifier.
    #[error("cannot check client certificates with client_ca_file")]
    ClientVerifier(#[source] VerifierBuilderError),
    /// The file has no certificate.
    #[error("{} holds no certificate; it must have one in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The file has no key.
    #[error("{} holds no private key; it must have one in PEM form", .0.display())]
    NoKey(PathBuf),
    /// Certificate and key are not a pair, or the key is of an unknown kind.
    #[error("{} and {} are not a usable pair", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The file is not PEM.
    #[error("{} is not PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The library has no TLS 1.3.
    #[error("cannot offer TLS 1.3")]
    Protocol(#[source] rustls::Error),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
