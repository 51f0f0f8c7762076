//! Idle and full power of whole servers by processor, as their makers measured and published them.
//!
//! Each row is one SPECpower_ssj2008 result, named in its comment with system and month: the
//! average power at active idle and at 100 % of the target load, at the plug. Tested machines are
//! tuned and lightly equipped, so that a real one usually draws more. A row is not a mean over
//! results; where there were several for the same processor and number of packages, a recent one of
//! a single-node system was taken. A changed row is a new [`VERSION`].

/// Names this edition of the table in the method of every figure that comes from it.
pub(super) const VERSION: &str = "specpower-2026-03";

/// One measured server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The processor's plain name.
    pub(super) processor: &'static str,
    /// Processor packages.
    pub(super) chips: u64,
    /// Hardware threads of the whole server.
    pub(super) threads: u64,
    /// Power at active idle.
    pub(super) idle_mw: u64,
    /// Power at full load.
    pub(super) max_mw: u64,
}

const fn row(processor: &'static str, chips: u64, threads: u64, idle_mw: u64, max_mw: u64) -> Row {
    Row {
        processor,
        chips,
        threads,
        idle_mw,
        max_mw,
    }
}

/// The rows, by processor and number of packages.
#[rustfmt::skip] // One row, one line, with its source beside it.
pub(super) const ROWS: &[Row] = &[
    row("AMD EPYC 7601", 2, 128, 95_500, 296_000), // GIGABYTE R181-Z90, Oct-2018
    row("AMD EPYC 7702", 2, 256, 72_300, 393_000), // Dell PowerEdge R7525, Apr-2020
    row("AMD EPYC 7702P", 1, 128, 54_500, 231_000), // Dell PowerEdge R6515, Aug-2020
    row("AMD EPYC 7713", 2, 256, 109_000, 468_000), // HPE ProLiant DL365 Gen10 Plus, Mar-2021
    row("AMD EPYC 7742", 1, 128, 63_800, 224_000), // Lenovo Think System SR655, Aug-2020
    row("AMD EPYC 7742", 2, 256, 94_000, 398_000), // Lenovo Think System SR645, Jun-2020
    row("AMD EPYC 7763", 1, 128, 54_000, 240_000), // Lenovo ThinkSystem SR635, Jun-2021
    row("AMD EPYC 7763", 2, 256, 94_600, 408_000), // ASUS RS700A-E11-RS4U, Jul-2022
    row("AMD EPYC 7773X", 1, 128, 89_800, 261_000), // GIGABYTE R272-Z30, Mar-2022
    row("AMD EPYC 7773X", 2, 256, 112_000, 515_000), // GIGABYTE R282-Z90, Aug-2022
    row("AMD EPYC 9654", 1, 192, 73_200, 360_000), // Quanta QuantaGrid S44NL-1U, Sep-2023
    row("AMD EPYC 9654", 2, 384, 129_000, 692_000), // Quanta QuantaGrid D44N-1U, Jan-2024
    row("AMD EPYC 9654P", 1, 192, 77_400, 347_000), // Dell PowerEdge R7615, Sep-2023
    row("AMD EPYC 9655", 1, 192, 73_400, 381_000), // Lenovo Think System SR635 V3, Oct-2024
    row("AMD EPYC 9655", 2, 384, 126_000, 751_000), // Lenovo Think System SR645 V3, Oct-2024
    row("AMD EPYC 9754", 1, 256, 67_100, 391_000), // Fujitsu PRIMERGY RX1440 M2, Mar-2024
    row("AMD EPYC 9754", 2, 512, 138_000, 689_000), // Lenovo Think System SR675 V3, May-2024
    row("AMD EPYC 9755", 1, 256, 76_300, 449_000), // Quanta S44NL-1U, Oct-2024
    row("AMD EPYC 9755", 2, 512, 130_000, 931_000), // Quanta D44N-1U, Oct-2024
    row("AMD EPYC 9965", 2, 768, 128_000, 834_000), // Quanta D44N-1U, Jul-2025
    row("Intel Xeon E-2388G", 1, 16, 21_200, 84_100), // Dell PowerEdge T150, Apr-2024
    row("Intel Xeon E-2488", 1, 16, 17_800, 89_400), // Fujitsu PRIMERGY RX1330 M6, Apr-2024
    row("Intel Xeon E5-2699 v3", 2, 72, 45_000, 276_000), // HPE ProLiant DL360 Gen9, Jan-2016
    row("Intel Xeon E5-2699 v4", 2, 88, 45_700, 245_000), // Inspur NF5280 M4, Aug-2017
    row("Intel Xeon Gold 5218", 2, 64, 114_000, 367_000), // Inspur NF5280M5, Aug-2021
    row("Intel Xeon Gold 5220", 2, 72, 61_500, 318_000), // Fujitsu PRIMERGY RX2520 M5, Sep-2019
    row("Intel Xeon Gold 6140", 2, 72, 52_400, 343_000), // Sugon I620-G30, Aug-2018
    row("Intel Xeon Gold 6252", 1, 48, 93_600, 262_000), // Inspur NF5280M5, Aug-2021
    row("Intel Xeon Gold 6338N", 1, 64, 114_000, 274_000), // Dell PowerEdge XR11, May-2023
    row("Intel Xeon Gold 6448Y", 2, 128, 122_000, 602_000), // Dell PowerEdge HS5610, Mar-2024
    row("Intel Xeon Gold 6548Y", 2, 128, 125_000, 602_000), // Dell PowerEdge HS5620, Apr-2024
    row("Intel Xeon Platinum 8160", 2, 96, 53_400, 387_000), // Sugon I620-G30, Aug-2018
    row("Intel Xeon Platinum 8176", 2, 112, 72_300, 355_000), // Lenovo ThinkSystem SR630, Apr-2019
    row("Intel Xeon Platinum 8180", 1, 56, 38_900, 237_000), // HPE ProLiant DL360 Gen10, Sep-2018
    row("Intel Xeon Platinum 8180", 2, 112, 49_500, 432_000), // Inspur NF5280M5, Aug-2019
    row("Intel Xeon Platinum 8280", 1, 56, 37_300, 235_000), // HPE ProLiant DL360 Gen10, Apr-2019
    row("Intel Xeon Platinum 8280", 2, 112, 48_200, 414_000), // Inspur NF5180M5, Jul-2020
    row("Intel Xeon Platinum 8352Y", 2, 128, 137_000, 491_000), // Nettrix R620 G40, Jul-2022
    row("Intel Xeon Platinum 8360Y", 2, 144, 133_000, 653_000), // H3C UniServer R4700 G5, May-2023
    row("Intel Xeon Platinum 8380", 2, 160, 110_000, 623_000), // ASUS RS720-E10-R12, Jan-2022
    row("Intel Xeon Platinum 8480+", 1, 112, 116_000, 518_000), // Supermicro SuperServer SYS-521C-NR, Oct-2023
    row("Intel Xeon Platinum 8480+", 2, 224, 156_000, 823_000), // Lenovo Wentian WR5220 G3, Feb-2024
    row("Intel Xeon Platinum 8490H", 1, 120, 93_900, 482_000), // Supermicro SuperServer SYS-521E-WR, Jan-2023
    row("Intel Xeon Platinum 8490H", 2, 240, 157_000, 831_000), // Lenovo Wentian WR5220 G3, Feb-2024
    row("Intel Xeon Platinum 8592+", 2, 256, 160_000, 827_000), // xFusion FusionServer 2288H V7, Mar-2025
    row("Intel Xeon Silver 4214", 2, 48, 112_000, 289_000), // Inspur NF5280M5, Aug-2021
    row("Intel Xeon Silver 4510", 2, 48, 93_500, 391_000), // Nettrix R620 G50, Sep-2024
    row("Intel Xeon 6780E", 1, 144, 79_400, 392_000), // Dell PowerEdge R470, Mar-2025
    row("Intel Xeon 6787P", 1, 172, 90_000, 520_000), // Dell PowerEdge R570, Mar-2025
    row("Intel Xeon 6980P", 1, 256, 132_000, 587_000), // Supermicro SuperServer SYS-212HA-TN, Jan-2025
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_are_unique_and_plausible() {
        let mut seen = BTreeSet::new();
        for row in ROWS {
            assert!(seen.insert((row.processor, row.chips)), "{row:?}");
            assert!(0 < row.idle_mw && row.idle_mw < row.max_mw, "{row:?}");
            assert!(row.chips > 0 && row.threads >= row.chips, "{row:?}");
            let per_chip_mw = row.max_mw / row.chips;
            assert!((50_000..800_000).contains(&per_chip_mw), "{row:?}");
        }
    }
}
