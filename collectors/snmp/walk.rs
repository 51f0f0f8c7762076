//! Everything below an object, bounded.

use async_snmp::{Oid, Value, VarBind};

use super::Device;
use crate::CollectError;
use crate::web::malformed;

/// Rows of one question: they fit into one packet of 1,500 bytes where values are short, and a
/// device that has less room sends fewer.
const ROWS_OF_A_QUESTION: u32 = 20;

/// Most bytes of texts that one walk keeps; the largest table that is walked has 2,000 short names.
const BYTES_MAX: usize = 1024 * 1024;

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// In the device's order, none twice.
    pub(crate) rows: Vec<VarBind>,
    /// Whether there was more than may be kept.
    pub(crate) has_more: bool,
}

/// Asks for all that is below `root`, until `rows_max`.
///
/// # Errors
/// When the device does not answer, and when it goes in circles.
pub(crate) async fn walk(
    device: &dyn Device,
    root: &Oid,
    rows_max: usize,
) -> Result<Walked, CollectError> {
    let mut walked = Walked::default();
    let mut cursor = root.clone();
    let mut bytes = 0_usize;
    loop {
        let batch = device.next(&cursor, ROWS_OF_A_QUESTION).await?;
        if batch.is_empty() {
            let found = format!("what follows {cursor}: there is nothing in the answer");
            return Err(malformed(device.address(), &found));
        }
        for row in batch {
            if row.value.is_exception() || !row.oid.starts_with(root) {
                return Ok(walked);
            }
            if row.oid <= cursor {
                let found = format!(
                    "it goes in circles: after {cursor} it says {}. Update its firmware, or name \
                     the objects one by one",
                    row.oid
                );
                return Err(malformed(device.address(), &found));
            }
            bytes = bytes.saturating_add(length(&row.value));
            if walked.rows.len() >= rows_max || bytes > BYTES_MAX {
                walked.has_more = true;
                return Ok(walked);
            }
            cursor = row.oid.clone();
            walked.rows.push(row);
        }
    }
}

fn length(value: &Value) -> usize {
    match value {
        Value::OctetString(bytes) | Value::Opaque(bytes) | Value::Nsap(bytes) => bytes.len(),
        _ => 0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snmp::settings::parse_oid;
    use async_trait::async_trait;
    use std::collections::BTreeMap;

    /// A device that answers from a table, so many rows at a time.
    #[derive(Debug, Default)]
    pub(crate) struct Table {
        pub(crate) rows: BTreeMap<Oid, Value>,
        pub(crate) rows_at_once: usize,
        /// After this object it begins again at that one.
        pub(crate) loops: Option<(Oid, Oid)>,
    }

    impl Table {
        pub(crate) fn of(rows: &[(&str, Value)]) -> Self {
            let row = |(oid, value): &(&str, Value)| (parse_oid(oid).unwrap(), value.clone());
            Self {
                rows: rows.iter().map(row).collect(),
                rows_at_once: 3,
                loops: None,
            }
        }
    }

    #[async_trait]
    impl Device for Table {
        fn address(&self) -> &str {
            "table"
        }

        async fn get(&self, oids: &[Oid]) -> Result<Vec<Value>, CollectError> {
            let value = |oid| self.rows.get(oid).cloned().unwrap_or(Value::NoSuchInstance);
            Ok(oids.iter().map(value).collect())
        }

        async fn next(&self, after: &Oid, rows: u32) -> Result<Vec<VarBind>, CollectError> {
            let after = match &self.loops {
                Some((from, to)) if after >= from => to,
                _ => after,
            };
            let limit = self.rows_at_once.min(usize::try_from(rows).unwrap());
            let found = self.rows.iter().filter(|(oid, _)| *oid > after);
            let found = found.map(|(oid, value)| VarBind::new(oid.clone(), value.clone()));
            let mut found: Vec<VarBind> = found.take(limit).collect();
            if found.len() < limit {
                found.push(VarBind::new(after.clone(), Value::EndOfMibView));
            }
            Ok(found)
        }
    }

    fn seven() -> Table {
        let rows: Vec<(String, Value)> = (1..=7)
            .map(|row| (format!("1.3.6.1.9.{row}"), Value::Integer(row)))
            .chain([("1.3.6.2.1".to_owned(), Value::Integer(0))])
            .collect();
        let rows: Vec<(&str, Value)> = rows.iter().map(|(o, v)| (o.as_str(), v.clone())).collect();
        Table::of(&rows)
    }

    #[tokio::test]
    async fn a_walk_ends_with_the_subtree() {
        let root = parse_oid("1.3.6.1.9").unwrap();
        for rows_at_once in 1..=10 {
            let table = Table {
                rows_at_once,
                ..seven()
            };
            let walked = walk(&table, &root, 100).await.unwrap();
            assert_eq!((walked.rows.len(), walked.has_more), (7, false));
        }
        let all = walk(&seven(), &parse_oid("1.3").unwrap(), 100)
            .await
            .unwrap();
        assert_eq!(all.rows.len(), 8);
    }

    #[tokio::test]
    async fn a_walk_is_bounded_and_says_so() {
        let root = parse_oid("1.3.6.1.9").unwrap();
        let walked = walk(&seven(), &root, 5).await.unwrap();
        assert_eq!((walked.rows.len(), walked.has_more), (5, true));
        let walked = walk(&seven(), &root, 7).await.unwrap();
        assert_eq!((walked.rows.len(), walked.has_more), (7, false));
        let long = "x".repeat(BYTES_MAX / 2 + 1);
        let table = Table::of(&[
            ("1.3.6.1.9.1", Value::from(long.as_str())),
            ("1.3.6.1.9.2", Value::from(long.as_str())),
        ]);
        let walked = walk(&table, &root, 7).await.unwrap();
        assert_eq!((walked.rows.len(), walked.has_more), (1, true));
    }

    #[tokio::test]
    async fn a_circle_is_refused() {
        let mut table = seven();
        table.loops = Some((
            parse_oid("1.3.6.1.9.4").unwrap(),
            parse_oid("1.3.6.1.9").unwrap(),
        ));
        let refused = walk(&table, &parse_oid("1.3.6.1.9").unwrap(), 100)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("in circles"), "{refused}");
        assert_eq!(refused.class(), "malformed");
    }
}
