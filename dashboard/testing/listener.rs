//! The real listener: what TLS it speaks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};

use crate::{Config, Server};

struct Files {
    dir: tempfile::TempDir,
    root: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap())
            .unwrap();
        let files = Self { dir, root };
        let (cert, key) = files.issue("localhost");
        fs::write(files.path("cert.pem"), cert).unwrap();
        fs::write(files.path("key.pem"), key).unwrap();
        fs::write(files.path("ca.pem"), files.root.pem()).unwrap();
        files
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.root).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> Config {
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            authority: "localhost:0".to_owned(),
            tls_cert_file: self.path("cert.pem"),
            tls_key_file: self.path("key.pem"),
            client_ca_file: None,
            store: self.path("store"),
        }
    }

    fn client(&self, identity: Option<(String, String)>) -> ClientConfig {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![
                        rustls::pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap(),
                    ],
                    rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }
}

/// Runs a server while `visit` visits it, and sees that it stops when told to.
async fn while_serving(config: Config, visit: impl FnOnce(SocketAddr) + Send + 'static) {
    let now = super::bench::NOON.parse().unwrap();
    let server = Server::bind(&config, Arc::new(move || now)).unwrap();
    let address = server.local_addr();
    assert_eq!(server.authority(), format!("localhost:{}", address.port()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
    tokio::task::spawn_blocking(move || visit(address))
        .await
        .unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

/// One request over TLS; what the handshake agreed on and what came back.
fn healthz(
    address: SocketAddr,
    client: ClientConfig,
) -> Result<(Option<ProtocolVersion>, String), std::io::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = StreamOwned::new(session, connect(address));
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok((
        stream.conn.protocol_version(),
        String::from_utf8(text).unwrap(),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_3_is_served_and_1_2_is_refused() {
    let files = Files::new();
    let client = files.client(None);
    while_serving(files.config(), move |address| {
        let (version, text) = healthz(address, client).unwrap();
        assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");

        let mut old = connect(address);
        old.write_all(&client_hello_1_2()).unwrap();
        let mut answer = [0; 7];
        old.read_exact(&mut answer).unwrap();
        // A fatal alert: protocol_version (RFC 8446, section 6.2).
        assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 70]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_client_authority_nobody_else_is_let_in() {
    let files = Files::new();
    let config = Config {
        client_ca_file: Some(files.path("ca.pem")),
        ..files.config()
    };
    let nobody = files.client(None);
    let agent = files.client(Some(files.issue("agent")));
    while_serving(config, move |address| {
        assert!(healthz(address, nobody).is_err());
        let (_, text) = healthz(address, agent).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    })
    .await;
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_once() {
    let files = Files::new();
    let bind = |cert: &Path, key: &Path| {
        let config = Config {
            tls_cert_file: cert.to_owned(),
            tls_key_file: key.to_owned(),
            ..files.config()
        };
        let clock = Arc::new(jiff::Timestamp::default);
        crate::app::chain(&Server::bind(&config, clock).unwrap_err())
    };
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let (_, other) = files.issue("localhost");
    fs::write(files.path("other.pem"), other).unwrap();
    assert!(bind(&files.path("none.pem"), &key).contains("cannot read"));
    assert!(bind(&key, &key).contains("holds no certificate"));
    assert!(bind(&cert, &cert).contains("holds no private key"));
    assert!(bind(&cert, &files.path("other.pem")).contains("not a usable pair"));
}

/// The first flight of a client that knows nothing newer than TLS 1.2.
fn client_hello_1_2() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 0x17][..], // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],              // ec_point_formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4],  // signature_algorithms: ECDSA, RSA-PSS
        &[0, 23, 0, 0],                    // extended_master_secret
        &[0xff, 1, 0, 1, 0],               // renegotiation_info
    ]
    .concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u16::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(hello);
    record
}
