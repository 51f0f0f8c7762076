//! Tables of power strips that are known from their makers' definitions.

use std::fmt;

use async_snmp::Oid;
use cms_spec::decimal::Decimal;

use super::meter::{Objects, Scaled, WATT, WATT_HOUR};

/// A table of power strips that we know.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its name in the configuration.
    pub(crate) model: &'static str,
    /// For a person.
    pub(crate) what: &'static str,
    index: &'static [Part],
    power: Column,
    energy: Option<Column>,
    /// Where an outlet's own name is.
    name: Option<&'static [u32]>,
    /// A column that must say this for the value to count, after the same index and tail.
    available: Option<(&'static [u32], i64)>,
    /// Columns of RFC 7460: accuracy and caliber.
    caliber: Option<[&'static [u32]; 2]>,
}

/// A part of a row's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Which strip of a chain; the first one unless it is said.
    Unit { first: u32 },
    /// Which cord of a strip.
    Cord,
    /// Which outlet.
    Outlet,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    root: &'static [u32],
    /// What comes after the index.
    tail: &'static [u32],
    scale: ColumnScale,
}

#[derive(Clone, Copy, Debug)]
enum ColumnScale {
    Fixed(Decimal),
    /// Another column says how many digits are behind the point.
    Digits(&'static [u32], Decimal),
    /// Another column says the power of ten.
    Exponent(&'static [u32]),
}

/// Tables that are known from their makers' definitions. A table without an energy counter is
/// integrated from its power.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        model: "apc-outlet",
        what: "an outlet of an APC rPDU2 that meters by outlet",
        index: &[Part::Outlet],
        power: fixed(&[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 9, 4, 3, 1, 7], WATT),
        energy: Some(fixed(
            &[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 9, 4, 3, 1, 11],
            Decimal::whole(360_000),
        )),
        name: Some(&[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 9, 4, 3, 1, 3]),
        available: None,
        caliber: None,
    },
    Known {
        model: "apc-unit",
        what: "a whole APC rPDU2 that feeds this machine alone",
        index: &[Part::Unit { first: 1 }],
        power: fixed(
            &[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 4, 3, 1, 5],
            Decimal::whole(10),
        ),
        energy: Some(fixed(
            &[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 4, 3, 1, 9],
            Decimal::whole(360_000),
        )),
        name: Some(&[1, 3, 6, 1, 4, 1, 318, 1, 1, 26, 4, 3, 1, 3]),
        available: None,
        caliber: None,
    },
    Known {
        model: "raritan-outlet",
        what: "an outlet of a Raritan PX that meters by outlet",
        index: &[Part::Unit { first: 1 }, Part::Outlet],
        power: Column {
            root: &[1, 3, 6, 1, 4, 1, 13742, 6, 5, 4, 3, 1, 4],
            tail: &[5],
            scale: ColumnScale::Digits(&[1, 3, 6, 1, 4, 1, 13742, 6, 3, 5, 4, 1, 7], WATT),
        },
        energy: Some(Column {
            root: &[1, 3, 6, 1, 4, 1, 13742, 6, 5, 4, 3, 1, 4],
            tail: &[8],
            scale: ColumnScale::Digits(&[1, 3, 6, 1, 4, 1, 13742, 6, 3, 5, 4, 1, 7], WATT_HOUR),
        }),
        name: Some(&[1, 3, 6, 1, 4, 1, 13742, 6, 3, 5, 3, 1, 3]),
        available: Some((&[1, 3, 6, 1, 4, 1, 13742, 6, 5, 4, 3, 1, 2], 1)),
        caliber: None,
    },
    Known {
        model: "servertech-outlet",
        what: "an outlet of a Server Technology Sentry4 that meters by outlet",
        index: &[Part::Unit { first: 1 }, Part::Cord, Part::Outlet],
        power: fixed(&[1, 3, 6, 1, 4, 1, 1718, 4, 1, 8, 3, 1, 7], WATT),
        energy: Some(fixed(
            &[1, 3, 6, 1, 4, 1, 1718, 4, 1, 8, 3, 1, 14],
            WATT_HOUR,
        )),
        name: Some(&[1, 3, 6, 1, 4, 1, 1718, 4, 1, 8, 2, 1, 3]),
        available: None,
        caliber: None,
    },
    Known {
        model: "eaton-outlet",
        what: "an outlet of an Eaton ePDU that meters by outlet",
        index: &[Part::Unit { first: 0 }, Part::Outlet],
        power: fixed(&[1, 3, 6, 1, 4, 1, 534, 6, 6, 7, 6, 5, 1, 3], WATT),
        energy: Some(fixed(
            &[1, 3, 6, 1, 4, 1, 534, 6, 6, 7, 6, 5, 1, 4],
            WATT_HOUR,
        )),
        name: Some(&[1, 3, 6, 1, 4, 1, 534, 6, 6, 7, 6, 1, 1, 3]),
        available: None,
        caliber: None,
    },
    Known {
        model: "energy-object",
        what: "an energy object of RFC 7460; `outlet` is its entPhysicalIndex",
        index: &[Part::Outlet],
        power: Column {
            root: &[1, 3, 6, 1, 2, 1, 229, 1, 2, 1, 1],
            tail: &[],
            scale: ColumnScale::Exponent(&[1, 3, 6, 1, 2, 1, 229, 1, 2, 1, 3]),
        },
        energy: None,
        name: Some(&[1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 7]),
        available: None,
        caliber: Some([
            &[1, 3, 6, 1, 2, 1, 229, 1, 2, 1, 4],
            &[1, 3, 6, 1, 2, 1, 229, 1, 2, 1, 5],
        ]),
    },
];

