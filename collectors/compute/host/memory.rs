//! Memory in use from `/proc/meminfo`.

use std::path::Path;

use cms_spec::units::Bytes;

use crate::CollectError;

/// What `/proc/meminfo` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: Bytes,
    /// What programs could still get without swapping, by the kernel's own estimate.
    pub(super) available: Bytes,
}

impl Memory {
    /// Neither free nor a cache that can be dropped.
    pub(super) fn used(self) -> Bytes {
        self.total - self.available
    }
}

/// Reads the text of `/proc/meminfo`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Memory, CollectError> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024).map(Bytes)
    };
    let need = |key: &str| {
        bytes(key)
            .ok_or_else(|| CollectError::malformed(path, &format!("it has no usable {key} line")))
    };
    let (total, available) = (need("MemTotal:")?, need("MemAvailable:")?);
    if total == Bytes::ZERO {
        return Err(CollectError::malformed(
            path,
            "it says that there is no memory",
        ));
    }
    Ok(Memory { total, available })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:   1 kB\nMemAvailable:   400 kB\n";
        let memory = parse(Path::new("m"), text).unwrap();
        assert_eq!(memory.used(), Bytes(600 * 1024));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "MemTotal: 1 kB\n",
            "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
            "MemTotal: 1 MB\nMemAvailable: 1 kB\n",
        ] {
            assert!(parse(Path::new("m"), text).is_err(), "{text:?}");
        }
    }
}
