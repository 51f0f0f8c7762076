//! `[compute.power.nvml]`.

use std::path::Path;

use serde::Deserialize;

use crate::checked::AbsolutePath;

/// The table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct Settings {
    library: Option<AbsolutePath>,
}

impl Settings {
    /// Where the driver's library is, if not where the system looks for it.
    pub(super) fn library(&self) -> Option<&Path> {
        self.library.as_ref().map(AbsolutePath::as_path)
    }
}