const fn fixed(root: &'static [u32], unit: Decimal) -> Column {
    Column {
        root,
        tail: &[],
        scale: ColumnScale::Fixed(unit),
    }
}

/// Which row of a known table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) unit: Option<u32>,
    pub(crate) cord: Option<u32>,
    pub(crate) outlet: Option<u32>,
}

impl Known {
    /// The table of this name.
    pub(crate) fn of(model: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.model == model)
    }

    /// The names of all tables.
    pub(crate) fn models() -> String {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.model).collect();
        names.join(", ")
    }

    /// The objects of a row.
    ///
    /// # Errors
    /// When the row is not said, or said with parts that the table does not have.
    pub(crate) fn row(&self, row: Row) -> Result<Objects, String> {
        let index = self.index(row)?;
        let scaled = |column: &Column| {
            let at = |root: &'static [u32]| cell(root, &index, column.tail);
            let (unit, moved_by) = match column.scale {
                ColumnScale::Fixed(unit) => (unit, None),
                ColumnScale::Digits(root, unit) => (unit, Some((at(root), true))),
                ColumnScale::Exponent(root) => (WATT, Some((at(root), false))),
            };
            Scaled {
                oid: at(column.root),
                unit,
                moved_by,
            }
        };
        let mut available = Vec::new();
        if let Some((root, value)) = self.available {
            for column in std::iter::once(&self.power).chain(&self.energy) {
                available.push((cell(root, &index, column.tail), value));
            }
        }
        Ok(Objects {
            power: Some(scaled(&self.power)),
            energy: self.energy.as_ref().map(scaled),
            available,
            caliber: self
                .caliber
                .map(|roots| roots.map(|root| cell(root, &index, &[]))),
        })
    }

    /// The column that lists the rows, for a walk.
    pub(crate) fn column(&self) -> Oid {
        Oid::from_slice(self.power.root)
    }

    /// The row that an object of [`Self::column`] belongs to.
    pub(crate) fn row_of(&self, oid: &Oid) -> Option<Row> {
        let rest = oid.strip_prefix(&self.column())?;
        let (index, tail) = rest.arcs().split_at_checked(self.index.len())?;
        if tail != self.power.tail {
            return None;
        }
        let mut row = Row::default();
        for (part, number) in self.index.iter().zip(index) {
            match part {
                Part::Unit { .. } => row.unit = Some(*number),
                Part::Cord => row.cord = Some(*number),
                Part::Outlet => row.outlet = Some(*number),
            }
        }
        Some(row)
    }

    /// The object that holds the row's own name.
    pub(crate) fn name_of(&self, row: Row) -> Option<Oid> {
        Some(cell(self.name?, &self.index(row).ok()?, &[]))
    }

    fn index(&self, row: Row) -> Result<Vec<u32>, String> {
        let has = |wanted: fn(&Part) -> bool| self.index.iter().any(wanted);
        for (given, has_it, key) in [
            (
                row.unit,
                has(|part| matches!(part, Part::Unit { .. })),
                "unit",
            ),
            (row.cord, has(|part| *part == Part::Cord), "cord"),
            (row.outlet, has(|part| *part == Part::Outlet), "outlet"),
        ] {
            if given.is_some() && !has_it {
                return Err(format!(
                    "`{key}` means nothing for the model {:?}",
                    self.model
                ));
            }
        }
        let number = |part: &Part| match part {
            Part::Unit { first } => Ok(row.unit.unwrap_or(*first)),
            Part::Cord => Ok(row.cord.unwrap_or(1)),
            Part::Outlet => row
                .outlet
                .ok_or_else(|| format!("the model {:?} needs `outlet`", self.model)),
        };
        self.index.iter().map(number).collect()
    }
}

