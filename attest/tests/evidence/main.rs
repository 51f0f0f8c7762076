//! Evidence bundles: what is whole verifies, and whatever is done to it is seen.

#[cfg(test)]
mod ledger;
#[cfg(test)]
mod rotated;
#[cfg(test)]
mod witnessed;

#[cfg(test)]
mod tests {
    use cms_attest::bundle::{Line, Seal};
    use cms_attest::verify::{Check, Report, Trust, Verdict, verify};
    use proptest::prelude::*;

    use super::ledger::{Ledger, cosigner, quarter};

    /// A ledger of two epochs, with receipts, and leaves before and after the period.
    fn whole() -> Vec<Vec<u8>> {
        let mut ledger = Ledger::new(quarter(1), quarter(5));
        ledger.event("start").submission(0).submission(1).receipt();
        ledger.gap(2).submission(3).receipt().event("stop");
        ledger
            .epoch(2)
            .event("after epoch 1")
            .submission(4)
            .receipt();
        ledger.lines()
    }

    fn report(bundle: &[Vec<u8>]) -> Report {
        verify(&mut bundle.concat().as_slice(), &Trust::default()).unwrap()
    }

    fn first(report: &Report, check: Check) -> (Verdict, String) {
        let mut checks = report.checks.iter();
        let finding = checks.find(|finding| finding.check == check).unwrap();
        (finding.verdict, finding.first.clone().unwrap_or_default())
    }

    fn failed(report: &Report) -> Vec<Check> {
        let checks = report.checks.iter();
        let bad = checks.filter(|finding| finding.verdict != Verdict::Ok);
        bad.map(|finding| finding.check).collect()
    }

    /// Writes the last line anew, as a forger would.
    fn reseal(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut seal = Seal::default();
        let mut resealed: Vec<Vec<u8>> = lines[..lines.len() - 1].to_vec();
        for text in &resealed {
            if let Ok(line) = Line::parse(text.strip_suffix(b"\n").unwrap_or(text)) {
                seal.add(&line, text);
            }
        }
        let end = seal.end();
        resealed.push(seal.line(&Line::End(end)).unwrap());
        resealed
    }

    fn kind(line: &[u8]) -> &str {
        std::str::from_utf8(line)
            .unwrap()
            .split('"')
            .nth(1)
            .unwrap()
    }

    #[test]
    fn a_whole_bundle_holds() {
        let report = report(&whole());
        assert_eq!(report.verdict, Verdict::Ok, "{report}");
        let held = |check| {
            let mut checks = report.checks.iter();
            checks.find(|finding| finding.check == check).unwrap().held
        };
        assert_eq!(held(Check::Leaves), 8);
        assert_eq!((held(Check::Roots), held(Check::Cosignatures)), (3, 3));
        // Submissions 1, 3 and 4 end in the period, and so do the gap and the events.
        assert_eq!((held(Check::Bodies), held(Check::Digests)), (3, 3));
        assert_eq!((held(Check::Agreement), held(Check::Arithmetic)), (3, 3));
        let gap = "leaf 3 of epoch 1: gap of heat-recovery";
        assert!(
            report.remarks.iter().any(|remark| remark.starts_with(gap)),
            "{report}"
        );
        let trusted = Trust {
            cosigner: Some(cosigner(9).published()),
            ..Trust::default()
        };
        let bundle = whole().concat();
        assert_eq!(
            verify(&mut bundle.as_slice(), &trusted).unwrap().verdict,
            Verdict::Ok
        );
    }

    #[test]
    fn another_dashboard_than_the_known_one_is_seen() {
        let trusted = Trust {
            cosigner: Some(cosigner(8).published()),
            ..Trust::default()
        };
        let report = verify(&mut whole().concat().as_slice(), &trusted).unwrap();
        assert_eq!(report.verdict, Verdict::Tampered);
        assert_eq!(first(&report, Check::Cosignatures).0, Verdict::Tampered);
    }

