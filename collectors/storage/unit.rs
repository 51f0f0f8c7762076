//! The names under which storage is reported.

use cms_spec::Subject;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// The end of the payload's row for the dark objects of a unit.
const DARK: &str = ":dark";

/// Reads the name of a unit.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
    let name = Subject::deserialize(deserializer)?;
    if is_free(name.as_str()) {
        return Ok(name);
    }
    Err(D::Error::custom(
        "a storage unit's name cannot end with \":dark\"",
    ))
}

/// The unit of a first-level part; none where its name cannot be one.
pub(super) fn below(root: &Subject, name: &[u8]) -> Option<Subject> {
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| is_free(name))?;
    format!("{root}/{name}").parse().ok()
}

/// The payload has a row NAME for active objects and a row NAME:dark for the others.
fn is_free(name: &str) -> bool {
    !name.ends_with(DARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_a_unit_when_its_name_can_be_one() {
        let root: Subject = "home".parse().unwrap();
        let unit = |name: &[u8]| below(&root, name).map(|unit| unit.to_string());
        assert_eq!(unit(b"alice").as_deref(), Some("home/alice"));
        assert_eq!(unit(b"a:dark"), None);
        assert_eq!(unit(b"\xff"), None);
    }
}
