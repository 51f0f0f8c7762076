//! Hands on the values of headers.

use super::{Dice, Loot, Wire};

/// Texts that have confused parsers of headers, structured fields and JSON before.
const ODD: [&str; 24] = [
    ", ", ";", "=", "\"", "\\", "\\\"", ":", "(", ")", "()", "*", "?1", "@1", " ", "\t", "\r\n ",
    "\u{0}", "%00", "\u{e4}", "\u{feff}", ";a", ";a=1", ", x=1", "-0",
];

fn one<'a>(wire: &'a mut Wire, dice: &mut Dice) -> Option<&'a mut String> {
    let at = dice.below(wire.headers.len());
    wire.headers.get_mut(at).map(|(_, value)| value)
}

fn named<'a>(wire: &'a mut Wire, name: &str) -> Option<&'a mut String> {
    let found = wire.headers.iter_mut().find(|(known, _)| known == name);
    found.map(|(_, value)| value)
}

/// A place in the text where a character begins.
pub(super) fn place(text: &str, dice: &mut Dice) -> usize {
    let mut at = dice.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn set(wire: &mut Wire, name: &str, value: &str) {
    wire.headers.retain(|(known, _)| known != name);
    wire.headers.push((name.to_owned(), value.to_owned()));
}

pub(super) fn bit_flipped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let mut bytes = value.clone().into_bytes();
    let at = dice.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
    // What is no text any more arrives as it would through a HTTP library that reads headers as Latin-1.
    *value = String::from_utf8(bytes)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
}

pub(super) fn byte_replaced(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let at = place(value, dice);
    if let Some(old) = value[at..].chars().next() {
        let new = char::from(dice.byte() & 0x7f);
        value.replace_range(at..at + old.len_utf8(), new.encode_utf8(&mut [0; 4]));
    }
}

pub(super) fn text_inserted(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let at = place(value, dice);
    value.insert_str(at, dice.pick(&ODD));
}

pub(super) fn part_cut(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let (one, other) = (place(value, dice), place(value, dice));
    value.replace_range(one.min(other)..one.max(other), "");
}

pub(super) fn truncated(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let at = place(value, dice);
    value.truncate(at);
}

pub(super) fn dropped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let at = dice.below(wire.headers.len());
    if at < wire.headers.len() {
        wire.headers.remove(at);
    }
}

pub(super) fn doubled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let at = dice.below(wire.headers.len());
    if let Some(header) = wire.headers.get(at).cloned() {
        let to = dice.below(wire.headers.len() + 1);
        wire.headers.insert(to, header);
    }
}

pub(super) fn doubled_with_other(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let other = loot.other(dice);
    let at = dice.below(other.headers.len());
    let to = dice.below(wire.headers.len() + 1);
    wire.headers.insert(to, other.headers[at].clone());
}

pub(super) fn swapped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let count = wire.headers.len();
    let (one, other) = (dice.below(count), dice.below(count));
    if one != other {
        let value = wire.headers[one].1.clone();
        wire.headers[one].1 = std::mem::replace(&mut wire.headers[other].1, value);
    }
}

pub(super) fn shuffled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    for at in (1..wire.headers.len()).rev() {
        wire.headers.swap(at, dice.below(at + 1));
    }
}

pub(super) fn renamed(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let at = dice.below(wire.headers.len());
    let Some((name, _)) = wire.headers.get_mut(at) else {
        return;
    };
    *name = match dice.below(6) {
        0 => name.to_ascii_uppercase(),
        1 => name.replace('-', "_"),
        2 => format!("x-{name}"),
        3 => format!("{name}-"),
        4 => name.replacen('-', "", 1),
        _ => format!("{name}2"),
    };
}

pub(super) fn of_another(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let other = loot.other(dice);
    let (name, value) = &other.headers[dice.below(other.headers.len())];
    set(wire, name, value);
}

