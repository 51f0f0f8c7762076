//! Servers that answer as they should not: each gives one clear error that names the address.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cms_collectors::CollectError;
use cms_collectors::web::{Answer, Body, Dial, Request, Site, Tls, Web};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

mod sessions;

/// Reads the head and the body of one request.
pub(super) fn request_of(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap_or(0);
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "the request ends early");
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

/// Answers every connection with `talk`, until the test ends.
pub(super) fn server(talk: impl Fn(String, &mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            thread::spawn(move || {
                let request = request_of(&mut stream);
                talk(request, &mut stream);
            });
        }
    });
    address
}

fn answering(answer: &'static [u8]) -> SocketAddr {
    server(move |_, stream| drop(stream.write_all(answer)))
}

/// Answers at once, whatever is asked: a client that speaks TLS is no reader of HTTP.
fn blurting(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(
                stream
                    .read(&mut [0; 4096])
                    .and_then(|_| stream.write_all(answer)),
            );
        }
    });
    address
}

fn site(table: &str) -> Site {
    toml::from_str(table).unwrap()
}

/// For what never ends: the time that it is given.
const SOON: Duration = Duration::from_millis(50);

async fn ask(site: &Site, body: Option<Body<'_>>) -> Result<(Answer, Vec<u8>), CollectError> {
    ask_within(site, body, Duration::from_secs(60)).await
}

async fn ask_within(
    site: &Site,
    body: Option<Body<'_>>,
    within: Duration,
) -> Result<(Answer, Vec<u8>), CollectError> {
    let server = Outbound.open(site)?;
    let mut taken = Vec::new();
    let request = Request {
        path: "/metrics",
        body,
        headers: &[("x-scope-orgid", "tenant-1")],
        within,
        answer_bytes_max: 100_000,
    };
    let mut on_piece = |piece: &[u8]| {
        taken.extend_from_slice(piece);
        Ok(())
    };
    let answer = server.ask(&request, &mut on_piece).await?;
    Ok((answer, taken))
}

async fn ask_http(address: SocketAddr) -> Result<(Answer, Vec<u8>), CollectError> {
    ask(&site(&format!("url = 'http://{address}'")), None).await
}

/// Class and text of an error.
fn told(error: &CollectError) -> (&'static str, String) {
    (error.class(), chained(error).to_string())
}

#[tokio::test]
async fn a_secret_goes_into_the_header_that_a_server_wants_and_into_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    write_secret(&key, "s3cret\n");
    let address = server(|request, stream| {
        let length = request.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{request}");
        drop(stream.write_all(answer.as_bytes()));
    });
    let login = Login::Header {
        name: "x-api-key",
        value: SecretPlace::File(key.clone()),
    };
    let address = format!("http://{address}").parse().unwrap();
    let site = Site::checked(address, Tls::default(), Some(login)).unwrap();
    let (_, body) = ask(&site, None).await.unwrap();
    let request = String::from_utf8(body).unwrap();
    assert!(request.contains("x-api-key: s3cret\r\n"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
    write_secret(&key, "s3cret\u{7f}");
    let (class, said) = told(&ask(&site, None).await.unwrap_err());
    assert!(class == "denied" && !said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn a_question_and_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    write_secret(&token, "s3cret\n");
    let address = server(|request, stream| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{request}",
            request.len()
        );
        drop(stream.write_all(answer.as_bytes()));
    });
    let table = format!(
        "url = 'http://{address}/prefix/'\nbearer_token = {{ file = '{}' }}",
        token.display()
    );
    let form = Body {
        content_type: "application/x-www-form-urlencoded",
        bytes: b"query=up",
    };
    let (answer, body) = ask(&site(&table), Some(form)).await.unwrap();
    let request = String::from_utf8(body).unwrap();
    assert!(answer.is_good());
    assert!(
        request.starts_with("POST /prefix/metrics HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer s3cret\r\n"),
        "{request}"
    );
    assert!(request.contains("accept-encoding: gzip"), "{request}");
    assert!(request.contains("x-scope-orgid: tenant-1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nquery=up"), "{request}");
}

