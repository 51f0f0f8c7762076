//! Witnesses in a bundle: whose signatures count, and what they cover.

use cms_attest::verify::{Check, Report, Trust, Verdict, verify};

use super::ledger::{Ledger, cosigner, quarter, witness};

/// The dashboard has signed all of it, one witness as well, and another one half.
fn bundle() -> Vec<u8> {
    let mut ledger = Ledger::new(quarter(0), quarter(9));
    ledger.event("start").submission(0).submission(1);
    ledger.receipt().witnessed(11).witnessed(12);
    ledger.gap(2).submission(3).receipt().witnessed(11);
    ledger.lines().concat()
}

fn policy(rules: &str) -> Trust {
    let keys = [cosigner(9), witness(11), witness(12), witness(13)];
    let names = ["dash", "a", "b", "stranger"].into_iter().zip(keys);
    let witnesses: String = names
        .map(|(name, key)| format!("witness {name} {}\n", key.published()))
        .collect();
    Trust {
        policy: Some(format!("{witnesses}{rules}").parse().unwrap()),
        ..Trust::default()
    }
}

fn report(bundle: &[u8], trust: &Trust) -> Report {
    verify(&mut &*bundle, trust).unwrap()
}

fn receipted(report: &Report) -> (Verdict, u64, u64) {
    let mut checks = report.checks.iter();
    let found = checks.find(|finding| finding.check == Check::Receipted);
    found
        .map(|found| (found.verdict, found.held, found.failed))
        .unwrap()
}

#[test]
fn the_policy_says_who_is_enough() {
    let bundle = bundle();
    for (rules, expected) in [
        ("quorum none", (Verdict::Ok, 5, 0)),
        ("quorum dash", (Verdict::Ok, 5, 0)),
        ("quorum a", (Verdict::Ok, 5, 0)),
        ("quorum b", (Verdict::Incomplete, 3, 2)),
        ("quorum stranger", (Verdict::Incomplete, 0, 5)),
        ("group g all dash a\nquorum g", (Verdict::Ok, 5, 0)),
        (
            "group g all dash a b\nquorum g",
            (Verdict::Incomplete, 3, 2),
        ),
        (
            "group g 2 dash b stranger\nquorum g",
            (Verdict::Incomplete, 3, 2),
        ),
    ] {
        let report = report(&bundle, &policy(rules));
        assert_eq!(receipted(&report), expected, "{rules}\n{report}");
        let others = report
            .checks
            .iter()
            .filter(|finding| finding.check != Check::Receipted);
        assert!(
            others.clone().all(|finding| finding.verdict == Verdict::Ok),
            "{report}"
        );
    }
}

#[test]
fn without_a_policy_only_the_dashboard_counts() {
    let report = report(&bundle(), &Trust::default());
    assert_eq!(report.verdict, Verdict::Ok, "{report}");
    assert!(
        report.to_string().contains("it counts with --policy only"),
        "{report}"
    );
    let mut alone = Ledger::new(quarter(0), quarter(9));
    alone.event("start").submission(0).witnessed(11);
    let report = verify(&mut alone.lines().concat().as_slice(), &Trust::default()).unwrap();
    assert_eq!(receipted(&report), (Verdict::Incomplete, 0, 2), "{report}");
}

#[test]
fn a_key_under_a_name_of_the_policy_is_not_the_policys() {
    // The dashboard of the bundle goes by the name in the policy, and has another key.
    let keys = format!("witness dash {}\nquorum dash", cosigner(8).published());
    let trust = Trust {
        policy: Some(keys.parse().unwrap()),
        ..Trust::default()
    };
    assert_eq!(report(&bundle(), &trust).verdict, Verdict::Tampered);
}

#[test]
fn each_line_has_one_place() {
    let whole = bundle();
    let text = std::str::from_utf8(&whole).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines
        .iter()
        .position(|line| line.contains("w11.example"))
        .unwrap();
    for change in 0..3 {
        let mut lines = lines.clone();
        match change {
            0 => lines.swap(at, at + 1),
            1 => lines.insert(at, lines[at]),
            _ => lines.swap(at - 1, at),
        }
        let report = report(lines.concat().as_bytes(), &Trust::default());
        assert_eq!(report.verdict, Verdict::Tampered, "{change}: {report}");
    }
    let forged = lines[at].replacen("w11.example+", "w12.example+", 1);
    lines[at] = &forged;
    let report = report(lines.concat().as_bytes(), &Trust::default());
    assert_eq!(report.verdict, Verdict::Tampered, "{report}");
}
