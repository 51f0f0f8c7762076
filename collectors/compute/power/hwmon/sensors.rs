//! Power sensors of the kernel's hwmon tree. Each device stands alone: two that share a name are two.

use std::io;
use std::path::{Path, PathBuf};

use cms_spec::units::Milliwatts;

use crate::CollectError;
use crate::host::{read_number, read_text};

/// More devices than any machine has; a larger tree is refused.
const DEVICES_MAX: usize = 1024;

/// One device of the tree with a `power1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sensor {
    /// Its attributes: the device of the tree itself, or below it the device that it is about.
    directory: PathBuf,
    /// The device that it is about, where the tree says so.
    device: PathBuf,
}

impl Sensor {
    /// The power in milliwatts; the driver gives microwatts, a mean where it has one.
    pub(super) fn power(&self) -> Result<Milliwatts, CollectError> {
        let average = read_number(&self.directory.join("power1_average"));
        let microwatts = match average {
            Err(CollectError::Vanished { .. }) => {
                read_number(&self.directory.join("power1_input"))?
            }
            average => average?,
        };
        Ok(Milliwatts(microwatts / 1000))
    }

    /// Whether it is a battery: what that gives is not what the machine takes from the plug.
    pub(super) fn is_battery(&self) -> bool {
        self.text("power1_is_battery")
            .is_some_and(|text| text != "0")
    }

    /// Whether its power can be limited: graphics that are a part of the processor have no limit of their own.
    pub(super) fn has_limit(&self) -> bool {
        self.directory.join("power1_cap").exists()
            && self.text("power1_label").as_deref() != Some("slowPPT")
    }

    /// Whether the kernel has switched its device off; asking it would switch it on.
    pub(super) fn sleeps(&self) -> bool {
        let status = read_text(&self.device.join("power/runtime_status"));
        status.is_ok_and(|status| status.trim() == "suspended")
    }

    fn text(&self, attribute: &str) -> Option<String> {
        let text = read_text(&self.directory.join(attribute)).ok()?;
        Some(text.trim().to_owned())
    }
}

/// The devices of a driver, in the order of their directories.
pub(super) fn of_driver(tree: &Path, driver: &str) -> Result<Vec<Sensor>, CollectError> {
    let refuse = |source| CollectError::from_io(tree, source);
    let mut directories = Vec::new();
    let entries = match tree.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refuse)?,
    };
    for entry in entries {
        directories.push(entry.map_err(refuse)?.path());
        if directories.len() > DEVICES_MAX {
            return Err(CollectError::malformed(
                tree,
                "it has more than 1024 devices",
            ));
        }
    }
    directories.sort_unstable();
    let sensor = |directory: PathBuf| {
        let device = directory.join("device");
        // The ACPI meter hangs its attributes on the device, all newer drivers on the hwmon entry.
        [directory, device.clone()].into_iter().find_map(|place| {
            let named = read_text(&place.join("name")).ok()?;
            let has_power = ["power1_average", "power1_input"]
                .iter()
                .any(|attribute| place.join(attribute).exists());
            (named.trim() == driver && has_power).then(|| Sensor {
                directory: place,
                device: device.clone(),
            })
        })
    };
    Ok(directories.into_iter().filter_map(sensor).collect())
}

/// Whether a driver has no value at this moment, which is no fault of anybody.
pub(super) fn has_no_value_now(error: &CollectError) -> bool {
    matches!(error, CollectError::Unreachable { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}
