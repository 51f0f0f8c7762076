//! Requests by the hundred thousand through wrong hands: none is accepted but those that mean the original.
//!
//! Each case takes a signed request and gives it to one to three hands of [`HANDS`], or to the agent itself gone
//! astray ([`crate::astray`]). What the verifier lets through must be, byte for byte in all that it reads, a
//! request that was honestly signed. `CMS_MUTATIONS` and `CMS_SEED` ask for more cases and for others.

use std::collections::BTreeMap;

use cms_attest::enrol::{Challenge, ENROL_PATH, sign_enrolment};
use cms_attest::request::{
    Delivery, LedgerRef, NONCE_BYTES, Outgoing, Verified, sign_twice, verify,
};
use cms_attest::{Digest, IdempotencyKey, KeyId, SigningKey};
use jiff::SignedDuration;

use crate::astray::{ASTRAY, Astray};
use crate::hands::{Dice, HANDS, Loot, Wire};
use crate::wire::{AGENT, AUTHORITY, key, signed_at};

/// Cases of an ordinary run.
const CASES: u64 = 120_000;
/// Requests that are changed before others are signed.
const CASES_PER_SCENE: u64 = 2_000;
const SEED: u64 = 20_260_116;
const OTHER_AGENT: &str = "018f4d2a-7b1c-7def-8123-00000000000b";

/// Honest requests, what they prove, and what a hand has.
struct Scene {
    honest: Vec<(Wire, Verified)>,
    loot: Loot,
}

/// The two agents that are enrolled, and the keys of their requests.
fn agents() -> [(&'static str, SigningKey); 2] {
    [(AGENT, key(1)), (OTHER_AGENT, key(2))]
}

/// The verifier, and what its caller has to see besides: that the key belongs to the agent that is named.
fn judge(wire: &Wire) -> Result<Verified, &'static str> {
    let agents = agents();
    let found = |id: &KeyId| {
        agents
            .iter()
            .find(|(_, key)| key.verifying().key_id() == *id)
    };
    let lookup = |id: &KeyId| found(id).map(|(_, key)| *key.verifying());
    let verified = wire
        .incoming(|incoming| verify(incoming, AUTHORITY, signed_at(), &lookup))
        .map_err(|refusal| refusal.code())?;
    let named = verified.idempotency_key().agent_id().as_str();
    match found(verified.key_id()) {
        Some((agent, _)) if *agent == named => Ok(verified),
        _ => Err("agent_mismatch"),
    }
}

fn random<const N: usize>(dice: &mut Dice) -> [u8; N] {
    [(); N].map(|()| dice.byte())
}

/// A submission that could have been sent: of either agent, of any category, early or late.
fn honest(dice: &mut Dice, agent: usize, authority: &str, age_s: i64) -> Wire {
    let agents = agents();
    let (agent, key) = &agents[agent];
    let stranger = crate::wire::key(3);
    let index = dice.roll() % 1_000_000;
    let path = format!(
        "/api/v1/telemetry/{}",
        dice.pick(&[
            "ghost-compute",
            "dark-data",
            "heat-recovery",
            "ghost-compute"
        ])
    );
    let body = format!(
        r#"{{"company_id":"acme-corp","data":{{"n":{}}}}}"#,
        dice.roll()
    );
    let request = Outgoing {
        authority,
        path: &path,
        content_encoding: (dice.below(2) == 0).then_some("zstd"),
        idempotency_key: IdempotencyKey::new(agent.parse().unwrap(), 1 + dice.roll() % 3, index),
        ledger: LedgerRef {
            index,
            leaf: Digest::from_bytes(random(dice)),
        },
        delivery: if dice.below(2) == 0 {
            Delivery::Backfill
        } else {
            Delivery::Live
        },
        body: body.as_bytes(),
    };
    let created = signed_at() - SignedDuration::from_secs(age_s);
    // In the middle of a rotation a key that is not known here stands beside the agent's, or before it.
    let (first, beside) = match dice.below(8) {
        0 => (key, Some(&stranger)),
        1 => (&stranger, Some(key)),
        _ => (key, None),
    };
    let headers = sign_twice(
        &request,
        first,
        beside,
        created,
        random::<NONCE_BYTES>(dice),
    );
    wire(&path, headers, body.as_bytes())
}

fn enrolment(dice: &mut Dice) -> Wire {
    let challenge: Challenge = format!("{:022}", dice.roll()).parse().unwrap();
    let headers = sign_enrolment(AUTHORITY, b"{}", &key(1), signed_at(), &challenge);
    wire(ENROL_PATH, headers, b"{}")
}

