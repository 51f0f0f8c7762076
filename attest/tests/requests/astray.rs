//! An agent gone astray: requests signed with its right key, and still not what the profile says.
//!
//! These reach the checks behind the signature: whoever signs something else, or with less, is refused too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::hands::signatures::sign_as_it_stands;
use crate::hands::{Dice, Wire};
use crate::wire::{AUTHORITY, key};

/// Changes a request and signs it again.
pub(crate) type Astray = fn(&mut Wire, &mut Dice);

/// What an agent could do wrong, by what it does. None leaves a request of the profile.
pub(crate) const ASTRAY: [(&str, Astray); 9] = [
    ("signs other components", components),
    ("signs with other parameters", parameters),
    ("signs too early or too late", time),
    ("signs a weaker digest", digest),
    ("signs another body's digest", other_body),
    ("signs headers of another form", fields),
    ("signs two leaves at once", leaves),
    ("signs under another label", label),
    ("signs another method or path", place),
];

fn sign(wire: &mut Wire) {
    sign_as_it_stands(wire, AUTHORITY, &key(1));
}

fn set(wire: &mut Wire, name: &str, value: &str) {
    wire.headers.retain(|(known, _)| known != name);
    wire.headers.push((name.to_owned(), value.to_owned()));
}

fn input(wire: &mut Wire, change: impl FnOnce(&str) -> String) {
    let now = wire.header("signature-input").to_owned();
    let changed = change(&now);
    assert_ne!(now, changed, "nothing was changed");
    set(wire, "signature-input", &changed);
}

/// The value of a parameter as it stands, without its name.
fn parameter<'a>(input: &'a str, name: &str) -> &'a str {
    let (_, rest) = input
        .split_once(&format!(";{name}="))
        .expect("the parameter is there");
    rest.split(';').next().unwrap_or_default()
}

fn components(wire: &mut Wire, dice: &mut Dice) {
    let which = dice.below(8);
    let (at, to) = (dice.below(7), dice.below(6));
    let more = dice.pick(&[
        "\"date\"",
        "\"@query\"",
        "\"authorization\"",
        "\"host\"",
        "\"@path\"",
        "1",
        "cms",
    ]);
    input(wire, |text| {
        let (before, rest) = text.split_once('(').unwrap();
        let (list, after) = rest.split_once(')').unwrap();
        let mut list: Vec<&str> = list.split(' ').collect();
        let qualified = format!("{};req", list[at]);
        let upper = list[at].to_ascii_uppercase();
        match which {
            0 => drop(list.remove(at)),
            1 => list.reverse(),
            2 => list.insert(at, more),
            3 => list.insert(to, list[at]),
            4 => list[at] = &qualified,
            5 => list[at] = &upper,
            6 => list.clear(),
            _ => list.swap(to, to + 1),
        }
        format!("{before}({}){after}", list.join(" "))
    });
    sign(wire);
}

fn parameters(wire: &mut Wire, dice: &mut Dice) {
    let which = dice.below(14);
    let nonce = STANDARD.encode([dice.byte(); 15]);
    input(wire, |text| {
        let swap = |name: &str, to: &str| {
            let now = format!(";{name}={}", parameter(text, name));
            text.replacen(&now, to, 1)
        };
        let created = parameter(text, "created").to_owned();
        match which {
            0 => swap("tag", ";tag=\"cms-enroll\""),
            1 => swap("tag", ""),
            2 => swap("tag", ";tag=cms-telemetry"),
            3 => format!("{text};alg=\"ed25519\""),
            4 => swap("expires", ""),
            5 => swap("expires", &format!(";expires={created}")),
            6 => swap("expires", ";expires=999999999999999"),
            7 => swap("nonce", ""),
            8 => swap("nonce", &format!(";nonce=\"{nonce}\"")),
            9 => swap("nonce", ";nonce=\"BwcHBwcHBwcHBwcHBwcHBx\""),
            10 => swap("keyid", ""),
            11 => swap("keyid", ";keyid=\"test-key-ed25519\""),
            12 => swap("created", &format!(";created={created}.0")),
            _ => swap("created", &format!(";created=\"{created}\"")),
        }
    });
    sign(wire);
}

