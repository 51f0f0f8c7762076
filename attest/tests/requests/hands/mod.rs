//! Wrong hands: every way that the tests know to change a request between agent and verifier.
//!
//! Owns: the request as plain parts, seeded dice, and the table of hands. The dashboard's tests use the same
//! table. Promises: the same seed changes the same request in the same way. A hand has what an eavesdropper
//! and another enrolled agent have; the agent's private key is none of it.

mod fields;
mod parts;
pub(crate) mod signatures;

use cms_attest::SigningKey;

/// A request on the wire, with every part open to a wrong hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What the verifier reads, apart from the two headers of the signature itself.
const READ: [&str; 6] = [
    "cms-delivery",
    "cms-ledger",
    "content-digest",
    "content-encoding",
    "content-type",
    "idempotency-key",
];

impl Wire {
    /// All values of a header; names have no case in HTTP.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter();
        let named = named.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    }

    /// Whether this is, for whoever follows the protocol, the same request as that: method, path, body and every
    /// header that is read are the same bytes, and so is a signature of the original with its parameters. Beside it
    /// others may stand or be gone; whether they count, the caller sees in what is verified. The order of headers
    /// of different names means nothing in HTTP, nor does the case of their names.
    pub(crate) fn means_the_same_as(&self, original: &Self) -> bool {
        self.method == original.method
            && self.path == original.path
            && self.body == original.body
            && READ
                .iter()
                .all(|name| self.values(name) == original.values(name))
            && original
                .signatures()
                .iter()
                .any(|signature| self.carries(signature))
    }

    /// Each signature: its member of `Signature-Input`, and its member of `Signature`.
    fn signatures(&self) -> Vec<[String; 2]> {
        let members = |name| {
            let values = self.values(name);
            let members = values.iter().flat_map(|value| match value.find(", cms-") {
                Some(at) => vec![value[..at].to_owned(), value[at + 2..].to_owned()],
                None => vec![value.clone()],
            });
            members.collect::<Vec<String>>()
        };
        let both = members("signature-input")
            .into_iter()
            .zip(members("signature"));
        both.map(|(input, signature)| [input, signature]).collect()
    }

    /// Whether each header of the signature stands once, and has this member.
    fn carries(&self, signature: &[String; 2]) -> bool {
        ["signature-input", "signature"]
            .iter()
            .zip(signature)
            .all(|(name, member)| {
                let values = self.values(name);
                let [value] = values.as_slice() else {
                    return false;
                };
                format!(", {value}, ").contains(&format!(", {member}, "))
            })
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of one case of a run.
    pub(crate) const fn of(seed: u64, case: u64) -> Self {
        Self(seed ^ case.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one; zero where there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// What a wrong hand can have.
pub(crate) struct Loot {
    /// Requests that were seen on the wire: of the same agent, of another, for another purpose.
    pub(crate) seen: Vec<Wire>,
    /// Keys of the hand's own: of an enrolled agent, and of nobody.
    pub(crate) keys: Vec<SigningKey>,
    /// The name that the dashboard goes by.
    pub(crate) authority: &'static str,
}

impl Loot {
    fn other(&self, dice: &mut Dice) -> &Wire {
        &self.seen[dice.below(self.seen.len())]
    }
}

/// Changes a request.
pub(crate) type Hand = fn(&mut Wire, &mut Dice, &Loot);

/// Every wrong hand by what it does.
pub(crate) const HANDS: [(&str, Hand); 41] = [
    ("a bit of a header flipped", fields::bit_flipped),
    ("a byte of a header replaced", fields::byte_replaced),
    ("text put into a header", fields::text_inserted),
    ("a part of a header cut out", fields::part_cut),
    ("a header cut short", fields::truncated),
    ("a header left out", fields::dropped),
    ("a header twice", fields::doubled),
    (
        "a header twice, once of another request",
        fields::doubled_with_other,
    ),
    ("the values of two headers swapped", fields::swapped),
    ("headers in another order", fields::shuffled),
    ("a header renamed", fields::renamed),
    ("a header of another request", fields::of_another),
    ("a header with a usual other value", fields::usual_other),
    ("white space and folding in a header", fields::spaced),
    ("a header joined with itself or another", fields::joined),
    ("letters of a header in the other case", fields::recased),
    ("base64 in another form", fields::base64_otherwise),
    ("numbers in another form", fields::number_otherwise),
    ("a digest downgraded", fields::digest_downgraded),
    ("delivery relabelled", fields::delivery_relabelled),
    ("encoding relabelled", fields::encoding_relabelled),
    ("headers that nobody should read", fields::unread_added),
    ("a bit of the body flipped", parts::bit_flipped),
    ("the body edited", parts::body_edited),
    ("the body of another request", parts::body_of_another),
    ("the path edited", parts::path_edited),
    ("the path of another request", parts::path_of_another),
    ("another method", parts::method_edited),
    ("all headers of another request", parts::headers_of_another),
    ("a component left out", signatures::component_dropped),
    ("a component twice", signatures::component_doubled),
    ("two components swapped", signatures::components_swapped),
    ("a component added", signatures::component_added),
    ("a component qualified", signatures::component_qualified),
    ("a parameter edited", signatures::parameter_edited),
    (
        "a parameter left out, twice or moved",
        signatures::parameters_rearranged,
    ),
    ("labels changed", signatures::relabelled),
    ("a second signature", signatures::second_added),
    ("the signature of another request", signatures::of_another),
    ("the signature's numbers bent", signatures::bent),
    (
        "signed with a key of the hand's own",
        signatures::signed_by_hand,
    ),
];