fn cell(root: &[u32], index: &[u32], tail: &[u32]) -> Oid {
    Oid::new([root, index, tail].concat())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("unit", self.unit),
            ("cord", self.cord),
            ("outlet", self.outlet),
        ];
        let said = parts
            .into_iter()
            .filter_map(|(key, number)| Some(format!("{key} {}", number?)));
        f.write_str(&said.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(outlet: u32) -> Row {
        Row {
            outlet: Some(outlet),
            ..Row::default()
        }
    }

    fn oids(model: &str, row: Row) -> Vec<String> {
        let objects = Known::of(model).unwrap().row(row).unwrap();
        objects.oids().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_of_known_tables() {
        assert_eq!(
            oids("apc-outlet", outlet(7)),
            [
                "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.7",
                "1.3.6.1.4.1.318.1.1.26.9.4.3.1.11.7"
            ]
        );
        assert_eq!(
            oids("apc-unit", Row::default()),
            [
                "1.3.6.1.4.1.318.1.1.26.4.3.1.5.1",
                "1.3.6.1.4.1.318.1.1.26.4.3.1.9.1"
            ]
        );
        assert_eq!(
            oids("servertech-outlet", outlet(3)),
            [
                "1.3.6.1.4.1.1718.4.1.8.3.1.7.1.1.3",
                "1.3.6.1.4.1.1718.4.1.8.3.1.14.1.1.3"
            ]
        );
        assert_eq!(
            oids("eaton-outlet", outlet(22))[0],
            "1.3.6.1.4.1.534.6.6.7.6.5.1.3.0.22"
        );
        assert_eq!(
            oids("raritan-outlet", outlet(4)),
            [
                "1.3.6.1.4.1.13742.6.5.4.3.1.4.1.4.5",
                "1.3.6.1.4.1.13742.6.3.5.4.1.7.1.4.5",
                "1.3.6.1.4.1.13742.6.5.4.3.1.4.1.4.8",
                "1.3.6.1.4.1.13742.6.3.5.4.1.7.1.4.8",
                "1.3.6.1.4.1.13742.6.5.4.3.1.2.1.4.5",
                "1.3.6.1.4.1.13742.6.5.4.3.1.2.1.4.8",
            ]
        );
        for known in KNOWN {
            let row = known.row_of(&Oid::new(
                [
                    known.power.root,
                    &vec![9; known.index.len()],
                    known.power.tail,
                ]
                .concat(),
            ));
            let objects = known.row(row.unwrap()).unwrap();
            assert_eq!(
                Known::of(known.model).unwrap().row_of(&objects.oids()[0]),
                row
            );
        }
        let known = Known::of("apc-outlet").unwrap();
        assert!(
            known
                .row(Row::default())
                .unwrap_err()
                .contains("needs `outlet`")
        );
        let with_cord = Row {
            cord: Some(1),
            ..outlet(1)
        };
        assert!(
            known
                .row(with_cord)
                .unwrap_err()
                .contains("`cord` means nothing")
        );
    }
}