fn time(wire: &mut Wire, dice: &mut Dice) {
    let off = 301 + i64::try_from(dice.below(1_000_000)).unwrap();
    let off = if dice.below(2) == 0 { off } else { -off };
    input(wire, |text| {
        let (created, expires) = (parameter(text, "created"), parameter(text, "expires"));
        let at = crate::wire::signed_at().as_second() + off;
        text.replacen(created, &at.to_string(), 1).replacen(
            &format!("expires={expires}"),
            &format!("expires={}", at + 300),
            1,
        )
    });
    sign(wire);
}

fn digest(wire: &mut Wire, dice: &mut Dice) {
    let long = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &wire.body);
    let long = format!("sha-512=:{}:", STANDARD.encode(long.as_ref()));
    let right = wire.header("content-digest").to_owned();
    let value = match dice.below(10) {
        0 => long,
        1 => format!("{right}, {long}"),
        2 => format!("{long}, {right}"),
        3 => format!("md5=:{}:", STANDARD.encode([dice.byte(); 16])),
        4 => "unixsum=30637".to_owned(),
        5 => String::new(),
        6 => "sha-256=::".to_owned(),
        7 => format!("{right};x"),
        8 => format!("{right}, {right}"),
        _ => right.replacen("sha-256", "sha-512", 1),
    };
    set(wire, "content-digest", &value);
    sign(wire);
}

fn other_body(wire: &mut Wire, dice: &mut Dice) {
    let at = dice.below(wire.body.len());
    wire.body[at] ^= 1 << dice.below(8);
    sign(wire);
}

fn fields(wire: &mut Wire, dice: &mut Dice) {
    let key = wire.header("idempotency-key").to_owned();
    let ledger = wire.header("cms-ledger").to_owned();
    let (name, value) = match dice.below(10) {
        0 => ("content-type", "application/json; charset=utf-8".to_owned()),
        1 => ("content-type", "Application/JSON".to_owned()),
        2 => ("idempotency-key", key.trim_matches('"').to_owned()),
        3 => ("idempotency-key", key.to_ascii_uppercase()),
        4 => ("idempotency-key", format!("{key};a")),
        5 => ("cms-ledger", format!("{ledger}, more=1")),
        6 => ("cms-ledger", ledger.replacen("index=", "index=-", 1)),
        7 => ("cms-ledger", other_order(&ledger)),
        8 => ("cms-ledger", ledger.replacen(", ", ",", 1)),
        _ => (
            "cms-ledger",
            ledger.split(", ").next().unwrap_or_default().to_owned(),
        ),
    };
    set(wire, name, &value);
    sign(wire);
}

fn other_order(ledger: &str) -> String {
    let (index, leaf) = ledger.split_once(", ").expect("two members");
    format!("{leaf}, {index}")
}

fn leaves(wire: &mut Wire, dice: &mut Dice) {
    let ledger = wire.header("cms-ledger").to_owned();
    let (_, leaf) = ledger.split_once(", ").expect("two members");
    // No honest request has an index this high.
    let index = 2_000_000 + dice.roll() % 1_000_000;
    set(wire, "cms-ledger", &format!("index={index}, {leaf}"));
    sign(wire);
}

fn label(wire: &mut Wire, dice: &mut Dice) {
    let label = dice.pick(&["sig1", "cms2", "c", "cms-", "*cms", "cms.telemetry"]);
    input(wire, |text| text.replacen("cms=", &format!("{label}="), 1));
    sign(wire);
}

fn place(wire: &mut Wire, dice: &mut Dice) {
    match dice.below(5) {
        0 => wire.method = dice.pick(&["PUT", "PATCH", "GET", "post", ""]).to_owned(),
        1 => wire.path.push_str("?a=b"),
        2 => wire.path.push('#'),
        3 => wire.path.push(' '),
        _ => wire.path.insert(0, 'x'),
    }
    sign(wire);
}
