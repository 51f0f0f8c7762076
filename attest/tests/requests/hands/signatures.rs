//! Hands on the signature: its list of components, its parameters, its label and its bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cms_attest::SigningKey;

use super::{Dice, Loot, Wire};

/// The order of Ed25519's group, the lowest byte first. A signature's second half plus this is as valid for a
/// verifier that does not look.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// `Signature-Input` in three parts.
struct Input {
    label: String,
    components: Vec<String>,
    /// Each as `name=value`.
    parameters: Vec<String>,
}

impl Input {
    /// Takes it apart, where it still has the form that the profile gives it.
    fn of(wire: &Wire) -> Option<Self> {
        let value = wire.values("signature-input").into_iter().next()?;
        let (label, rest) = value.split_once("=(")?;
        let (components, parameters) = rest.split_once(");")?;
        let list = |text: &str, separator| text.split(separator).map(str::to_owned).collect();
        Some(Self {
            label: label.to_owned(),
            components: list(components, ' '),
            parameters: list(parameters, ';'),
        })
    }

    fn text(&self) -> String {
        format!(
            "({});{}",
            self.components.join(" "),
            self.parameters.join(";")
        )
    }

    fn put(&self, wire: &mut Wire) {
        set(
            wire,
            "signature-input",
            format!("{}={}", self.label, self.text()),
        );
    }
}

fn set(wire: &mut Wire, name: &str, value: String) {
    wire.headers.retain(|(known, _)| known != name);
    wire.headers.push((name.to_owned(), value));
}

fn edit(wire: &mut Wire, change: impl FnOnce(&mut Input)) {
    if let Some(mut input) = Input::of(wire) {
        change(&mut input);
        input.put(wire);
    }
}

/// Signs whatever the request's `Signature-Input` says, under its label, with any key.
pub(crate) fn sign_as_it_stands(wire: &mut Wire, authority: &str, key: &SigningKey) {
    let Some(input) = Input::of(wire) else { return };
    let mut base = String::new();
    for component in &input.components {
        let name = component
            .split(';')
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        let value = match name {
            "@method" => wire.method.clone(),
            "@authority" => authority.to_owned(),
            "@path" => wire.path.clone(),
            header => wire.values(header).join(", "),
        };
        base.push_str(&format!("{component}: {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {}", input.text()));
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    set(wire, "signature", format!("{}=:{signature}:", input.label));
}

pub(super) fn component_dropped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    edit(wire, |input| {
        let at = dice.below(input.components.len());
        let name = input.components.remove(at);
        if dice.below(2) == 0 {
            input.parameters.push(format!("x={name}"));
        }
    });
}

pub(super) fn component_doubled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    edit(wire, |input| {
        let at = dice.below(input.components.len());
        let to = dice.below(input.components.len() + 1);
        input.components.insert(to, input.components[at].clone());
    });
}

pub(super) fn components_swapped(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    edit(wire, |input| {
        let count = input.components.len();
        input.components.swap(dice.below(count), dice.below(count));
    });
}

pub(super) fn component_added(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const MORE: [&str; 9] = [
        "\"date\"",
        "\"host\"",
        "\"@query\"",
        "\"authorization\"",
        "\"@target-uri\"",
        "\"@scheme\"",
        "\"x-nothing\"",
        "\"@signature-params\"",
        "()",
    ];
    edit(wire, |input| {
        let to = dice.below(input.components.len() + 1);
        input.components.insert(to, dice.pick(&MORE).to_owned());
    });
}

pub(super) fn component_qualified(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const TAILS: [&str; 6] = [";sf", ";bs", ";req", ";tr", ";key=\"x\"", ";sf=?0"];
    edit(wire, |input| {
        let at = dice.below(input.components.len());
        let component = &mut input.components[at];
        match dice.below(4) {
            0 => *component = component.to_ascii_uppercase(),
            1 => *component = component.trim_matches('"').to_owned(),
            _ => component.push_str(dice.pick(&TAILS)),
        }
    });
}

