//! How many parameters a model has, by its name.
//!
//! Promises: an answer only where the name says one size of the whole model; a name with two of them, or with the
//! active part of a mixture alone, says none. Refuses: sizes in `m`/`b` that are a part of a longer word, such as 4bit.

/// A name gives no larger number of units: digits before and after the point.
const DIGITS_MAX: usize = 5;

/// Experts of a mixture.
const EXPERTS_MAX: u64 = 1024;

/// What one part of a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All parameters.
    Size(u64),
    /// `16E`: how many experts, so that the size before it is that of the active part.
    Experts,
    Other,
}

/// All parameters of a model, as its name says them: `70B`, `0.5b`, `270m`, `8x7B` (eight times seven), `30B-A3B` (thirty).
pub(crate) fn of_name(name: &str) -> Option<u64> {
    let mut found = None;
    let mut rest = name;
    while !rest.is_empty() {
        let end = end_of_part(rest);
        let (text, after) = rest.split_at_checked(end)?;
        match part(text) {
            Part::Experts => return None,
            Part::Size(size) if found.is_some_and(|other| other != size) => return None,
            Part::Size(size) => found = Some(size),
            Part::Other => {}
        }
        let mut left = after.chars();
        left.next();
        rest = left.as_str();
    }
    found
}

/// Parts are separated by anything but letters, digits, and a point between digits.
fn end_of_part(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let is_end = |(at, byte): (usize, &u8)| {
        let is_point = *byte == b'.' && digit(at.checked_sub(1)) && digit(Some(at + 1));
        !(byte.is_ascii_alphanumeric() || is_point)
    };
    bytes
        .iter()
        .enumerate()
        .position(|(at, byte)| is_end((at, byte)))
        .unwrap_or(bytes.len())
}

fn part(text: &str) -> Part {
    let lower = text.to_ascii_lowercase();
    if let Some(experts) = lower.strip_suffix('e')
        && experts.parse::<u64>().is_ok()
    {
        return Part::Experts;
    }
    size(&lower).map_or(Part::Other, Part::Size)
}

/// `7b`, `0.5b`, `270m`, `8x7b`.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('b') {
        Some(number) => (number, 1_000_000_000),
        None => (text.strip_suffix('m')?, 1_000_000),
    };
    let (experts, each) = match number.split_once('x') {
        Some((experts, each)) => (experts.parse().ok()?, each),
        None => (1, number),
    };
    let (whole, part) = each.split_once('.').unwrap_or((each, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > DIGITS_MAX || part.len() > DIGITS_MAX {
        return None;
    }
    if !is_number(whole) || !is_number(part) || !(1..=EXPERTS_MAX).contains(&experts) {
        return None;
    }
    let digits: u64 = format!("{whole}{part}").parse().ok()?;
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let size = digits.checked_mul(unit)?.checked_div(scale)?;
    size.checked_mul(experts).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_say_a_size() {
        for (name, millions) in [
            ("Qwen/Qwen2.5-7B-Instruct", 7_000),
            ("meta-llama/Llama-3.1-70B-Instruct", 70_000),
            ("llama3.2:3b", 3_000),
            ("qwen2.5:0.5b-instruct-q4_K_M", 500),
            ("phi3:3.8b", 3_800),
            ("gemma-3-270m-it", 270),
            ("SmolLM-135M", 135),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", 56_000),
            ("mixtral:8x22b", 176_000),
            ("Qwen/Qwen3-30B-A3B", 30_000),
            ("Qwen3-235B-A22B-Instruct-2507-FP8", 235_000),
            ("ibm/granite-3.0-1b-a400m-instruct", 1_000),
            ("microsoft/bitnet-b1.58-2B-4T", 2_000),
            ("TinyLlama-1.1B-intermediate-step-1431k-3T", 1_100),
            ("gpt-oss:120b-cloud", 120_000),
            ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", 3_000),
            (
                "/root/.cache/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/a09a35458c702b33eeacc393d103063234e8bc28",
                7_000,
            ),
            ("deepseek-r1:671b", 671_000),
            ("llama-70b_merged_70B", 70_000),
        ] {
            assert_eq!(of_name(name), Some(millions * 1_000_000), "{name}");
        }
    }

    #[test]
    fn names_that_say_none() {
        for name in [
            "",
            "gpt-4o-2024-08-06",
            "claude-sonnet-4-20250514",
            "tiny-llama",
            "Qwen1.5-MoE-A2.7B",
            "Llama-4-Scout-17B-16E-Instruct",
            "OLMoE-1B-7B-0924",
            "gemma-3n-E4B-it",
            "some-model-4bit",
            "phi-3-mini-128k",
            "bge-m3",
            "x-0b",
            "123456b",
            "8xb",
            "x7b",
            "ensemble",
        ] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_size_or_none(name in ".*") {
            let _size = of_name(&name);
        }

        #[test]
        fn a_size_is_found_behind_any_words(before in "[a-z]{1,8}", billions in 1..2000_u64, after in "[a-d]{2,8}") {
            let name = format!("{before}-{billions}B-{after}");
            prop_assert_eq!(of_name(&name), Some(billions * 1_000_000_000));
        }
    }
}