    #[test]
    fn a_changed_body_is_named_by_its_leaf() {
        let mut bundle = whole();
        let at = bundle.iter().position(|line| kind(line) == "body").unwrap();
        let middle = bundle[at].len() / 2;
        bundle[at][middle] = if bundle[at][middle] == b'A' {
            b'B'
        } else {
            b'A'
        };
        let report = report(&bundle);
        let (verdict, said) = first(&report, Check::Digests);
        assert_eq!(
            (verdict, report.verdict),
            (Verdict::Tampered, Verdict::Tampered)
        );
        assert!(said.contains("leaf 2 of epoch 1"), "{said}");
    }

    #[test]
    fn a_body_that_is_not_there_is_incomplete() {
        let mut bundle = whole();
        let at = bundle.iter().position(|line| kind(line) == "body").unwrap();
        bundle.remove(at);
        let plain = report(&bundle);
        assert_eq!(plain.verdict, Verdict::Incomplete);
        assert_eq!(failed(&plain), [Check::End, Check::Bodies]);
        let said = first(&plain, Check::Bodies).1;
        assert!(said.contains("leaf 2 of epoch 1"), "{said}");
        assert_eq!(failed(&report(&reseal(&bundle))), [Check::Bodies]);
    }

    #[test]
    fn leaves_above_the_last_receipt_are_named() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.event("start").submission(0).receipt();
        ledger.submission(1).submission(2);
        let report = report(&ledger.lines());
        assert_eq!(failed(&report), [Check::Receipted]);
        let expected = "leaves of epoch 1 from 2 to 3 are below no receipt".to_owned();
        assert_eq!(
            first(&report, Check::Receipted),
            (Verdict::Incomplete, expected)
        );
    }

    #[test]
    fn without_a_key_of_the_dashboard_nothing_is_receipted() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.without_cosigner().submission(0).receipt();
        let report = report(&ledger.lines());
        assert_eq!(report.verdict, Verdict::Incomplete);
        assert_eq!(failed(&report), [Check::Cosignatures, Check::Receipted]);
    }

    #[test]
    fn a_slot_without_its_leaf_is_listed() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.submission(0).submission(3).receipt();
        let report = report(&ledger.lines());
        assert_eq!(failed(&report), [Check::Slots]);
        let said = first(&report, Check::Slots).1;
        assert_eq!(
            said,
            format!(
                "heat-recovery has no leaf between {} and {}",
                quarter(1),
                quarter(3)
            )
        );
    }

    #[test]
    fn clocks_are_followed() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger
            .event("start")
            .submission(0)
            .step(-3)
            .event("stepped")
            .receipt();
        let stepped = report(&ledger.lines());
        assert_eq!(stepped.verdict, Verdict::Ok, "{stepped}");
        let steps = |remark: &String| remark.contains("the wall clock stepped by 3s ago");
        assert!(stepped.remarks.iter().any(steps), "{stepped}");
        ledger.boottime_back().event("later").receipt();
        let back = report(&ledger.lines());
        assert_eq!(failed(&back), [Check::Clock]);
        assert!(
            first(&back, Check::Clock)
                .1
                .starts_with("leaf 3 of epoch 1"),
            "{back}"
        );
    }

    #[test]
    fn figures_that_cannot_be_true_are_named_though_they_were_signed() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.submission(0).impossible(1).receipt();
        let report = report(&ledger.lines());
        assert_eq!(failed(&report), [Check::Arithmetic]);
        assert_eq!(report.verdict, Verdict::Tampered);
        let said = first(&report, Check::Arithmetic).1;
        assert!(
            said.starts_with("leaf 1 of epoch 1: summary.total"),
            "{said}"
        );
    }

    #[test]
    fn a_body_that_speaks_for_another_leaf_is_named() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.submission(0).numbered(1, 7).receipt();
        let report = report(&ledger.lines());
        assert_eq!(failed(&report), [Check::Agreement]);
        let said = first(&report, Check::Agreement).1;
        assert_eq!(
            said,
            "the body of leaf 1 of epoch 1 has another index (sequence)"
        );
    }

    #[test]
    fn a_report_shows_no_control_characters_and_no_long_texts() {
        let mut ledger = Ledger::new(quarter(0), quarter(9));
        ledger.submission(0).drawing(1).receipt();
        let report = report(&ledger.lines());
        assert_eq!(failed(&report), [Check::Agreement]);
        let said = first(&report, Check::Agreement).1;
        assert!(said.contains("[2Jxxx"), "{said}");
        assert!(!said.contains('\u{1b}') && said.len() < 1_000, "{said}");
    }

    #[test]
    fn lines_dropped_doubled_or_moved_are_seen() {
        let bundle = whole();
        for at in 0..bundle.len() {
            let mut dropped = bundle.clone();
            let line = dropped.remove(at);
            assert_ne!(report(&dropped).verdict, Verdict::Ok, "without line {at}");
            let mut doubled = bundle.clone();
            doubled.insert(at, line.clone());
            assert_ne!(report(&doubled).verdict, Verdict::Ok, "line {at} twice");
            assert_ne!(
                report(&reseal(&doubled)).verdict,
                Verdict::Ok,
                "line {at} twice, sealed"
            );
            // A receipt may be left out where a later one covers as much, and so may what follows the last.
            let spare =
                kind(&line) == "receipt" || bundle[at + 1..].iter().all(|l| kind(l) != "receipt");
            let spare = spare || line.windows(4).any(|word| word == b"stop");
            if !spare && kind(&line) != "end" {
                assert_ne!(
                    report(&reseal(&dropped)).verdict,
                    Verdict::Ok,
                    "without line {at}, sealed"
                );
            }
            for to in 0..bundle.len() {
                let mut moved = bundle.clone();
                moved.swap(at, to);
                let right = moved == bundle;
                assert_eq!(
                    report(&moved).verdict == Verdict::Ok,
                    right,
                    "{at} and {to}"
                );
                if !right && kind(moved.last().unwrap()) == "end" {
                    assert_ne!(
                        report(&reseal(&moved)).verdict,
                        Verdict::Ok,
                        "{at} and {to}, sealed"
                    );
                }
            }
        }
    }

    #[test]
    fn a_file_that_ends_early_is_never_whole() {
        let bundle = whole().concat();
        for length in (0..bundle.len()).step_by(3) {
            let report = verify(&mut &bundle[..length], &Trust::default()).unwrap();
            assert_ne!(report.verdict, Verdict::Ok, "{length} bytes");
        }
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let mut bundle = whole();
        bundle[2] = vec![b' '; cms_attest::bundle::LINE_BYTES_MAX + 2];
        let report = report(&bundle);
        assert!(
            first(&report, Check::Lines)
                .1
                .contains("longer than any line"),
            "{report}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_changed_byte_is_never_ok(at: prop::sample::Index, mask in 1_u8..=255) {
            let mut bundle = whole().concat();
            let at = at.index(bundle.len());
            bundle[at] ^= mask;
            let report = verify(&mut bundle.as_slice(), &Trust::default()).unwrap();
            prop_assert_ne!(report.verdict, Verdict::Ok);
        }

        #[test]
        fn nor_when_the_forger_seals_the_file_again(
            line: prop::sample::Index,
            at: prop::sample::Index,
            mask in 1_u8..=255,
        ) {
            let mut bundle = whole();
            // The header asks the question, and nothing here is signed with the request key.
            let line = 2 + line.index(bundle.len() - 3);
            let at = at.index(bundle[line].len());
            // The last leaf is above the last receipt of its epoch; nobody has signed it yet.
            prop_assume!(!bundle[line].windows(4).any(|word| word == b"stop"));
            bundle[line][at] ^= mask;
            prop_assert_ne!(report(&reseal(&bundle)).verdict, Verdict::Ok);
        }

        #[test]
        fn any_bytes_lead_to_a_report(bytes: Vec<u8>, line: prop::sample::Index) {
            let report_of = |bytes: &[u8]| verify(&mut &*bytes, &Trust::default()).unwrap();
            prop_assert_ne!(report_of(&bytes).verdict, Verdict::Ok);
            let mut bundle = whole();
            let line = line.index(bundle.len());
            bundle.insert(line, bytes);
            let whole = bundle[line].is_empty();
            prop_assert_eq!(report(&bundle).verdict == Verdict::Ok, whole);
        }
    }
}
