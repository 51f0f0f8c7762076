//! Who this agent is: its keys, its id and its fingerprint. The only file that sees private keys.
//!
//! Two Ed25519 keys are made on the host at the first start and never leave it: one signs requests, one is
//! for the ledger. They are kept in files that only the agent's user can read. The fingerprint tells a cloned
//! image from its original without naming the machine.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cms_attest::Digest;
use cms_attest::checkpoint::{Checkpoint, CheckpointError};
use cms_attest::enrol::{Challenge, EnrolRequest, sign_enrolment};
use cms_attest::keys::{Jwk, KeyId, SigningKey};
use cms_attest::note::{Algorithm, NoteKey};
use cms_attest::origin::{AgentId, Origin};
use cms_attest::request::{LedgerRef, Outgoing, sign};
use cms_spec::payload::Delivery;
use cms_spec::{CompanyId, Subject};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::api_keys::ApiKeys;
use crate::clock::Clock;
use crate::config::Endpoint;
use crate::durable;
use crate::store::{Moment, Submission};

/// Longest content of an identity file; a seed has 43 characters, an id 36.
const FILE_BYTES_MAX: u64 = 256;

/// The agent's keys and id.
#[derive(Debug)]
pub struct Identity {
    agent_id: AgentId,
    request_key: SigningKey,
    log_key: SigningKey,
    fingerprint: String,
}

/// A submission with the headers that sign it, for one attempt. Only [`Identity::sign`] makes one.
#[derive(Clone, Debug)]
pub struct SignedRequest<'a> {
    submission: &'a Submission,
    authority: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    delivery: Delivery,
}

/// An enrolment with the headers that sign it. Only [`Identity::sign_enrolment`] makes one.
#[derive(Clone, Debug)]
pub struct SignedEnrolment {
    /// The exact bytes.
    pub body: Vec<u8>,
    /// The headers to set.
    pub headers: Vec<(&'static str, String)>,
}

impl Identity {
    /// Opens the identity in `directory`, making it at the first start.
    ///
    /// # Errors
    /// When a file cannot be read or written, is open to others, or does not hold what it should.
    pub fn open(
        directory: &Path,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        make_directory(directory)?;
        let request_key = key(&directory.join("request.key"))?;
        let log_key = key(&directory.join("log.key"))?;
        let agent_id = agent_id(&directory.join("agent-id"), now)?;
        let fingerprint = machine.fingerprint(&request_key);
        Ok(Self {
            agent_id,
            request_key,
            log_key,
            fingerprint,
        })
    }

    /// The agent's own id, a UUID of version 7.
    #[must_use]
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// The public name of the request key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.request_key.verifying().key_id()
    }

    /// Signs one attempt to send a submission.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign<'a>(
        &self,
        submission: &'a Submission,
        endpoint: &Endpoint,
        created: Timestamp,
        delivery: Delivery,
    ) -> Result<SignedRequest<'a>, IdentityError> {
        let path = endpoint.path(&format!("telemetry/{}", submission.category()));
        let headers = sign(
            &Outgoing {
                authority: endpoint.authority(),
                path: &path,
                content_encoding: None,
                idempotency_key: submission.origin().idempotency_key(submission.index()),
                ledger: LedgerRef {
                    index: submission.index(),
                    leaf: submission.leaf(),
                },
                delivery,
                body: submission.body(),
            },
            &self.request_key,
            created,
            random_bytes()?,
        );
        let authority = endpoint.authority().to_owned();
        Ok(SignedRequest {
            submission,
            authority,
            path,
            headers,
            delivery,
        })
    }

    /// The key that verifies the heads of a log, as witnesses want to be told it.
    #[must_use]
    pub fn log_key_of(&self, origin: &Origin) -> Option<String> {
        let name = origin.to_string().parse().ok()?;
        let key = NoteKey::new(name, Algorithm::Ed25519, *self.log_key.verifying());
        Some(key.to_string())
    }

    /// Signs a head of the ledger, with the key that signs nothing else.
    ///
    /// # Errors
    /// When the head's name does not fit into a signed note.
    pub fn sign_head(&self, head: &Checkpoint) -> Result<String, CheckpointError> {
        head.sign(&self.log_key)
    }

    /// Signs the request to enrol, which proves possession of the request key.
    ///
    /// # Errors
    /// When the request cannot be encoded.
    pub fn sign_enrolment(
        &self,
        company: &CompanyId,
        site: &str,
        authority: &str,
        challenge: &Challenge,
        created: Timestamp,
    ) -> Result<SignedEnrolment, IdentityError> {
        let request = EnrolRequest {
            agent_id: self.agent_id.clone(),
            company_id: company.clone(),
            request_key: Jwk::from(*self.request_key.verifying()),
            log_key: Jwk::from(*self.log_key.verifying()),
            fingerprint: self.fingerprint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: Some(site.to_owned()),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|source| IdentityError::EncodeEnrolment { source })?;
        let headers = sign_enrolment(authority, &body, &self.request_key, created, challenge);
        Ok(SignedEnrolment { body, headers })
    }
}

