//! Whether a controller is that of the machine that asks: one address copied to a hundred hosts would
//! give a hundred times the power of one of them.

use std::path::PathBuf;

use super::resource::Resource;
use crate::Host;
use crate::host::read_text;

/// How firmware fills in a number that nobody gave it.
const FILLERS: [&str; 6] = [
    "",
    "none",
    "not specified",
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
];

/// Who this machine is, as its firmware says.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    folder: PathBuf,
    uuid: Option<[u8; 16]>,
    serials: Vec<String>,
}

impl Identity {
    /// Reads what the kernel shows; what may not be read is not known.
    pub(super) fn of(host: &Host) -> Self {
        let folder = host.sys("class/dmi/id");
        let text = |name: &str| read_text(&folder.join(name)).ok();
        let serials = ["product_serial", "chassis_serial", "board_serial"];
        Self {
            uuid: text("product_uuid").and_then(|text| uuid(&text)),
            serials: serials
                .iter()
                .filter_map(|name| serial(&text(name)?))
                .collect(),
            folder,
        }
    }

    /// Says so where a system is certainly another machine: its UUID is another in either order of bytes,
    /// and none of its numbers is one of ours.
    pub(super) fn differs(&self, system: &Resource) -> Option<String> {
        let theirs = uuid(system.text("UUID")?)?;
        let ours = self.uuid?;
        let numbers = ["SerialNumber", "SKU", "AssetTag"];
        let numbers: Vec<String> = numbers
            .iter()
            .filter_map(|at| serial(system.text(at)?))
            .collect();
        let is_same = theirs == ours
            || theirs == swapped(ours)
            || numbers.is_empty()
            || self.serials.is_empty()
            || numbers.iter().any(|number| self.serials.contains(number));
        if is_same {
            return None;
        }
        // The numbers themselves stay here: reasons travel to the dashboard.
        Some(format!(
            "it is the controller of another machine: neither UUID nor serial number of {} are those in {}",
            system.path(),
            self.folder.display()
        ))
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: String = text.trim().chars().filter(|c| *c != '-').collect();
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let is_filler = bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff);
    (!is_filler).then_some(bytes)
}

/// The first three fields in the other order of bytes: firmware has written them both ways.
fn swapped([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> [u8; 16] {
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

fn serial(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    (!FILLERS.contains(&text.as_str())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "4c4c4544-0042-3510-8058-b8c04f4e3332";

    fn differs(system: &serde_json::Value) -> Option<String> {
        let identity = Identity {
            folder: "/sys/class/dmi/id".into(),
            uuid: uuid(OURS),
            serials: vec!["b5bxn32".to_owned()],
        };
        let system = Resource::read("/redfish/v1/Systems/1", system.to_string().as_bytes());
        identity.differs(&system.unwrap())
    }

    #[test]
    fn only_what_is_certainly_another_machine_is_refused() {
        let other = "11111111-0042-3510-8058-b8c04f4e3332";
        for same in [
            serde_json::json!({}),
            serde_json::json!({"UUID": OURS.to_uppercase(), "SerialNumber": "other"}),
            serde_json::json!({"UUID": "44454c4c-4200-1035-8058-b8c04f4e3332", "SerialNumber": "other"}),
            serde_json::json!({"UUID": other}),
            serde_json::json!({"UUID": other, "SerialNumber": "CNIVC00", "SKU": "B5BXN32"}),
            serde_json::json!({"UUID": other, "SerialNumber": "To be filled by O.E.M."}),
            serde_json::json!({"UUID": "00000000-0000-0000-0000-000000000000", "SerialNumber": "other"}),
            serde_json::json!({"UUID": "no uuid", "SerialNumber": "other"}),
        ] {
            assert_eq!(differs(&same), None, "{same}");
        }
        let found =
            differs(&serde_json::json!({"UUID": other, "SerialNumber": "OTHER77"})).unwrap();
        assert!(
            found.contains("another machine") && !found.contains(other) && !found.contains("77"),
            "{found}"
        );
    }
}