pub(super) fn usual_other(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const TYPES: [&str; 5] = [
        "application/json; charset=utf-8",
        "text/plain",
        "Application/JSON",
        "",
        "application/json,application/json",
    ];
    const KEYS: [&str; 6] = [
        "",
        "\"\"",
        "1",
        "\"018f4d2a-7b1c-7def-8123-456789abcdef:1:0\"",
        "\"018F4D2A-7B1C-7DEF-8123-456789ABCDEF:1:42\"",
        "?1",
    ];
    const LEDGERS: [&str; 6] = [
        "",
        "index=42",
        "leaf=:AAAA:, index=42",
        "index=0, leaf=::",
        "index=999999999999999",
        "index=42, leaf=:n5EWH0NDPkmm3m22gNefYBWfLkrJFyYhoShGQoFYRAs=:;x",
    ];
    const SIGNATURES: [&str; 6] = ["", "cms=::", "cms=:AAAA:", "cms", "cms=\"\"", "cms=1.0"];
    const INPUTS: [&str; 5] = [
        "",
        "cms=()",
        "cms=();tag=\"cms-telemetry\"",
        "cms",
        "cms=(\"@method\")",
    ];
    let (name, menu): (&str, &[&str]) = match dice.below(5) {
        0 => ("content-type", &TYPES),
        1 => ("idempotency-key", &KEYS),
        2 => ("cms-ledger", &LEDGERS),
        3 => ("signature", &SIGNATURES),
        _ => ("signature-input", &INPUTS),
    };
    set(wire, name, dice.pick(menu));
}

pub(super) fn spaced(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const SPACES: [&str; 8] = [" ", "  ", "\t", "\r\n ", "\r\n\t", "\n", "\u{a0}", "\u{b}"];
    let Some(value) = one(wire, dice) else { return };
    let space = dice.pick(&SPACES);
    match dice.below(4) {
        0 => value.insert_str(0, space),
        1 => value.push_str(space),
        2 if value.contains(", ") => *value = value.replacen(", ", &format!(",{space}"), 1),
        2 | 3 if value.contains(' ') => *value = value.replacen(' ', &format!("{space} "), 1),
        _ => {
            let at = place(value, dice);
            value.insert_str(at, space);
        }
    }
}

pub(super) fn joined(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let at = dice.below(wire.headers.len());
    let Some((name, value)) = wire.headers.get(at).cloned() else {
        return;
    };
    let others = loot.other(dice).values(&name);
    let other = if dice.below(2) == 0 {
        &value
    } else {
        others.first().unwrap_or(&value)
    };
    let between = dice.pick(&[", ", ",", ";", " ", "\n", ""]);
    wire.headers[at].1 = match dice.below(3) {
        0 => format!("{value}{between}{other}"),
        1 => format!("{other}{between}{value}"),
        _ => {
            let (here, there) = (place(&value, dice), place(other, dice));
            format!("{}{}", &value[..here], &other[there..])
        }
    };
}

pub(super) fn recased(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = one(wire, dice) else { return };
    let at = place(value, dice);
    let (kept, rest) = value.split_at(at);
    let length = dice.below(rest.len()) + 1;
    let turned = rest.char_indices().map(|(i, c)| match c {
        _ if i >= length => c,
        c if c.is_ascii_lowercase() => c.to_ascii_uppercase(),
        c => c.to_ascii_lowercase(),
    });
    *value = kept.chars().chain(turned).collect();
}

/// The same bytes, or nearly, in base64 that a lenient reader takes.
pub(super) fn base64_otherwise(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let name = dice.pick(&["signature", "content-digest", "cms-ledger"]);
    let Some(value) = named(wire, name) else {
        return;
    };
    *value = match dice.below(6) {
        0 => value.replacen("=:", ":", 1),
        1 => value.replacen("==:", "=:", 1),
        2 => value.replace('+', "-").replace('/', "_"),
        3 => value.replacen("=:", "==:", 1),
        4 => value.replacen(":", ": ", 1),
        // The last letter before the padding carries bits that belong to no byte.
        _ => match value.find("=:").and_then(|end| end.checked_sub(1)) {
            Some(last) if value.is_char_boundary(last) && value.is_char_boundary(last + 1) => {
                let next = char::from(value.as_bytes()[last].wrapping_add(1) & 0x7f);
                format!("{}{next}{}", &value[..last], &value[last + 1..])
            }
            _ => return,
        },
    };
}

