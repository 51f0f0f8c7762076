//! `[compute.power.nvml]`.

use std::path::Path;

use serde::Deserialize;

use crate::checked::AbsolutePath;

/// The table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct Settings {
    path: Option<AbsolutePath>,
}

impl Settings {
    /// Where the driver's library is, if not where the system looks for it.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(AbsolutePath::as_path)
    }
}