#[tokio::test]
async fn a_missing_secret_is_told_with_its_place_and_a_refused_one_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    let address =
        answering(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 13\r\n\r\nUnauthorized\n");
    let table = format!(
        "url = 'http://{address}'\nbasic = {{ user = 'agent', password = {{ file = '{}' }} }}",
        password.display()
    );
    let (class, text) = told(&ask(&site(&table), None).await.unwrap_err());
    assert_eq!(class, "denied");
    assert!(
        text.contains("password") && text.contains("chmod 600"),
        "{text}"
    );
    write_secret(&password, "s3cret");
    let (answer, _) = ask(&site(&table), None).await.unwrap();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (401, "Unauthorized")
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nnode_load1 0.5\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf \r\n",
    ] {
        let (class, text) = told(&ask_http(answering(answer)).await.unwrap_err());
        assert_eq!(class, "malformed");
        assert!(
            text.contains("ends before its end") && text.contains("/metrics"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_its_bound_compressed_or_not() {
    let endless = server(|_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
        while stream.write_all(&[b'x'; 8192]).is_ok() {}
    });
    // A megabyte of zeros in a kilobyte.
    let packed = include_bytes!("zeros.gz");
    let bomb = server(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            packed.len()
        );
        drop(
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(packed)),
        );
    });
    for address in [endless, bomb] {
        let (class, text) = told(&ask_http(address).await.unwrap_err());
        assert_eq!(class, "malformed");
        assert!(text.contains("longer than 100000 bytes"), "{text}");
    }
}

#[tokio::test]
async fn a_slow_drip_ends_at_its_time() {
    let drip = server(|_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\na"));
        // Nothing more: the connection stays open until the client leaves.
        drop(stream.read(&mut [0; 1]));
    });
    let (class, text) = told(
        &ask_within(&site(&format!("url = 'http://{drip}'")), None, SOON)
            .await
            .unwrap_err(),
    );
    assert_eq!(class, "timeout");
    assert!(text.contains("within 50ms"), "{text}");
}

#[tokio::test]
async fn redirects_are_followed_within_the_server_only() {
    let inside = server(|request, stream| {
        let answer: &[u8] = if request.starts_with("GET /metrics/ ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        } else {
            b"HTTP/1.1 307 Temporary Redirect\r\nconnection: close\r\nlocation: /metrics/\r\ncontent-length: 0\r\n\r\n"
        };
        drop(stream.write_all(answer));
    });
    assert_eq!(ask_http(inside).await.unwrap().1, b"ok");
    let elsewhere = server(move |_, stream| {
        let answer = format!(
            "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: http://{inside}/metrics/\r\ncontent-length: 0\r\n\r\n"
        );
        drop(stream.write_all(answer.as_bytes()));
    });
    let (answer, _) = ask_http(elsewhere).await.unwrap();
    let (_, text) = told(&answer.require_good("http://a/metrics").unwrap_err());
    assert!(text.contains("put that address into its url"), "{text}");
    let round = server(|_, stream| {
        drop(
            stream
                .write_all(b"HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"),
        );
    });
    assert_eq!(ask_http(round).await.unwrap().0.status, 302);
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (class, text) = told(&ask_http(address).await.unwrap_err());
    assert_eq!(class, "unreachable");
    assert!(
        text.contains(&address.to_string()) && text.contains("is it running there"),
        "{text}"
    );
}

