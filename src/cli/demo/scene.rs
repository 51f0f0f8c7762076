//! What a demo needs on disk: an authority and a certificate, two configurations, a company with a key, an
//! inventory. The files are those of a real installation.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cms_dashboard::key::Mode;
use cms_dashboard::{Config as DashboardConfig, admin};
use cms_spec::CompanyId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use crate::agent;
use crate::cli::CliError;
use crate::clock::Clock;
use crate::identity::Machine;

/// The company that the demo reports for.
pub(super) const COMPANY: &str = "demo-company";

/// Directories of this machine that the demo looks at, those of them that exist.
const ROOTS: [(&str, &str); 3] = [
    ("/var/log", "logs"),
    ("/usr/share", "shared-files"),
    ("/usr/lib", "libraries"),
];

/// Price of a gigabyte of storage for a month, so that the demo has something to multiply.
const USD_PER_GB_MONTH: &str = "0.023";

/// The demo's directory.
#[derive(Debug)]
pub(super) struct Scene {
    directory: PathBuf,
    port: u16,
    // Removes the directory when the demo ends, unless the person chose one.
    _temporary: Option<TempDir>,
}

impl Scene {
    /// Makes the directory with certificates and the dashboard's configuration. What a `--dir` of an earlier
    /// demo holds is used again.
    pub(super) fn set(directory: Option<&Path>) -> Result<Self, CliError> {
        let (directory, temporary) = match directory {
            Some(directory) => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .map_err(|error| failed(directory, &error))?;
                let directory = directory
                    .canonicalize()
                    .map_err(|error| failed(directory, &error))?;
                (directory, None)
            }
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("cms-demo-")
                    .tempdir()
                    .map_err(|error| CliError::failed(&error))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let mut scene = Self {
            directory,
            port: 0,
            _temporary: temporary,
        };
        scene.make_certificates()?;
        scene.port = free_port()?;
        scene.write_dashboard_file()?;
        Ok(scene)
    }

    /// A file of the scene.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The dashboard's configuration, read back as `dashboard run` would.
    pub(super) fn dashboard_config(&self) -> Result<DashboardConfig, CliError> {
        DashboardConfig::load(&self.path("dashboard.toml"))
            .map_err(|error| CliError::failed(&error))
    }

    /// Adds the company, makes its key, and writes the agent's configuration and inventory.
    pub(super) fn write_agent_files(
        &self,
        dashboard: SocketAddr,
        clock: &Clock,
    ) -> Result<(), CliError> {
        let company: CompanyId = COMPANY.parse().map_err(|error| CliError::failed(&error))?;
        let store = self.path("dashboard");
        let known = admin::companies(&store).map_err(|error| CliError::failed(&error))?;
        if !known.iter().any(|known| known.id == company) {
            admin::add_company(&store, &company, "Demo Company", clock.now())
                .map_err(|error| CliError::failed(&error))?;
        }
        if !self.path("api.key").exists() {
            let new = admin::create_key(&store, &company, "demo", Mode::Live, clock.now())
                .map_err(|error| CliError::failed(&error))?;
            self.write("api.key", 0o600, new.key.reveal())?;
        }
        let instance = Machine::local(&clock.boot_id())
            .instance(&company)
            .map_err(|error| CliError::failed(&error))?;
        let roots: Vec<(&str, &str)> = ROOTS
            .into_iter()
            .filter(|(path, _)| Path::new(path).is_dir())
            .collect();
        let mut inventory = format!(
            "# submission_date: {}\nkind,id,name\ninstance,{instance},{}\n",
            clock.now().strftime("%Y-%m-%d"),
            agent::hostname()
        );
        let mut storage = String::new();
        for (path, name) in roots {
            inventory.push_str(&format!("storage,{name},{path}\n"));
            storage.push_str(&format!(
                "\n[[storage.root]]\npath = \"{path}\"\nname = \"{name}\"\nusd_per_gb_month = {USD_PER_GB_MONTH}\n"
            ));
        }
        self.write("inventory.csv", 0o644, &inventory)?;
        let directory = self.directory.display();
        let port = dashboard.port();
        self.write(
            "agent.toml",
            0o644,
            &format!(
                "# Written by `cms-telemetry-agent demo`. The schedule is faster than the specification's.\n\
                 company_id = \"{COMPANY}\"\nsite = \"demo\"\n\n\
                 [dashboard]\nendpoint = \"https://localhost:{port}/api/v1\"\n\
                 api_key = {{ file = \"{directory}/api.key\" }}\nca_file = \"{directory}/ca.pem\"\n\n\
                 [store]\npath = \"{directory}/agent\"\n\n\
                 [status]\nsocket = \"{directory}/status.sock\"\n\n\
                 [schedule]\nghost_compute = \"5s\"\ndark_data = \"10s\"\ncoverage_verification = \"10s\"\n\n\
                 [compute]\nenabled = true\ninterval = \"1s\"\n{storage}\n\
                 [coverage]\nbaseline = \"{directory}/inventory.csv\"\n"
            ),
        )
    }

    fn write_dashboard_file(&self) -> Result<(), CliError> {
        let (directory, port) = (self.directory.display(), self.port);
        self.write(
            "dashboard.toml",
            0o644,
            &format!(
                "# Written by `cms-telemetry-agent demo`.\n\
                 listen = \"127.0.0.1:{port}\"\nauthority = \"localhost:{port}\"\n\
                 tls_cert_file = \"{directory}/dashboard.pem\"\ntls_key_file = \"{directory}/dashboard.key\"\n\
                 store = \"{directory}/dashboard\"\n"
            ),
        )
    }

    /// Makes an authority for this demo alone, and a certificate for `localhost` from it.
    fn make_certificates(&self) -> Result<(), CliError> {
        if self.path("dashboard.key").exists() {
            return Ok(());
        }
        let refused = |error: rcgen::Error| CliError::failed(&error);
        let mut authority = CertificateParams::default();
        authority
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Carbon Mirror demo authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate().map_err(refused)?;
        let authority = CertifiedIssuer::self_signed(authority, authority_key).map_err(refused)?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = CertificateParams::new(names).map_err(refused)?;
        let server_key = KeyPair::generate().map_err(refused)?;
        let certificate = server.signed_by(&server_key, &authority).map_err(refused)?;
        self.write("ca.pem", 0o644, &authority.pem())?;
        self.write("dashboard.pem", 0o644, &certificate.pem())?;
        self.write("dashboard.key", 0o600, &server_key.serialize_pem())
    }

    fn write(&self, name: &str, mode: u32, text: &str) -> Result<(), CliError> {
        let path = self.path(name);
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, &error))
    }
}

/// A port that is free now. Its number must be in the signed authority before the dashboard listens.
fn free_port() -> Result<u16, CliError> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| CliError::failed(&error))
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Failed {
        status: crate::cli::ExitStatus::Bug,
        chain: format!("cannot write {}: {error}", path.display()),
        hint: Some("choose another directory with --dir".to_owned()),
    }
}
