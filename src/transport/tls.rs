//! The agent's TLS, verified. The only file that names rustls.
//!
//! What is submitted travels over version 1.3 and nothing else. A source on the site may be a controller that knows
//! no more than 1.2, which its table then has to say. There is no option that turns verification off. A site with its
//! own authority names it in `dashboard.ca_file`; then only that authority is trusted, not the system's. What a source's
//! `tls.ca_file` names may also be the source's own certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cms_collectors::web::{Tls, TlsVersion};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Largest certificate or key file; a system bundle of roots has 250 KB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The files that a site gives its own authority and its client certificate in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trusted instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key that the agent shows.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Makes every connection of an HTTP client TLS 1.3, verified.
///
/// # Errors
/// When a file cannot be read or holds something else, or when the system has no roots.
pub fn secure(
    client: reqwest::ClientBuilder,
    files: &TlsFiles,
) -> Result<reqwest::ClientBuilder, TlsError> {
    let mut config = client_config(files, &[&rustls::version::TLS13])?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(client.tls_backend_preconfigured(config).https_only(true))
}

/// Verifies every TLS connection of a collector's HTTP client as the source's table says.
///
/// # Errors
/// As [`secure`].
pub fn verify(
    client: reqwest::ClientBuilder,
    tls: &Tls,
) -> Result<reqwest::ClientBuilder, TlsError> {
    Ok(client.tls_backend_preconfigured(of_source(tls)?))
}

/// Makes a connection that stands TLS, verified as the source's table says.
///
/// # Errors
/// When a file cannot be used, or the server is not who it should be.
pub async fn wrap(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name {
        host: host.to_owned(),
    })?;
    let connector = TlsConnector::from(Arc::new(of_source(tls)?));
    let failed = |source| TlsError::Handshake {
        host: host.to_owned(),
        source,
    };
    connector.connect(name, stream).await.map_err(failed)
}

fn of_source(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let files = TlsFiles {
        ca_file: tls.ca_file.clone(),
        client_certificate: tls.client_certificate.clone(),
    };
    let versions: &[&'static SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let mut config = client_config(&files, versions)?;
    if let Some(path) = &files.ca_file {
        let named = Named::in_file(path)?;
        config.dangerous().set_certificate_verifier(Arc::new(named));
    }
    Ok(config)
}

/// Trusts what a file names: authorities, and single certificates as they stand.
///
/// Controllers and gateways come with a certificate that they made themselves: often marked as an authority, without
/// the name that they are reached by, or past its date. Such a one is as good as its key, which the handshake proves
/// in any case; who names it by its bytes has said more than any authority could.
#[derive(Debug)]
struct Named {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl Named {
    fn in_file(path: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(Some(path))?);
        let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        Ok(Self {
            certificates: certificates(path)?,
            authorities: authorities.map_err(|source| TlsError::ClientCertificate {
                path: path.to_owned(),
                source: rustls::Error::General(source.to_string()),
            })?,
        })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|named| named == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let authorities = &self.authorities;
        authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

fn client_config(
    files: &TlsFiles,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Build)?
        .with_root_certificates(roots(files.ca_file.as_deref())?);
    Ok(match &files.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate_file, key_file)) => builder
            .with_client_auth_cert(certificates(certificate_file)?, private_key(key_file)?)
            .map_err(|source| TlsError::ClientCertificate {
                path: certificate_file.clone(),
                source,
            })?,
    })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::ClientCertificate {
                    path: path.to_owned(),
                    source,
                })?;
        }
        return Ok(roots);
    }
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        return Err(TlsError::NoSystemRoots);
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_bounded(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::NotPem {
            path: path.to_owned(),
            found: error.to_string(),
        })?;
    if certificates.is_empty() {
        let found = "there is no certificate in it".to_owned();
        return Err(TlsError::NotPem {
            path: path.to_owned(),
            found,
        });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read_bounded(path)?).map_err(|error| TlsError::NotPem {
        path: path.to_owned(),
        found: error.to_string(),
    })
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > PEM_BYTES_MAX {
        let found = format!("it has {length} bytes, more than any certificate file");
        return Err(TlsError::NotPem {
            path: path.to_owned(),
            found,
        });
    }
    fs::read(path).map_err(failed)
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refused the protocol choice.
    #[error("cannot set up TLS 1.3")]
    Build(#[source] rustls::Error),
    /// A certificate does not fit its purpose or its key.
    #[error("cannot use the certificate in {}", path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// The server is not who it should be, or speaks another language.
    #[error("no TLS with {host}")]
    Handshake {
        /// Who was to be reached.
        host: String,
        /// What the library said.
        source: io::Error,
    },
    /// A certificate cannot be for this.
    #[error("{host:?} is no name that a certificate can have: use the server's name or address")]
    Name {
        /// What was given.
        host: String,
    },
    /// No trust anchors.
    #[error(
        "this system has no root certificates: install the package ca-certificates or set ca_file"
    )]
    NoSystemRoots,
    /// The file holds something else.
    #[error("{} is not a PEM file as expected: {found}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
