//! What an agent knows of the machine that it runs on: enough to tell it from its clones, and no name of it.

use std::fmt::Write as _;
use std::fs;

use aws_lc_rs::hmac;
use cms_attest::Digest;
use cms_attest::keys::SigningKey;
use cms_spec::{CompanyId, Subject};

/// Begins the stand-in of a machine id.
const OF_BOOT: &str = "boot:";

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
            machine_id: machine_id.unwrap_or_else(|| format!("{OF_BOOT}{boot_id}")),
            product_uuid: read("/sys/class/dmi/id/product_uuid"),
        }
    }

    /// The machine's id, unless it is another one at the next boot, as in a container without one.
    #[must_use]
    pub fn lasting_id(&self) -> Option<&str> {
        let id = self.machine_id.as_str();
        (!id.starts_with(OF_BOOT)).then_some(id)
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
    pub(super) fn fingerprint(&self, key: &SigningKey) -> String {
        let product = self.product_uuid.as_deref().unwrap_or("-");
        let machine = format!("cms-fingerprint/1\n{}\n{product}", self.machine_id);
        // An Ed25519 signature is the same every time, and only the key's holder can make it.
        hex(Digest::of(&key.sign(machine.as_bytes())).as_bytes())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _written = write!(text, "{byte:02x}");
            text
        })
}