#[tokio::test]
async fn certificates_are_verified_and_old_versions_must_be_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("one");
    let other = Authority::new("other");
    let modern = authority.serve(&[&rustls::version::TLS13], "localhost");
    let old = authority.serve(&[&rustls::version::TLS12], "localhost");
    let elsewhere = authority.serve(&[&rustls::version::TLS13], "elsewhere.example");
    let ca = authority.file(folder.path());
    let other_ca = other.file(folder.path());
    let table = |server: SocketAddr, tls: &str| {
        site(&format!(
            "url = 'https://localhost:{}'\ntls = {{ {tls} }}",
            server.port()
        ))
    };
    let trusting = format!("ca_file = '{ca}'");
    assert_eq!(ask(&table(modern, &trusting), None).await.unwrap().1, b"ok");
    let allowed = format!("{trusting}, min_version = '1.2'");
    assert_eq!(ask(&table(old, &allowed), None).await.unwrap().1, b"ok");
    for (server, tls, hint) in [
        (modern, format!("ca_file = '{other_ca}'"), "tls.ca_file"),
        (old, trusting.clone(), "tls.min_version"),
        (
            elsewhere,
            trusting.clone(),
            "certificate is for another name",
        ),
        (
            blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            trusting,
            "http://",
        ),
    ] {
        let (class, text) = told(&ask(&table(server, &tls), None).await.unwrap_err());
        assert_eq!(class, "unreachable", "{text}");
        assert!(text.contains(hint), "{hint}: {text}");
    }
    let (class, text) = told(
        &ask(&table(modern, "ca_file = '/nowhere/ca.pem'"), None)
            .await
            .unwrap_err(),
    );
    assert_eq!(class, "denied");
    assert!(text.contains("/nowhere/ca.pem"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_a_controller_made_itself_is_trusted_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Marked as an authority, for another name, and past its date.
    let made = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let path = folder.path().join(name);
        fs::write(&path, certificate.pem()).unwrap();
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        let servers = both.map(|version| Authority::serve_as(&[version], &certificate, &key));
        (servers, path.display().to_string())
    };
    let ([modern, old], named) = made("bmc-1");
    let (_, another) = made("bmc-2");
    let table = |server: SocketAddr, ca: &str| {
        let port = server.port();
        let tls = format!("tls = {{ ca_file = '{ca}', min_version = '1.2' }}");
        site(&format!("url = 'https://localhost:{port}'\n{tls}"))
    };
    for server in [modern, old] {
        assert_eq!(ask(&table(server, &named), None).await.unwrap().1, b"ok");
        let refused = ask(&table(server, &another), None).await.unwrap_err();
        assert_eq!(refused.class(), "unreachable");
    }
}

#[tokio::test]
async fn a_connection_of_another_protocol_is_verified_alike() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("site");
    let modern = authority.serve(&[&rustls::version::TLS13], "localhost");
    let old = authority.serve(&[&rustls::version::TLS12], "localhost");
    let elsewhere = authority.serve(&[&rustls::version::TLS13], "elsewhere.example");
    let known = Tls {
        ca_file: Some(authority.file(folder.path()).into()),
        ..Tls::default()
    };
    let another = Tls {
        ca_file: Some(Authority::new("other").file(folder.path()).into()),
        ..Tls::default()
    };
    let dial = async |address: SocketAddr, tls: Option<&Tls>| {
        let to = Dial {
            host: "localhost".to_owned(),
            port: address.port(),
            tls: tls.cloned(),
            within: Duration::from_secs(20),
        };
        Outbound.dial(&to).await
    };

    let mut stream = dial(modern, Some(&known)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");

    let refused = async |address, tls| told(&dial(address, Some(tls)).await.err().unwrap()).1;
    let hints = [
        (refused(modern, &another).await, "name it in tls.ca_file"),
        (refused(old, &known).await, "it speaks no TLS 1.3"),
        (refused(elsewhere, &known).await, "for another name"),
    ];
    for (told, hint) in hints {
        assert!(told.contains(hint), "{told}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(dial(nobody, None).await.is_err());
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    name: &'static str,
}

impl Authority {
    fn new(name: &'static str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer, name }
    }

    fn file(&self, folder: &Path) -> String {
        let path = folder.join(format!("{}.pem", self.name));
        fs::write(&path, self.issuer.pem()).unwrap();
        path.display().to_string()
    }

    /// A server of one certificate that says ok to everything.
    fn serve(&self, versions: &[&'static SupportedProtocolVersion], name: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self::serve_as(versions, &certificate, &key)
    }

    fn serve_as(
        versions: &[&'static SupportedProtocolVersion],
        certificate: &Certificate,
        key: &KeyPair,
    ) -> SocketAddr {
        let certificate = certificate.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                while connection.is_handshaking() {
                    if connection.complete_io(&mut socket).is_err() {
                        break;
                    }
                }
                if connection.is_handshaking() {
                    continue;
                }
                let mut stream = rustls::Stream::new(&mut connection, &mut socket);
                request_of(&mut stream);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
            }
        });
        address
    }
}

fn write_secret(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