pub(super) fn parameter_edited(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    const OTHERS: [&str; 22] = [
        "created=0",
        "created=-1",
        "created=1768578301",
        "created=999999999999999",
        "created=1768578300.0",
        "created=\"1768578300\"",
        "created",
        "expires=1768578601",
        "expires=999999999999999",
        "expires=0",
        "nonce=\"\"",
        "nonce=\"AAAAAAAAAAAAAAAAAAAAAA\"",
        "nonce=\"BwcHBwcHBwcHBwcHBwcHBx\"",
        "nonce=:AAAA:",
        "keyid=\"\"",
        "keyid=\"test-key-ed25519\"",
        "tag=\"cms-enroll\"",
        "tag=cms-telemetry",
        "tag=\"\"",
        "alg=\"ed25519\"",
        "alg=\"hmac-sha256\"",
        "alg=\"none\"",
    ];
    let edited = match dice.below(4) {
        0 => format!(
            "keyid=\"{}\"",
            loot.keys[dice.below(loot.keys.len())].verifying().key_id()
        ),
        1 => match Input::of(loot.other(dice)) {
            Some(other) => other.parameters[dice.below(other.parameters.len())].clone(),
            None => return,
        },
        _ => dice.pick(&OTHERS).to_owned(),
    };
    edit(wire, |input| {
        let key = edited.split('=').next().unwrap_or_default().to_owned();
        let place = input
            .parameters
            .iter()
            .position(|known| known.split('=').next() == Some(&key));
        match place {
            Some(at) => input.parameters[at] = edited,
            None => input.parameters.push(edited),
        }
    });
}

pub(super) fn parameters_rearranged(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    edit(wire, |input| {
        let count = input.parameters.len();
        let (at, to) = (dice.below(count), dice.below(count));
        match dice.below(3) {
            0 => drop(input.parameters.remove(at)),
            1 => input.parameters.insert(to, input.parameters[at].clone()),
            _ => input.parameters.swap(at, to),
        }
    });
}

pub(super) fn relabelled(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    const LABELS: [&str; 8] = ["sig1", "CMS", "cms2", "", "*", "cms ", "cms-telemetry", "c"];
    let label = dice.pick(&LABELS);
    let both = dice.below(3);
    for (at, name) in ["signature-input", "signature"].into_iter().enumerate() {
        if both != at {
            let value = wire.values(name).first().cloned().unwrap_or_default();
            set(wire, name, value.replacen("cms=", &format!("{label}="), 1));
        }
    }
}

/// Puts the signature of another request beside the right one, under a label of its own or the same.
pub(super) fn second_added(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let other = loot.other(dice);
    let label = dice.pick(&["cms", "cms", "old", "proxy"]);
    let first = dice.below(2) == 0;
    for name in ["signature-input", "signature"] {
        let now = wire.values(name).first().cloned().unwrap_or_default();
        let second = other.values(name).first().cloned().unwrap_or_default();
        let second = second.replacen("cms=", &format!("{label}="), 1);
        let joined = if first {
            format!("{second}, {now}")
        } else {
            format!("{now}, {second}")
        };
        set(wire, name, joined);
    }
}

pub(super) fn of_another(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let other = loot.other(dice);
    let which = dice.below(3);
    for (at, name) in ["signature-input", "signature"].into_iter().enumerate() {
        if which != at
            && let Some(value) = other.values(name).into_iter().next()
        {
            set(wire, name, value);
        }
    }
}

/// Signatures that a careless Ed25519 takes: the second half plus the group's order, points of small order.
pub(super) fn bent(wire: &mut Wire, dice: &mut Dice, _: &Loot) {
    let Some(value) = wire.values("signature").into_iter().next() else {
        return;
    };
    let Some((label, text)) = value.split_once("=:") else {
        return;
    };
    let Ok(mut bytes) = STANDARD.decode(text.trim_end_matches(':')) else {
        return;
    };
    if bytes.len() != 64 {
        return;
    }
    match dice.below(7) {
        0 => {
            let mut carry = 0;
            for (byte, more) in bytes[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(more) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
        }
        1 => bytes.fill(0),
        2 => bytes[..32].fill(0),
        3 => bytes[32..].fill(0),
        4 => bytes.rotate_left(32),
        5 => bytes[31] ^= 0x80,
        _ => {
            bytes.fill(0);
            bytes[0] = 1;
        }
    }
    let label = label.to_owned();
    set(
        wire,
        "signature",
        format!("{label}=:{}:", STANDARD.encode(bytes)),
    );
}

/// Signs with another key, under its own name or the right agent's.
pub(super) fn signed_by_hand(wire: &mut Wire, dice: &mut Dice, loot: &Loot) {
    let key = &loot.keys[dice.below(loot.keys.len())];
    if dice.below(2) == 0 {
        let own = format!("keyid=\"{}\"", key.verifying().key_id());
        edit(wire, |input| {
            for parameter in input
                .parameters
                .iter_mut()
                .filter(|known| known.starts_with("keyid="))
            {
                parameter.clone_from(&own);
            }
        });
    }
    sign_as_it_stands(wire, loot.authority, key);
}
