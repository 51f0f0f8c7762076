//! A Mosquitto of our own: its certificates, users and configuration, in a directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::lab::{Counterpart, free_port, installed, wait_until};

/// Where Debian has it; not in everybody's PATH.
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// What the clients log in with.
pub(crate) const USER: &str = "agent";
const PASSWORD: &str = "a password of the lab";

/// A broker that wants TLS 1.3, a certificate and a password.
pub(crate) struct Broker {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    running: Option<Counterpart>,
}

impl Broker {
    /// Makes certificates and configuration in the directory, and starts it.
    pub(crate) fn start(directory: &Path, tls_version: &str) -> Self {
        // Mosquitto comes with the rest.
        installed("python3");
        certificates(directory);
        write_secret(&directory.join("password"), PASSWORD);
        write_secret(&directory.join("wrong"), "another password");
        let users = directory.join("users");
        fs::write(&users, "").unwrap();
        let hashed = Command::new("mosquitto_passwd")
            .arg("-b")
            .args([users.as_os_str(), USER.as_ref(), PASSWORD.as_ref()])
            .status()
            .unwrap();
        assert!(hashed.success());
        let port = free_port();
        let place = |name: &str| directory.join(name).display().to_string();
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\ntls_version {tls_version}\nallow_anonymous false\n\
             password_file {}\nmax_queued_messages 100000\npersistence true\n\
             persistence_location {}/\n\
             autosave_on_changes true\nautosave_interval 1\nacl_file {}\nlog_dest stderr\n",
            place("ca.pem"),
            place("server.pem"),
            place("server.key"),
            place("users"),
            directory.display(),
            place("acl"),
        );
        fs::write(
            directory.join("acl"),
            format!("user {USER}\ntopic readwrite dc1/#\n"),
        )
        .unwrap();
        fs::write(directory.join("mosquitto.conf"), text).unwrap();
        let mut broker = Self {
            directory: directory.to_owned(),
            port,
            running: None,
        };
        broker.go_on();
        broker
    }

    /// Starts it, or starts it again.
    pub(crate) fn go_on(&mut self) {
        let mut command = Command::new(MOSQUITTO);
        command.arg("-c").arg(self.directory.join("mosquitto.conf"));
        let mut running = Counterpart::start(command, &self.directory, "mosquitto");
        running.until_it_says(" running");
        self.running = Some(running);
    }

    /// Kills it.
    pub(crate) fn die(&mut self) {
        self.running = None;
    }

    /// The table of the broker for the agent.
    pub(crate) fn table(&self, more: &str) -> String {
        let place = |name: &str| self.directory.join(name).display().to_string();
        format!(
            "[[thermal.mqtt]]\nname = \"bms\"\nbroker = \"mqtts://localhost:{}\"\nuser = \"{USER}\"\n\
             password = {{ file = \"{}\" }}\n\
             tls = {{ ca_file = \"{}\", client_cert_file = \"{}\", client_key_file = \"{}\" }}\n{more}\n",
            self.port,
            place("password"),
            place("ca.pem"),
            place("client.pem"),
            place("client.key"),
        )
    }

    /// Publishes each line with `mosquitto_pub`; waits until the broker has them all.
    pub(crate) fn publish(&self, topic: &str, lines: &[u8], more: &[&str]) {
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "localhost", "-p", &self.port.to_string()])
            .args(["-u", USER, "-P", PASSWORD, "-t", topic, "-l"])
            .args(["--cafile", "ca.pem", "--cert", "client.pem"])
            .args(["--key", "client.key", "--tls-version", "tlsv1.3"])
            .args(more)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Waits until a client has subscribed.
    pub(crate) fn until_subscribed(&self, clients: usize) {
        let running = self.running.as_ref().unwrap();
        wait_until("a client of the broker", || {
            running.log().matches("New client connected").count() >= clients
        });
    }
}

fn certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes two certificates of one name for one.
    params.distinguished_name.push(DnType::CommonName, "lab");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
    for (name, subject) in [("server", "localhost"), ("client", "agent.example")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        write_secret(&directory.join(format!("{name}.key")), &key.serialize_pem());
    }
}

fn write_secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
