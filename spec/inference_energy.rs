//! What a published model says that requests to a language model use, for servers whose processors nobody measures.
//!
//! The model is that of EcoLogits 0.9 as its documentation describes it (<https://ecologits.ai>, "Methodology, LLM
//! inference"; its code is under MPL-2.0, and none of it is here), whose energy part is fitted to the ML.ENERGY
//! leaderboard's measurements of H100. With `P` parameters in units of a thousand million and a batch of 64 requests, one
//! output token takes, of each of `n` processors,
//!
//! - `1.1665273170451914e-6 exp(-0.011205921025579175 * 64) P + 4.052928146734005e-5` Wh,
//! - and of the server around them 1.2 kW / 8 / 64 over the latency of a token,
//!   `6.785088094353663e-4 P + 3.119310311688259e-4 * 64 + 1.9473717579473387e-2` s;
//!
//! `n` is the least power of two that holds the weights in 16 bits with a fifth to spare in 80 GB each. For a fixed batch both
//! are linear in `P`, and their sum is what stands here, in integers.
//!
//! Promises: the same figure on every machine. Refuses: what the fit does not cover (more than 200e9 parameters); input
//! tokens, which the model leaves out; PUE, which is applied where facilities are accounted for.
//!
//! It is an estimate for a busy server. A server with few requests at once uses several times as much for a token: 8B
//! with eight at once was measured at 0.46 J of the processor, of which this says 0.16 J. A mixture of experts computes with a part of its
//! parameters; taken by all of them, as here, its figure is too high.

use crate::units::Microjoules;

/// Names the method and its version in provenance.
pub const METHOD: &str = "ecologits/0.9 batch 64";

/// The largest model that the fit covers.
pub const PARAMETERS_MAX: u64 = 200_000_000_000;

/// Energy of a token for each processor, whatever the model, in zeptojoules (1e-21 J).
const TOKEN_ZJ: u128 = 238_336_593_534_638_815_781;

/// And for each parameter.
const PARAMETER_ZJ: u128 = 3_640_145_016;

/// Zeptojoules in a microjoule.
const ZJ_PER_UJ: u128 = 1_000_000_000_000_000;

/// Parameters that fit into one processor of 80 GB: 2 bytes each, and a fifth more.
const PARAMETERS_PER_PROCESSOR_X3: u128 = 100_000_000_000;

/// What `output_tokens` of a model of so many parameters use, without PUE; nothing for a model that the method does not
/// cover.
#[must_use]
pub fn published(parameters: u64, output_tokens: u64) -> Option<Microjoules> {
    if !(1..=PARAMETERS_MAX).contains(&parameters) {
        return None;
    }
    let parameters = u128::from(parameters);
    let fitting = (parameters * 3).div_ceil(PARAMETERS_PER_PROCESSOR_X3);
    let processors = fitting.next_power_of_two();
    let token_zj = processors * (TOKEN_ZJ + PARAMETER_ZJ * parameters);
    let energy_uj = u128::from(output_tokens)
        .checked_mul(token_zj)?
        .saturating_add(ZJ_PER_UJ / 2)
        / ZJ_PER_UJ;
    u64::try_from(energy_uj).ok().map(Microjoules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Millionths of a watt-hour, rounded.
    fn uwh(billions: u64, tokens: u64) -> u64 {
        let energy = published(billions * 1_000_000_000, tokens).unwrap();
        (energy.0 + 1800) / 3600
    }

    #[test]
    fn figures_of_the_published_formula() {
        // 8B: 9,017 of the processor and 5,842 of its server; 70B: four processors, 64,311 and 45,278.
        assert_eq!(uwh(8, 200), 14_859);
        assert_eq!(uwh(70, 200), 109_588);
        assert_eq!(uwh(200, 200), 429_496);
        // Either side of what fits into one processor.
        assert_eq!((uwh(33, 200), uwh(34, 200)), (19_915, 40_234));
        assert_eq!(
            published(8_000_000_000, 1),
            Some(Microjoules(267_458)),
            "0.27 J a token"
        );
    }

    #[test]
    fn what_is_not_covered_has_no_figure() {
        assert_eq!(published(0, 200), None);
        assert!(published(PARAMETERS_MAX, 200).is_some());
        assert_eq!(published(PARAMETERS_MAX + 1, 200), None);
        assert_eq!(published(1, 0), Some(Microjoules::ZERO));
        assert_eq!(published(PARAMETERS_MAX, u64::MAX), None, "it is no energy");
    }

    proptest! {
        #[test]
        fn more_parameters_and_more_tokens_never_use_less(
            parameters in 1..PARAMETERS_MAX, more in 0..10_000_000_000_u64, tokens in 0..1_000_000_u64,
        ) {
            let smaller = published(parameters, tokens).unwrap();
            let larger = (parameters + more).min(PARAMETERS_MAX);
            prop_assert!(published(larger, tokens).unwrap() >= smaller);
            prop_assert!(published(parameters, tokens + 1).unwrap() > smaller);
        }

        #[test]
        fn tokens_add_up_to_half_a_microjoule_each(
            parameters in 1..PARAMETERS_MAX, a in 0..1_000_000_u64, b in 0..1_000_000_u64,
        ) {
            let of = |tokens| published(parameters, tokens).unwrap().0;
            prop_assert!(of(a + b).abs_diff(of(a) + of(b)) <= 1);
        }
    }
}
