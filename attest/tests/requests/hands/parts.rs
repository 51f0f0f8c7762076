//! Hands on method, path and body, and on all headers at once.

use super::fields::place;
use super::{Dice, Loot, Wire};

pub(super) fn bit_flipped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let at = dice.below(wire.body.len());
    if let Some(byte) = wire.body.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

pub(super) fn body_edited(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let length = wire.body.len();
    match dice.below(8) {
        0 => wire.body.push(b'\n'),
        1 => wire.body.truncate(dice.below(length)),
        2 => wire.body.extend_from_within(..),
        3 => wire.body.clear(),
        4 => wire.body.insert(0, b' '),
        5 => drop(wire.body.splice(0..0, "\u{feff}".bytes())),
        6 => {
            let at = dice.below(length + 1);
            wire.body.insert(at, dice.byte());
        }
        _ => {
            let at = dice.below(length);
            if at < length {
                wire.body.remove(at);
            }
        }
    }
}

pub(super) fn body_of_another(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    wire.body.clone_from(&loot.other(dice).body);
}

pub(super) fn path_edited(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const PATHS: [&str; 8] = [
        "/api/v1/telemetry/dark-data",
        "/api/v1/telemetry/heat-recovery",
        "/api/v1/agents/enroll",
        "/api/v1/telemetry/",
        "/",
        "",
        "*",
        "https://dashboard.example/api/v1/telemetry/ghost-compute",
    ];
    let path = &mut wire.path;
    match dice.below(10) {
        0 => path.push('/'),
        1 => path.insert(0, '/'),
        2 => path.push_str(dice.pick(&["?", "?a=b", "?category=dark-data"])),
        3 => path.push_str(dice.pick(&["#", "#x", ";v=1", "%20", "%00", "\u{0}"])),
        4 => {
            *path = path.replacen(
                "/v1/",
                dice.pick(&["/V1/", "/./v1/", "/v1/../v1/", "//v1/", "/v2/"]),
                1,
            )
        }
        5 => {
            *path = path.replacen(
                "telemetry",
                dice.pick(&["telemetr%79", "Telemetry", "telemetry "]),
                1,
            )
        }
        6 => *path = path.to_ascii_uppercase(),
        7 => {
            let at = place(path, dice);
            path.truncate(at);
        }
        8 => {
            let at = place(path, dice);
            path.insert(at, char::from(dice.byte() & 0x7f));
        }
        _ => *path = dice.pick(&PATHS).to_owned(),
    }
}

pub(super) fn path_of_another(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    wire.path.clone_from(&loot.other(dice).path);
}

pub(super) fn method_edited(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const METHODS: [&str; 9] = [
        "post", "PUT", "PATCH", "GET", "", "POST ", "Post", "DELETE", "X",
    ];
    wire.method = dice.pick(&METHODS).to_owned();
}

pub(super) fn headers_of_another(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    wire.headers.clone_from(&loot.other(dice).headers);
}
