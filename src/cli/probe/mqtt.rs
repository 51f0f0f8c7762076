//! `probe mqtt`: what is published on a broker, and which of it measures heat.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cms_collectors::thermal::mqtt::probe::{
    Address, Filter, Look, LookError, Report, Version, look,
};
use cms_collectors::web::{SecretPlace, Tls, TlsVersion};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::super::progress::Progress;
use super::super::{CliError, ExitStatus, run};
use crate::clock::Clock;
use crate::transport::web::Outbound;

/// How long is listened unless it is said: most sensors publish every few seconds.
const LISTENS: &str = "10s";

/// Longest listening. Who wants to see more than an hour of messages wants another program.
const LISTENS_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
pub(super) struct Mqtt {
    /// The broker: mqtts://HOST[:8883], or without TLS mqtt://HOST[:1883].
    url: Address,

    /// Which topics; + stands for one level, # for all that follow. Everything unless it is given.
    #[arg(default_value = "#")]
    topics: Vec<Filter>,

    /// How long to listen, for example 30s or 2m.
    #[arg(long = "for", value_name = "SPAN", default_value = LISTENS, value_parser = span)]
    listens: Duration,

    /// The user to log in as.
    #[arg(long, requires = "password_file")]
    user: Option<String>,

    /// A file with that user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// Authorities (PEM) to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// The client certificate (PEM) that the broker asks for.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_cert_file: Option<PathBuf>,

    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    client_key_file: Option<PathBuf>,

    /// Also TLS 1.2, for brokers that cannot do better.
    #[arg(long)]
    tls12: bool,

    /// Speak MQTT 5 instead of 3.1.1.
    #[arg(long)]
    mqtt5: bool,

    /// The id of this client, where the broker wants a certain one. Not the agent's: the broker would end its session.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
}

impl Mqtt {
    pub(super) fn look(self) -> Result<Report, CliError> {
        let asked = self.asked();
        let (say, heard) = watch::channel(format!("connecting to {}", asked.broker));
        let now = Clock::system().now();
        let looking = async {
            let tell = |line| drop(say.send_replace(line));
            let listening = look(&asked, Arc::new(Outbound), now, &tell);
            Progress::told(&heard, listening).await
        };
        run::runtime()?
            .block_on(looking)
            .map_err(|error| CliError::Failed {
                status: match error {
                    LookError::Asked(_) => ExitStatus::Usage,
                    _ => ExitStatus::Problem,
                },
                chain: crate::status::error_chain(&error),
                hint: None,
            })
    }

    fn asked(self) -> Look {
        // As the configuration wants them, which is read from another directory.
        let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let client_certificate = self
            .client_cert_file
            .map(whole)
            .zip(self.client_key_file.map(whole));
        let is_plain = self.ca_file.is_none() && client_certificate.is_none() && !self.tls12;
        let tls = Tls {
            ca_file: self.ca_file.map(whole),
            client_certificate,
            min_version: if self.tls12 {
                TlsVersion::V12
            } else {
                TlsVersion::V13
            },
        };
        Look {
            broker: self.url,
            filters: self.topics,
            login: self
                .user
                .zip(self.password_file.map(whole).map(SecretPlace::File)),
            tls: (!is_plain).then_some(tls),
            version: if self.mqtt5 {
                Version::V5
            } else {
                Version::V311
            },
            client_id: self.client_id,
            listens: self.listens,
        }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text
        .parse()
        .map_err(|_| "a span is written as 30s, 2m or 1h".to_owned())?;
    let span = Duration::try_from(span).map_err(|_| "a span cannot be negative".to_owned())?;
    if span.is_zero() || span > LISTENS_MAX {
        return Err(format!("listen between 1s and {LISTENS_MAX:?}"));
    }
    Ok(span)
}