pub(super) fn number_otherwise(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let (name, key) = match dice.below(4) {
        0 => ("signature-input", "created="),
        1 => ("signature-input", "expires="),
        2 => ("cms-ledger", "index="),
        _ => ("idempotency-key", ":"),
    };
    let Some(value) = named(wire, name) else {
        return;
    };
    let Some(at) = value.find(key).map(|at| at + key.len()) else {
        return;
    };
    let length = value[at..].bytes().take_while(u8::is_ascii_digit).count();
    let number = value[at..at + length].to_owned();
    let other = match dice.below(8) {
        0 => format!("0{number}"),
        1 => format!("+{number}"),
        2 => format!("-{number}"),
        3 => format!("{number}.0"),
        4 => format!("\"{number}\""),
        5 => format!("{number}e0"),
        6 => format!("0x{number}"),
        _ => format!("{number}0"),
    };
    value.replace_range(at..at + length, &other);
}

pub(super) fn digest_downgraded(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let right = wire
        .values("content-digest")
        .first()
        .cloned()
        .unwrap_or_default();
    let inside = right
        .strip_prefix("sha-256=")
        .unwrap_or_default()
        .to_owned();
    let long = format!("sha-512=:{}==:", "A".repeat(86));
    let other = match dice.below(12) {
        0 => long,
        1 => "md5=:Sd/dVLAcvNLSq16eXua5uQ==:".to_owned(),
        2 => "unixsum=30637".to_owned(),
        3 => String::new(),
        4 => "sha-256=::".to_owned(),
        5 => format!("SHA-256={inside}"),
        6 => format!("id-sha-256={inside}"),
        7 => format!("{long}, {right}"),
        8 => format!("{right}, {long}"),
        9 => format!("sha-256={}", inside.replace(':', "\"")),
        10 => format!("sha-256=({inside})"),
        _ => format!("sha={inside}"),
    };
    set(wire, "content-digest", &other);
    if dice.below(4) == 0 {
        wire.headers.push(("digest".to_owned(), right));
    }
}

pub(super) fn delivery_relabelled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const WORDS: [&str; 7] = [
        "backfill",
        "live",
        "Backfill",
        "\"backfill\"",
        "",
        "backfill, live",
        "backfill;x",
    ];
    let had = wire.values("cms-delivery");
    if !had.is_empty() && dice.below(2) == 0 {
        wire.headers.retain(|(name, _)| name != "cms-delivery");
    } else {
        set(wire, "cms-delivery", dice.pick(&WORDS));
    }
}

pub(super) fn encoding_relabelled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const CODINGS: [&str; 8] = [
        "zstd",
        "identity",
        "gzip",
        "br",
        "ZSTD",
        "zstd, zstd",
        "",
        "zstd;q=1",
    ];
    let had = wire.values("content-encoding");
    if !had.is_empty() && dice.below(2) == 0 {
        wire.headers.retain(|(name, _)| name != "content-encoding");
    } else {
        set(wire, "content-encoding", dice.pick(&CODINGS));
    }
}

/// Headers that other servers believe. None may change what is accepted.
pub(super) fn unread_added(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const UNREAD: [(&str, &str); 9] = [
        ("host", "other.example"),
        ("x-forwarded-host", "other.example"),
        ("forwarded", "host=other.example;proto=http"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/api/v1/telemetry/dark-data"),
        ("digest", "sha-256=AAAA"),
        ("want-content-digest", "md5=1"),
        ("date", "Fri, 16 Jan 2026 15:45:00 GMT"),
        ("accept-signature", "cms=();tag=\"x\""),
    ];
    let (name, value) = UNREAD[dice.below(UNREAD.len())];
    wire.headers.push((name.to_owned(), value.to_owned()));
}