impl<'a> SignedRequest<'a> {
    /// What is sent.
    #[must_use]
    pub fn submission(&self) -> &'a Submission {
        self.submission
    }

    /// The path that was signed.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{}", self.authority, self.path)
    }

    /// The headers to set.
    #[must_use]
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// How it is offered.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }
}

/// The public keys of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Signs requests.
    pub request_key: Jwk,
    /// Signs heads of the ledger.
    pub log_key: Jwk,
}

/// The public keys of the identity in `directory`. Unlike [`Identity::open`] it makes nothing.
///
/// # Errors
/// When a file is not there, cannot be read, is open to others, or does not hold a key.
pub fn published(directory: &Path) -> Result<Published, IdentityError> {
    let public = |name: &str| {
        let path = directory.join(name);
        let Some(text) = read_private(&path)? else {
            let source = io::ErrorKind::NotFound.into();
            return Err(IdentityError::Read { path, source });
        };
        Ok(Jwk::from(*signing_key(&path, &text)?.verifying()))
    };
    Ok(Published {
        request_key: public("request.key")?,
        log_key: public("log.key")?,
    })
}

/// What tells this machine from its clones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `/etc/machine-id`, or the boot id where there is none.
    pub machine_id: String,
    /// The product UUID of the firmware, where it can be read.
    pub product_uuid: Option<String>,
}

impl Machine {
    /// Reads the machine we run on.
    #[must_use]
    pub fn local(boot_id: &str) -> Self {
        let read = |path: &str| {
            fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|t| !t.is_empty())
        };
        let machine_id = read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id"));
        Self {
            machine_id: machine_id.unwrap_or_else(|| format!("boot:{boot_id}")),
            product_uuid: read("/sys/class/dmi/id/product_uuid"),
        }
    }

    /// The id under which this host reports unless one is configured: it names the machine to nobody
    /// who does not know its machine id.
    ///
    /// # Errors
    /// Never for a machine id that is text.
    pub fn instance(&self, company: &CompanyId) -> Result<Subject, cms_spec::ids::NameError> {
        let key = format!("cms-instance-id/1:{company}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let tag = hmac::sign(&key, self.machine_id.as_bytes());
        format!("host:{}", &hex(tag.as_ref())[..16]).parse()
    }

    /// A digest that changes with the machine and says nothing about it to who does not hold the key.
    fn fingerprint(&self, key: &SigningKey) -> String {
        let product = self.product_uuid.as_deref().unwrap_or("-");
        let machine = format!("cms-fingerprint/1\n{}\n{product}", self.machine_id);
        // An Ed25519 signature is the same every time, and only the key's holder can make it.
        hex(Digest::of(&key.sign(machine.as_bytes())).as_bytes())
    }
}

/// The moment at which a leaf is written, with the API key that is in use then.
#[must_use]
pub fn moment(clock: &Clock, api_keys: &ApiKeys) -> Moment {
    let key_id = api_keys.read().ok().and_then(|key| key.id().parse().ok());
    Moment {
        now: clock.now(),
        boot_id: clock.boot_id(),
        boottime_ms: clock.boottime_ms(),
        api_key_id: key_id,
    }
}

/// Random bytes of the system.
///
/// # Errors
/// When the system has none to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::NoRandomness)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _written = write!(text, "{byte:02x}");
            text
        })
}

