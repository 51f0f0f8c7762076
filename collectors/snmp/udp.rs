//! Sessions with real devices: one socket each, opened with the first question.
//!
//! Promises: three attempts, then a failure that says what to check; a session that failed is
//! thrown away, so that a secret that was replaced, an address that moved and a device that was
//! exchanged are found at the next question. Answers are taken from the device's own address only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_snmp::error::ErrorStatus;
use async_snmp::v3::ReportStatus;
use async_snmp::{
    AuthProtocol, Client, CryptoError, DecodeAnomaly, Error, Oid, PrivProtocol, Retry, UdpClient,
    UsmConfig, Value, VarBind, WalkAbortReason,
};
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::settings::{Auth, Login, Privacy, RETRIES, Target, User};
use super::{Device, Snmp};
use crate::CollectError;
use crate::web::{Web, denied, malformed, unreachable};

/// Objects in one question. Some devices take no more than ten or so, and none needs it faster.
const OIDS_OF_A_QUESTION: usize = 10;

/// Objects in one call; more is a slip of the caller.
const OIDS_MAX: usize = 512;

/// How long a name may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// Makes sessions with sockets.
#[derive(Clone, Copy, Debug)]
pub struct Udp;

#[derive(Debug)]
struct Session {
    target: Target,
    web: Arc<dyn Web>,
    /// What is shown for the device.
    name: String,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    client: Option<UdpClient>,
    /// It has answered before, so that silence is about the question and not about the login.
    has_answered: bool,
    /// It cannot answer GETBULK.
    is_slow: bool,
}

impl Snmp for Udp {
    fn device(&self, target: &Target, web: &Arc<dyn Web>) -> Arc<dyn Device> {
        Arc::new(Session {
            target: target.clone(),
            web: Arc::clone(web),
            name: format!("snmp://{}", target.address()),
            open: Mutex::default(),
        })
    }
}

