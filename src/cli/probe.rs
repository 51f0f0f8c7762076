//! `probe`: looks at a source before it is configured, says what it has, and suggests the table for it.
//!
//! Reads nothing but the source and writes nothing: the suggestion is printed, and a person decides.

mod bacnet;
mod coverage;
mod inference;
mod modbus;
mod mqtt;
mod snmp;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use cms_collectors::compute::prometheus::probe::{Suggestion, look};
use cms_collectors::thermal::bacnet::probe::Report;
use cms_collectors::thermal::http::probe as http;
use cms_collectors::web::{Address, Login, SecretPlace, Site, Tls, TlsVersion, Web};

use super::progress::Progress;
use super::{CliError, ExitStatus, print, run};
use crate::clock::Clock;
use crate::transport::web::Outbound;

/// Looks at a source and suggests its configuration.
#[derive(Debug, Args)]
pub(super) struct Probe {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// What the configured sources report now, as an inventory in CSV to begin with.
    Coverage,
    /// A meter or gateway that speaks Modbus, over TCP or on a serial line.
    Modbus(modbus::Modbus),
    /// The BACnet/IP devices of a network, or the objects of one.
    Bacnet(bacnet::Bacnet),
    /// The topics of an MQTT broker, and what is published on them.
    Mqtt(mqtt::Mqtt),
    /// A server of AI models, or a gateway before some: what it is, its models, what it counts, how it is best read.
    Inference(inference::Inference),
    /// A server with the query API of Prometheus, or the page of a node_exporter or windows_exporter.
    Prometheus(Box<Prometheus>),
    /// A power strip, a sensor or whatever else answers over SNMP: its outlets, sensors and values.
    Snmp(snmp::Device),
    /// A web server with numbers in JSON or in plain text: a building management system, a meter.
    Http(Http),
}

#[derive(Debug, Args)]
struct Http {
    /// For example https://bms.example/api/points.
    url: Address,

    /// What comes after the address, with its slash: for a query, such as '/points?site=1'.
    #[arg(long, default_value = "")]
    path: String,

    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Args)]
struct Prometheus {
    /// For example http://127.0.0.1:9090 or http://10.0.0.7:9100/metrics.
    url: Address,

    #[command(flatten)]
    access: Access,
}

/// How a server is verified, and how we log in there.
#[derive(Debug, Args)]
struct Access {
    /// Authorities (PEM) to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// The client certificate (PEM) that the server asks for.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_cert_file: Option<PathBuf>,

    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    client_key_file: Option<PathBuf>,

    /// Also TLS 1.2, for devices that cannot do better.
    #[arg(long)]
    tls12: bool,

    /// A file with the token to log in with.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    bearer_token_file: Option<PathBuf>,

    /// The user to log in as.
    #[arg(long, requires = "password_file")]
    user: Option<String>,

    /// A file with that user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

impl Probe {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        let (found, table) = match self.kind {
            Kind::Coverage => return coverage::print_inventory(config_path),
            Kind::Modbus(modbus) => {
                let looked = modbus.look()?;
                (looked.found, looked.table)
            }
            Kind::Bacnet(bacnet) => {
                let Report { found, table } = bacnet.look()?;
                (found, table)
            }
            Kind::Mqtt(mqtt) => {
                let looked = mqtt.look()?;
                (looked.found, looked.table)
            }
            Kind::Inference(inference) => {
                let looked = inference.look()?;
                (looked.found, looked.table)
            }
            Kind::Prometheus(prometheus) => {
                let Suggestion { found, table } = prometheus.look()?;
                (found, table)
            }
            Kind::Snmp(device) => {
                let looked = device.look()?;
                (looked.found, looked.tables)
            }
            Kind::Http(http) => {
                let looked = http.look()?;
                (looked.found, looked.table)
            }
        };
        for line in &found {
            print(format!("# {line}").trim_end());
            print("\n");
        }
        print("\n");
        print(&table);
        Ok(ExitStatus::Ok)
    }
}

/// Waits for an answer, and says meanwhile what is asked.
fn answered<T, E: std::error::Error>(
    what: &str,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, CliError> {
    let looking = async { Progress::during(what, asking).await };
    let found = run::runtime()?.block_on(looking);
    found.map_err(|error| CliError::problem(&error))
}

impl Prometheus {
    fn look(self) -> Result<Suggestion, CliError> {
        let asked = self.url.to_string();
        let site = self.access.site(self.url)?;
        let web: Arc<dyn Web> = Arc::new(Outbound);
        let now = Clock::system().now();
        answered(&format!("asking {asked}"), look(web.as_ref(), &site, now))
    }
}

impl Http {
    fn look(self) -> Result<http::Suggestion, CliError> {
        let asked = self.url.to_string();
        let site = self.access.site(self.url)?;
        let web: Arc<dyn Web> = Arc::new(Outbound);
        let now = Clock::system().now();
        let asking = http::look(web.as_ref(), &site, &self.path, now);
        answered(&format!("asking {asked}"), asking)
    }
}

impl Access {
    fn site(self, address: Address) -> Result<Site, CliError> {
        // As the configuration wants them, which is read from another directory.
        let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let client_certificate = self
            .client_cert_file
            .map(whole)
            .zip(self.client_key_file.map(whole));
        let tls = Tls {
            ca_file: self.ca_file.map(whole),
            client_certificate,
            min_version: if self.tls12 {
                TlsVersion::V12
            } else {
                TlsVersion::V13
            },
        };
        let basic = self.user.zip(self.password_file.map(whole));
        let login = match (self.bearer_token_file.map(whole), basic) {
            (Some(file), _) => Some(Login::Bearer(SecretPlace::File(file))),
            (None, Some((user, file))) => Some(Login::Basic {
                user,
                password: SecretPlace::File(file),
            }),
            (None, None) => None,
        };
        Site::checked(address, tls, login).map_err(|chain| CliError::Failed {
            status: ExitStatus::Usage,
            chain,
            hint: None,
        })
    }
}