fn wire(path: &str, headers: Vec<(&'static str, String)>, body: &[u8]) -> Wire {
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    Wire {
        method: "POST".to_owned(),
        path: path.to_owned(),
        headers: headers.into_iter().map(named).collect(),
        body: body.to_vec(),
    }
}

impl Scene {
    fn new(dice: &mut Dice) -> Self {
        let age_s = |dice: &mut Dice| i64::try_from(dice.below(601)).unwrap() - 300;
        let ages: Vec<i64> = (0..8).map(|_| age_s(dice)).collect();
        let seen = ages.into_iter().enumerate().map(|(at, age_s)| {
            // Six of the agent, two of the other one.
            honest(dice, usize::from(at >= 6), AUTHORITY, age_s)
        });
        let mut seen: Vec<Wire> = seen.collect();
        let proven = |wire: &Wire| {
            (
                wire.clone(),
                judge(wire).expect("what is honest is accepted"),
            )
        };
        let honest_ones = seen.iter().map(proven).collect();
        // What was honest once, elsewhere, or for another purpose.
        seen.push(honest(dice, 0, AUTHORITY, 301));
        seen.push(honest(dice, 0, AUTHORITY, -301));
        seen.push(honest(dice, 0, "other.example", 0));
        seen.push(enrolment(dice));
        let loot = Loot {
            seen,
            keys: vec![key(2), key(66)],
            authority: AUTHORITY,
        };
        Self {
            honest: honest_ones,
            loot,
        }
    }

    /// What is proven by the honest request that this one is.
    fn meant(&self, wire: &Wire) -> Option<&Verified> {
        let found = self
            .honest
            .iter()
            .find(|(honest, _)| wire.means_the_same_as(honest));
        found.map(|(_, verified)| verified)
    }

    /// Signed by a hand's own key for its own agent: nothing was forged, it speaks for itself.
    fn own(&self, verified: &Verified) -> bool {
        self.loot
            .keys
            .iter()
            .any(|key| key.verifying().key_id() == *verified.key_id())
    }
}

/// What became of the cases.
#[derive(Default)]
struct Tally {
    mutated: u64,
    /// By the code of the refusal.
    refused: BTreeMap<&'static str, u64>,
    /// By the name of the hand: how often it took part in a request that was refused.
    worked: BTreeMap<&'static str, u64>,
    unchanged: u64,
    own: u64,
    accepted: Vec<String>,
}

impl Tally {
    fn count(&mut self, scene: &Scene, wire: &Wire, names: &[&'static str], case: u64) {
        let judged = judge(wire);
        if let Some(meant) = scene.meant(wire) {
            self.unchanged += 1;
            // A foreign signature may be malformed and cost the whole request; a different meaning may not arise.
            if judged.as_ref().is_ok_and(|verified| verified != meant) {
                self.accepted.push(format!(
                    "case {case}: {names:?} changed what is proven: {wire:?}"
                ));
            }
            return;
        }
        match judged {
            Err(code) => {
                self.mutated += 1;
                *self.refused.entry(code).or_default() += 1;
                for name in names {
                    *self.worked.entry(name).or_default() += 1;
                }
            }
            Ok(verified) if scene.own(&verified) => self.own += 1,
            Ok(_) => {
                self.mutated += 1;
                self.accepted
                    .push(format!("case {case}: {names:?}: {wire:?}"));
            }
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a whole number"))
}

#[test]
fn no_mutated_request_is_accepted() {
    let (cases, seed) = (number("CMS_MUTATIONS", CASES), number("CMS_SEED", SEED));
    let mut tally = Tally::default();
    let mut scene = Scene::new(&mut Dice::of(seed, u64::MAX));
    for case in 0..cases {
        let mut dice = Dice::of(seed, case);
        if case % CASES_PER_SCENE == 0 {
            scene = Scene::new(&mut dice);
        }
        let mut changed = scene.honest[dice.below(6)].0.clone();
        let mut names = Vec::new();
        if dice.below(5) == 0 {
            let (name, astray): (_, Astray) = ASTRAY[dice.below(ASTRAY.len())];
            astray(&mut changed, &mut dice);
            names.push(name);
        } else {
            // Mostly one hand: what two have changed is rarely refused for the second one's sake.
            for _ in 0..[1, 1, 1, 1, 2, 3][dice.below(6)] {
                let (name, hand) = HANDS[dice.below(HANDS.len())];
                hand(&mut changed, &mut dice, &scene.loot);
                names.push(name);
            }
        }
        tally.count(&scene, &changed, &names, case);
    }
    println!("seed {seed}; refused as {:?}", tally.refused);
    println!(
        "{} meant the original, {} spoke for the hand itself",
        tally.unchanged, tally.own
    );
    println!(
        "{} mutated requests, {} accepted",
        tally.mutated,
        tally.accepted.len()
    );
    assert_eq!(tally.accepted.first(), None);
    // A hand whose work is never refused tests nothing. These two make only requests that mean the same.
    let harmless = [
        "headers in another order",
        "headers that nobody should read",
    ];
    let names = HANDS
        .iter()
        .map(|(name, _)| *name)
        .chain(ASTRAY.iter().map(|(name, _)| *name));
    for name in names.filter(|name| cases >= CASES && !harmless.contains(name)) {
        assert!(tally.worked.contains_key(name), "{name:?} changed nothing");
    }
}

/// The count is worth something: a request that was changed and then signed with the agent's key is counted.
#[test]
fn a_forgery_would_be_counted() {
    let scene = Scene::new(&mut Dice::of(SEED, 0));
    let mut forged = scene.honest[0].0.clone();
    forged.path = "/api/v1/telemetry/coverage-verification".to_owned();
    crate::hands::signatures::sign_as_it_stands(&mut forged, AUTHORITY, &key(1));
    let mut tally = Tally::default();
    tally.count(&scene, &forged, &[], 0);
    assert_eq!((tally.mutated, tally.accepted.len()), (1, 1));
    tally.count(&scene, &scene.honest[1].0, &[], 1);
    assert_eq!(
        (tally.mutated, tally.unchanged, tally.accepted.len()),
        (1, 1, 1)
    );
}

/// Dice are dice: the same run twice, and another seed another run.
#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut dice = Dice::of(seed, 7);
        let mut changed = honest(&mut dice, 0, AUTHORITY, 0);
        let loot = Scene::new(&mut dice).loot;
        HANDS
            .iter()
            .for_each(|(_, hand)| hand(&mut changed, &mut dice, &loot));
        changed
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
