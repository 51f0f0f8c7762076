//! `probe snmp`: a power strip, a sensor, or whatever else answers over SNMP.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use cms_collectors::snmp::probe::{Findings, look};
use cms_collectors::snmp::{Auth, Login, Oid, Privacy, Snmp, Target, Udp, User, parse_oid};
use cms_collectors::web::{SecretPlace, Web};

use super::answered;
use crate::cli::{CliError, ExitStatus};
use crate::transport::web::Outbound;

#[derive(Debug, Args)]
pub(super) struct Device {
    /// For example 10.0.0.9, pdu-7.example:161 or [fe80::1]:161.
    host: String,

    /// Tells all that is below this object; without it, the outlets and sensors that are known.
    #[arg(value_parser = parse_oid)]
    oid: Option<Oid>,

    /// A file with the community of version 2c.
    #[arg(long, value_name = "FILE", conflicts_with = "v3_user", required_unless_present_any = ["community_env", "v3_user"])]
    community_file: Option<PathBuf>,

    /// An environment variable with the community of version 2c.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["community_file", "v3_user"])]
    community_env: Option<String>,

    /// The user of version 3.
    #[arg(long, value_name = "USER")]
    v3_user: Option<String>,

    /// How its messages are authenticated.
    #[arg(long, value_name = "KIND", requires_all = ["v3_user", "v3_auth_password_file"], value_parser = auths())]
    v3_auth: Option<Auth>,

    /// A file with its password for that.
    #[arg(long, value_name = "FILE", requires = "v3_auth")]
    v3_auth_password_file: Option<PathBuf>,

    /// How its messages are encrypted.
    #[arg(long, value_name = "KIND", requires_all = ["v3_auth", "v3_privacy_password_file"], value_parser = privacies())]
    v3_privacy: Option<Privacy>,

    /// A file with its password for that.
    #[arg(long, value_name = "FILE", requires = "v3_privacy")]
    v3_privacy_password_file: Option<PathBuf>,

    /// The part of the device that is asked, where it has several.
    #[arg(
        long,
        value_name = "NAME",
        requires = "v3_user",
        default_value = "",
        hide_default_value = true
    )]
    v3_context: String,
}

impl Device {
    pub(super) fn look(self) -> Result<Findings, CliError> {
        let oid = self.oid.clone();
        let target = self.target().map_err(|chain| CliError::Failed {
            status: ExitStatus::Usage,
            chain,
            hint: None,
        })?;
        let web: Arc<dyn Web> = Arc::new(Outbound);
        let what = format!("asking {}", target.address());
        answered(&what, async {
            let device = Udp.device(&target, &web);
            look(device.as_ref(), &target, oid.as_ref()).await
        })
    }

    fn target(self) -> Result<Target, String> {
        let login = match (self.v3_user, self.community_file, self.community_env) {
            (Some(name), _, _) => Login::User(User {
                name,
                auth: self
                    .v3_auth
                    .zip(self.v3_auth_password_file.map(SecretPlace::File)),
                privacy: self
                    .v3_privacy
                    .zip(self.v3_privacy_password_file.map(SecretPlace::File)),
                context: self.v3_context,
            }),
            (None, Some(file), _) => Login::Community(SecretPlace::File(file)),
            (None, None, Some(name)) => Login::Community(SecretPlace::Env(name)),
            (None, None, None) => {
                return Err("say how to log in: --community-file or --v3-user".to_owned());
            }
        };
        Target::checked(&self.host, login)
    }
}

fn auths() -> impl TypedValueParser<Value = Auth> {
    PossibleValuesParser::new(Auth::ALL.map(|(name, _)| name)).try_map(|name| name.parse::<Auth>())
}

fn privacies() -> impl TypedValueParser<Value = Privacy> {
    PossibleValuesParser::new(Privacy::ALL.map(|(name, _)| name))
        .try_map(|name| name.parse::<Privacy>())
}
