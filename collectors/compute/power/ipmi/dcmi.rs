//! DCMI "Get Power Reading" (DCMI 1.5, section 6.6.1): the question as bytes, and what its answer means.
//! Pure.
//!
//! Promises: only an active measurement above zero is a power; every completion code is told in words.

use cms_spec::units::Milliwatts;
use jiff::Timestamp;

/// The group extension of the data centre.
pub(super) const NETFN: u8 = 0x2c;

/// Get Power Reading.
pub(super) const COMMAND: u8 = 0x02;

/// DCMI's number in the group extension.
const GROUP: u8 = 0xdc;

/// DCMI, system power statistics, no attributes.
pub(super) const REQUEST: [u8; 4] = [GROUP, 0x01, 0x00, 0x00];

/// Bit of the state: the measurement is active.
const ACTIVE: u8 = 0x40;

/// Times below are counted from the controller's start, because its clock was never set.
const CLOCK_WAS_SET: u32 = 0x2000_0000;

/// "No time".
const UNSPECIFIED_TIME: u32 = 0xffff_ffff;

/// What the controller measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) power: Milliwatts,
    /// When, by the controller's clock.
    pub(super) measured_at: Option<Timestamp>,
}

/// Reads an answer: its completion code and what comes after it.
pub(super) fn read(completion: u8, data: &[u8]) -> Result<Reading, String> {
    if completion != 0 {
        return Err(refusal(completion));
    }
    let [
        GROUP,
        c0,
        c1,
        _,
        _,
        _,
        _,
        _,
        _,
        t0,
        t1,
        t2,
        t3,
        _,
        _,
        _,
        _,
        state,
        ..,
    ] = *data
    else {
        return Err(format!(
            "its answer is no power reading: {} bytes that begin with {:02x?}",
            data.len(),
            data.get(..data.len().min(4)).unwrap_or_default()
        ));
    };
    if state & ACTIVE == 0 {
        return Err("its power measurement is switched off".to_owned());
    }
    let watts = u16::from_le_bytes([c0, c1]);
    if watts == 0 {
        return Err("it says 0 W, which a running machine never draws".to_owned());
    }
    let seconds = u32::from_le_bytes([t0, t1, t2, t3]);
    let is_time = seconds > CLOCK_WAS_SET && seconds != UNSPECIFIED_TIME;
    Ok(Reading {
        power: Milliwatts(u64::from(watts) * 1000),
        measured_at: is_time
            .then(|| Timestamp::from_second(i64::from(seconds)).ok())
            .flatten(),
    })
}

/// A completion code in words.
fn refusal(completion: u8) -> String {
    let meaning = match completion {
        0xc0 => "it is busy",
        0xc1 | 0xc2 => {
            "it knows no DCMI power readings; where it has Redfish, compute.power.redfish may know the power"
        }
        0xc3 => "it ran out of time",
        0xc9 | 0xcc => "it does not take the question, so that it has DCMI in part only",
        0xcb => "it has no such measurement",
        0xce => "it cannot answer now",
        0xd1 => "its firmware is being updated",
        0xd2 => "it is still starting",
        0xd4 => {
            "the host has not the privilege: allow its system interface (KCS) in the controller's settings"
        }
        0xd5 => "it does not measure in the state that it is in",
        0xd6 => "the command is switched off in its settings",
        0xff => "it gives no reason",
        _ => "its maker knows what that means",
    };
    format!("the controller answers with code {completion:02x}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 472 W now, 412 to 562 W, 470 W on average, over a second.
    const ANSWER: [u8; 18] = [
        0xdc, 0xd8, 0x01, 0x9c, 0x01, 0x32, 0x02, 0xd6, 0x01, 0x11, 0x22, 0x21, 0x6a, 0xe8, 0x03,
        0x00, 0x00, 0x40,
    ];

    fn with(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut answer = ANSWER.to_vec();
        for (at, byte) in changes {
            answer[*at] = *byte;
        }
        answer
    }

    #[test]
    fn an_active_reading_is_a_power_with_its_time() {
        let reading = read(0, &ANSWER).unwrap();
        assert_eq!(reading.power, Milliwatts(472_000));
        assert_eq!(
            reading.measured_at.unwrap().to_string(),
            "2026-06-04T06:58:25Z"
        );
        let largest = with(&[(1, 0xff), (2, 0xff)]);
        assert_eq!(read(0, &largest).unwrap().power, Milliwatts(65_535_000));
        // More than was asked for does no harm.
        let longer = [&ANSWER[..], &[0; 8]].concat();
        assert_eq!(read(0, &longer), Ok(reading));
    }

    #[test]
    fn a_time_that_is_none_is_none() {
        for time in [[0; 4], [0xff; 4], [0x00, 0x10, 0x00, 0x00]] {
            let changes: Vec<(usize, u8)> = (9..).zip(time).collect();
            assert_eq!(read(0, &with(&changes)).unwrap().measured_at, None);
        }
    }

    #[test]
    fn what_is_no_power_is_told() {
        for (answer, words) in [
            (with(&[(17, 0x00)]), "switched off"),
            (with(&[(17, 0xbf)]), "switched off"),
            (with(&[(1, 0), (2, 0)]), "0 W"),
            (with(&[(0, 0xdd)]), "begin with [dd, d8, 01, 9c]"),
            (ANSWER[..17].to_vec(), "17 bytes"),
            (Vec::new(), "0 bytes"),
        ] {
            let found = read(0, &answer).unwrap_err();
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn codes_have_words() {
        for (code, words) in [
            (0xc1, "knows no DCMI"),
            (0xd4, "system interface (KCS)"),
            (0xd2, "starting"),
            (0x80, "its maker"),
        ] {
            let found = read(code, &[]).unwrap_err();
            assert!(
                found.contains(words) && found.contains(&format!("{code:02x}")),
                "{found}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(code in any::<u8>(), answer in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(reading) = read(code, &answer) {
                prop_assert!(reading.power > Milliwatts::ZERO && code == 0);
            }
        }
    }
}
