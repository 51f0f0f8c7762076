//! Changes inputs as a fuzzer does, without its sense of coverage: for the ordinary run of the tests.

/// Bytes that parsers of texts, JSON, TOML and numbers branch on.
const PIECES: [&[u8]; 28] = [
    b"\n",
    b"\n\n",
    b"\r\n",
    b" ",
    b"\"",
    b"\\",
    b"\\u0000",
    b",",
    b", ",
    b":",
    b"=",
    b"==",
    b"-",
    b"0",
    b"1",
    b"e9",
    b"18446744073709551616",
    b"-1",
    b"null",
    b"{}",
    b"[]",
    b"[[",
    b"\xff",
    b"\xc3\xa4",
    b"\xe2\x80\x94 ",
    b"\0",
    b"(",
    b";",
];

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Changes an input in one to four places; `other` is an input to take parts of.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let (length, at) = (input.len(), dice.below(input.len() + 1));
        let end = at + dice.below((length - at).min(64) + 1);
        match dice.below(8) {
            0 if at < length => input[at] ^= 1 << dice.below(8),
            1 if at < length => input[at] = dice.byte(),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let to = dice.below(length + 1);
                drop(input.splice(to..to, part));
            }
            4 => {
                let from = dice.below(other.len());
                let to = from + dice.below((other.len() - from).min(64) + 1);
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            5 => input.truncate(at),
            6 if at < length && input[at].is_ascii_digit() => input[at] = b'0' + dice.byte() % 10,
            _ => drop(input.splice(at..at, PIECES[dice.below(PIECES.len())].iter().copied())),
        }
    }
}