fn key(path: &Path) -> Result<SigningKey, IdentityError> {
    let text = if let Some(text) = read_private(path)? {
        text
    } else {
        let seed = Zeroizing::new(random_bytes::<32>()?);
        let text = Zeroizing::new(STANDARD_NO_PAD.encode(*seed));
        write_private(path, &text)?;
        text
    };
    signing_key(path, &text)
}

/// The key that a file of ours holds.
fn signing_key(path: &Path, text: &str) -> Result<SigningKey, IdentityError> {
    let bytes = STANDARD_NO_PAD.decode(text.trim()).map(Zeroizing::new);
    let seed = bytes
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let seed = Zeroizing::new(seed.ok_or_else(|| IdentityError::Damaged {
        path: path.to_owned(),
    })?);
    SigningKey::from_seed(&seed).map_err(|source| IdentityError::UseKey { source })
}

fn agent_id(path: &Path, now: Timestamp) -> Result<AgentId, IdentityError> {
    let text = if let Some(text) = read_private(path)? {
        text.trim().to_owned()
    } else {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        let time = uuid::Timestamp::from_unix_time(seconds, nanos, 0, 0);
        let id = uuid::Uuid::new_v7(time).to_string();
        write_private(path, &id)?;
        id
    };
    text.parse().map_err(|_| IdentityError::Damaged {
        path: path.to_owned(),
    })
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, IdentityError> {
    let failed = |source| IdentityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(Some(text))
}

/// Writes a file that is either whole or not there, also after a power cut.
fn write_private(path: &Path, text: &str) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Write {
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    let directory = path.parent().unwrap_or(path);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

fn make_directory(path: &Path) -> Result<(), IdentityError> {
    durable::make_directory(path).map_err(|source| IdentityError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file does not hold what it should.
    #[error(
        "{} is damaged: restore it from a backup, or remove the directory to enrol as a new agent",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The enrolment cannot be written as JSON.
    #[error("cannot encode the enrolment")]
    EncodeEnrolment {
        /// What the library said.
        source: serde_json::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// Others may read the key.
    #[error("{} may be read by others (mode {mode:03o}): run chmod 600 on it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("cannot use the signing key")]
    UseKey {
        /// What the library said.
        source: cms_attest::keys::KeyError,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: &str) -> Machine {
        Machine {
            machine_id: id.to_owned(),
            product_uuid: None,
        }
    }

    #[test]
    fn the_identity_is_made_once_and_then_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        let first = Identity::open(&path, &machine("m"), Timestamp::UNIX_EPOCH).unwrap();
        let again = Identity::open(&path, &machine("m"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(first.agent_id(), again.agent_id());
        assert_eq!(first.key_id(), again.key_id());
        assert_eq!(first.fingerprint, again.fingerprint);
        let published = published(&path).unwrap();
        assert_eq!(published.request_key.key().key_id(), first.key_id());
        assert_ne!(published.log_key, published.request_key);
        assert!(
            super::published(directory.path()).is_err(),
            "nothing is made"
        );
        assert!(!directory.path().join("log.key").exists());
        let clone = Identity::open(&path, &machine("other"), Timestamp::UNIX_EPOCH).unwrap();
        assert_ne!(first.fingerprint, clone.fingerprint);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open(directory.path(), &machine("m"), Timestamp::UNIX_EPOCH).unwrap();
        let path = directory.path().join("request.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Identity::open(directory.path(), &machine("m"), Timestamp::UNIX_EPOCH);
        assert!(matches!(
            refused,
            Err(IdentityError::Open { mode: 0o644, .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_never_replaced_silently() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open(directory.path(), &machine("m"), Timestamp::UNIX_EPOCH).unwrap();
        let path = directory.path().join("log.key");
        fs::write(&path, "short").unwrap();
        let refused = Identity::open(directory.path(), &machine("m"), Timestamp::UNIX_EPOCH);
        assert!(matches!(refused, Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
    }

    #[test]
    fn the_instance_id_does_not_name_the_machine() {
        let company = "acme-corp".parse().unwrap();
        let instance = machine("4c4c4544").instance(&company).unwrap();
        assert_eq!(instance.as_str().len(), "host:".len() + 16);
        assert!(!instance.as_str().contains("4c4c4544"));
        assert_eq!(instance, machine("4c4c4544").instance(&company).unwrap());
    }
}