#[async_trait]
impl Device for Session {
    fn address(&self) -> &str {
        &self.name
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Value>, CollectError> {
        if oids.len() > OIDS_MAX {
            return Err(malformed(
                &self.name,
                "more than 512 objects in one question",
            ));
        }
        let mut open = self.open.lock().await;
        let client = self.client(&mut open).await?;
        let response = match client.get_many(oids).await {
            Ok(response) => response,
            Err(error) => return Err(self.lost(&mut open, &error)),
        };
        open.has_answered = true;
        self.require_whole_numbers(&response.metadata.decode_anomalies)?;
        let answered = |oid: &Oid| {
            let row = response.varbinds.iter().find(|row| row.oid == *oid);
            row.map(|row| row.value.clone())
                .ok_or_else(|| malformed(&self.name, &format!("it answers, but leaves out {oid}")))
        };
        oids.iter().map(answered).collect()
    }

    async fn next(&self, after: &Oid, rows: u32) -> Result<Vec<VarBind>, CollectError> {
        let mut open = self.open.lock().await;
        let mut rows = rows;
        loop {
            let client = self.client(&mut open).await?;
            if rows <= 1 || open.is_slow {
                let response = match client.get_next(after).await {
                    Ok(response) => response,
                    Err(error) => return Err(self.lost(&mut open, &error)),
                };
                open.has_answered = true;
                self.require_whole_numbers(&response.metadata.decode_anomalies)?;
                return Ok(response.varbinds);
            }
            let failed = match client
                .get_bulk_with_metadata(std::slice::from_ref(after), 0, rows)
                .await
            {
                Ok(response) if !response.varbinds.is_empty() => {
                    open.has_answered = true;
                    self.require_whole_numbers(&response.metadata.decode_anomalies)?;
                    return Ok(response.varbinds);
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            match failed.as_deref().map(Error::exchange_source) {
                Some(Error::Snmp {
                    status: ErrorStatus::TooBig,
                    ..
                }) => rows /= 2,
                // Large answers are cut by some networks, and some firmware knows GETBULK by name only.
                None | Some(Error::Snmp { .. }) => open.is_slow = true,
                Some(Error::Timeout { .. }) if open.has_answered => open.is_slow = true,
                Some(error) => return Err(self.lost(&mut open, error)),
            }
        }
    }
}

impl Session {
    async fn client(&self, open: &mut Open) -> Result<UdpClient, CollectError> {
        if let Some(client) = &open.client {
            return Ok(client.clone());
        }
        let retry = Retry::fixed(RETRIES, Duration::ZERO).unwrap_or_else(|_| Retry::none());
        let client = Client::builder(self.target.address(), self.login()?)
            .request_timeout(self.target.timeout())
            .construction_timeout(RESOLVE_WITHIN)
            .retry(retry)
            .max_oids_per_request(OIDS_OF_A_QUESTION)
            .strict_source(true)
            // A device that refuses a login says so without authentication: it has no key in common
            // with us. Forging it takes as much as dropping our questions, and only ends a poll.
            .allow_unauthenticated_v3_time_correction(true)
            .connect()
            .await
            .map_err(|error| self.explain(&error))?;
        open.client = Some(client.clone());
        Ok(client)
    }

    fn login(&self) -> Result<async_snmp::Auth, CollectError> {
        match self.target.login() {
            Login::Community(place) => {
                let community = self.web.secret(place)?;
                Ok(async_snmp::Auth::v2c(community.as_str()))
            }
            Login::User(user) => Ok(self.user(user)?.into()),
        }
    }

    fn user(&self, user: &User) -> Result<UsmConfig, CollectError> {
        let usm = UsmConfig::new(user.name.clone()).context_name(user.context.clone());
        let Some((auth, place)) = &user.auth else {
            return Ok(usm);
        };
        let unusable = |error: CryptoError| {
            let hint = "a password of SNMPv3 has at least eight characters";
            denied(&self.name, hint, io::Error::other(error.to_string()))
        };
        let password = self.web.secret(place)?;
        let auth = match auth {
            Auth::Sha1 => AuthProtocol::Sha1,
            Auth::Sha224 => AuthProtocol::Sha224,
            Auth::Sha256 => AuthProtocol::Sha256,
            Auth::Sha384 => AuthProtocol::Sha384,
            Auth::Sha512 => AuthProtocol::Sha512,
        };
        let Some((privacy, place)) = &user.privacy else {
            return usm.auth(auth, password.as_bytes()).map_err(unusable);
        };
        let privacy = match privacy {
            Privacy::Aes128 => PrivProtocol::Aes128,
            Privacy::Aes192 => PrivProtocol::Aes192Blumenthal,
            Privacy::Aes192Cisco => PrivProtocol::Aes192Reeder,
            Privacy::Aes256 => PrivProtocol::Aes256Blumenthal,
            Privacy::Aes256Cisco => PrivProtocol::Aes256Reeder,
        };
        let key = self.web.secret(place)?;
        usm.auth_priv(auth, password.as_bytes(), privacy, key.as_bytes())
            .map_err(unusable)
    }

    /// Throws the session away, unless the device has answered.
    fn lost(&self, open: &mut Open, error: &Error) -> CollectError {
        if !matches!(error.exchange_source(), Error::Snmp { .. }) {
            *open = Open::default();
        }
        self.explain(error)
    }

    /// Refuses numbers that were cut to fit.
    fn require_whole_numbers(&self, anomalies: &[DecodeAnomaly]) -> Result<(), CollectError> {
        let found = anomalies.iter().find_map(|anomaly| match anomaly {
            DecodeAnomaly::SignedIntegerTruncation { original, .. } => {
                Some(format!("it says {original} where only 32 bits may be"))
            }
            DecodeAnomaly::Unsigned32Truncation { original, .. } => {
                Some(format!("it says {original} where only 32 bits may be"))
            }
            DecodeAnomaly::EmptyCounter64 { .. } => Some("a counter of it is empty".to_owned()),
            _ => None,
        });
        found.map_or(Ok(()), |found| Err(malformed(&self.name, &found)))
    }

    fn explain(&self, error: &Error) -> CollectError {
        let refused = |hint: &str, what: &str| {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned());
            denied(&self.name, hint, source)
        };
        match error.exchange_source() {
            Error::Timeout { .. } => {
                let hint = match self.target.login() {
                    Login::Community(_) => {
                        "no answer: wrong community, wrong address, or a firewall; SNMP does not say which"
                    }
                    Login::User(_) => {
                        "no answer: wrong address, a firewall, a wrong privacy_password, or no SNMPv3 there"
                    }
                };
                CollectError::Timeout {
                    what: format!("{} ({hint})", self.name),
                    after: self.target.patience(),
                }
            }
            Error::Report { status, .. } => match status.as_ref() {
                ReportStatus::UnknownUserName { .. } => refused(
                    "check v3.user, and that the device lets it read",
                    "the device does not know this user",
                ),
                ReportStatus::WrongDigest { .. } => refused(
                    "check v3.auth and v3.auth_password",
                    "the device refuses the authentication",
                ),
                ReportStatus::DecryptionError { .. } => refused(
                    "check v3.privacy and v3.privacy_password",
                    "the device cannot decrypt the question",
                ),
                ReportStatus::UnsupportedSecurityLevel { .. } => refused(
                    "give v3.auth and v3.privacy as the device has them for this user, and no more",
                    "the device does not let this user in at this level of security",
                ),
                other => unreachable(
                    &self.name,
                    format!("it reports: {other}; the agent asks again at the next tick"),
                ),
            },
            Error::Auth { .. } => refused(
                "check v3.auth and v3.auth_password",
                "its answer is not authenticated as it should be",
            ),
            Error::Snmp { status, oid, .. } => {
                let about = oid
                    .as_ref()
                    .map(|oid| format!(" about {oid}"))
                    .unwrap_or_default();
                match status {
                    ErrorStatus::NoAccess | ErrorStatus::AuthorizationError => refused(
                        "give this login read access to it",
                        &format!("the device refuses access{about}"),
                    ),
                    status => malformed(
                        &self.name,
                        &format!("it answers with the error {status}{about}"),
                    ),
                }
            }
            Error::WalkAborted {
                reason: WalkAbortReason::NonIncreasing,
                ..
            } => malformed(&self.name, "its objects are out of order"),
            Error::Config(why) => unreachable(&self.name, format!("{why}; check the address")),
            Error::ConstructionTimeout { .. } => unreachable(
                &self.name,
                "its name is not resolved in time; check the address".to_owned(),
            ),
            Error::Network { source, .. } => {
                let hint = "is it there, and may this host reach it?";
                unreachable(&self.name, format!("{source}; {hint}"))
            }
            other => malformed(&self.name, &other.to_string()),
        }
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open")
            .field("has_answered", &self.has_answered)
            .field("is_slow", &self.is_slow)
            .finish_non_exhaustive()
    }
}
