//! Bundles over a rotation: the keys follow on each other, or it is seen.

use cms_attest::verify::{Check, Report, Trust, Verdict, verify};

use crate::ledger::{Ledger, cosigner, quarter};

fn ledger() -> Ledger {
    Ledger::new(quarter(1), quarter(5))
}

/// The keys of the ledger change from 2 to 3, those of the dashboard from 9 to 10.
fn rotated(ledger: &mut Ledger) -> &mut Ledger {
    ledger
        .named(3, 10)
        .log_follows(2, 3)
        .dashboard_follows(9, 10);
    ledger.event("start").submission(1).receipt();
    ledger.announce(3).submission(2).receipt_by(&[2, 3], 9);
    ledger.submission(3).receipt_by(&[3], 10)
}

fn report(ledger: &Ledger, trusted: Option<u8>) -> Report {
    let trust = Trust {
        cosigner: trusted.map(|byte| cosigner(byte).published()),
        ..Trust::default()
    };
    verify(&mut ledger.lines().concat().as_slice(), &trust).unwrap()
}

fn found(report: &Report, check: Check) -> (Verdict, String) {
    let mut checks = report.checks.iter();
    let finding = checks.find(|finding| finding.check == check).unwrap();
    (finding.verdict, finding.first.clone().unwrap_or_default())
}

#[test]
fn a_rotation_is_no_break() {
    let mut ledger = ledger();
    rotated(&mut ledger).submission(4).receipt_by(&[3], 10);
    ledger.epoch(2).event("after epoch 1").receipt_by(&[3], 10);
    for trusted in [None, Some(9), Some(10)] {
        let report = report(&ledger, trusted);
        assert_eq!(report.verdict, Verdict::Ok, "{report}");
        assert_eq!(report.keys.len(), 5, "{report}");
        let told = "key-rotate";
        assert!(report.remarks.iter().any(|remark| remark.contains(told)));
    }
    assert_eq!(report(&ledger, Some(8)).verdict, Verdict::Tampered);
}

#[test]
fn heads_before_the_new_key_is_in_use_are_the_old_ones() {
    let mut ledger = ledger();
    ledger.named(3, 9).log_follows(2, 3);
    ledger.event("start").submission(1).announce(3).receipt();
    ledger
        .submission(2)
        .receipt_by(&[2, 3], 9)
        .submission(3)
        .receipt_by(&[3], 9);
    ledger.submission(4).receipt_by(&[3], 9);
    assert_eq!(report(&ledger, None).verdict, Verdict::Ok);
}

#[test]
fn a_new_epoch_may_begin_with_the_new_key() {
    let mut ledger = ledger();
    ledger.named(3, 9).log_follows(2, 3);
    ledger.event("start").submission(1).submission(2).receipt();
    ledger
        .epoch(2)
        .event("after epoch 1")
        .submission(3)
        .submission(4)
        .receipt_by(&[3], 9);
    assert_eq!(report(&ledger, None).verdict, Verdict::Ok);
}

#[test]
fn a_key_that_no_leaf_announces_is_seen() {
    let mut ledger = ledger();
    ledger.named(3, 9).log_follows(2, 3);
    ledger
        .event("start")
        .submission(1)
        .receipt()
        .submission(2)
        .receipt_by(&[2, 3], 9);
    let report = report(&ledger, None);
    let (verdict, said) = found(&report, Check::Keys);
    assert_eq!(verdict, Verdict::Tampered, "{report}");
    assert!(
        said.contains("over 3 leaves of epoch 1: no leaf announces"),
        "{said}"
    );
}

#[test]
fn a_first_head_without_the_old_key_is_seen() {
    let mut ledger = ledger();
    ledger.named(3, 9).log_follows(2, 3);
    ledger.event("start").submission(1).receipt().announce(3);
    ledger.submission(2).receipt_by(&[3], 9);
    let report = report(&ledger, None);
    assert_eq!(
        found(&report, Check::Keys).0,
        Verdict::Incomplete,
        "{report}"
    );
}

#[test]
fn a_replaced_key_signs_nothing_any_more() {
    for epoch in [1, 2] {
        let mut ledger = ledger();
        rotated(&mut ledger);
        if epoch == 2 {
            ledger.epoch(2).event("after epoch 1");
        }
        ledger.submission(4).receipt_by(&[2], 10);
        let report = report(&ledger, None);
        let (verdict, said) = found(&report, Check::Keys);
        assert_eq!(verdict, Verdict::Tampered, "{report}");
        assert!(said.contains("had been replaced"), "{said}");
    }
    let mut ledger = ledger();
    rotated(&mut ledger).named(2, 10);
    assert_eq!(
        found(&report(&ledger, None), Check::Keys).0,
        Verdict::Tampered
    );
}

#[test]
fn without_the_succession_a_key_is_a_strangers() {
    let mut ledger = ledger();
    ledger
        .named(3, 9)
        .event("start")
        .submission(1)
        .receipt()
        .announce(3);
    ledger.submission(2).receipt_by(&[2, 3], 9);
    let report = report(&ledger, None);
    assert_eq!(found(&report, Check::LogSignatures).0, Verdict::Incomplete);
    let mut ledger = self::ledger();
    rotated(&mut ledger).log_follows(2, 7);
    let fork = self::report(&ledger, None);
    assert_eq!(
        fork.verdict,
        Verdict::Ok,
        "a stolen old key has no say: {fork}"
    );
    ledger.named(2, 10);
    assert_eq!(
        found(&self::report(&ledger, None), Check::Keys).0,
        Verdict::Tampered
    );
}

#[test]
fn who_stole_an_old_key_of_the_dashboard_is_not_its_heir() {
    let mut ledger = ledger();
    ledger
        .named(2, 10)
        .dashboard_follows(9, 10)
        .dashboard_follows(9, 11);
    ledger
        .event("start")
        .submission(1)
        .submission(2)
        .receipt_by(&[2], 9);
    ledger.submission(3).submission(4).receipt_by(&[2], 11);
    let report = report(&ledger, Some(10));
    assert_eq!(
        found(&report, Check::Cosignatures).0,
        Verdict::Incomplete,
        "{report}"
    );
    let forked = self::report(&ledger, Some(9));
    assert_eq!(found(&forked, Check::Keys).0, Verdict::Tampered);
}

#[test]
fn successions_of_another_agent_are_seen() {
    let mut ledger = ledger();
    rotated(&mut ledger);
    let text = String::from_utf8(ledger.lines().concat()).unwrap();
    let ours = "018f4d2a-7b1c-7def-8123-456789abcdef";
    let agent = "018f4d2a-7b1c-7def-8123-000000000001".parse().unwrap();
    let [from, to] = [2, 3].map(|byte| cms_attest::SigningKey::from_seed(&[byte; 32]).unwrap());
    let foreign = cms_attest::Succession::of_logs(&agent, &from, &to).unwrap();
    let own = cms_attest::Succession::of_logs(&ours.parse().unwrap(), &from, &to).unwrap();
    let [foreign, own] = [foreign, own].map(|s| serde_json::to_string(&s.to_string()).unwrap());
    let text = text.replace(&own, &foreign);
    let report = verify(&mut text.as_bytes(), &Trust::default()).unwrap();
    let (verdict, said) = found(&report, Check::Keys);
    assert_eq!(verdict, Verdict::Tampered, "{report}");
    assert!(said.contains("do not name"), "{said}");
}
