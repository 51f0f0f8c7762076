//! Lists in answers of servers, of which a bounded number is read.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// The first `MAX` of a list. What comes after is skipped without being read.
#[derive(Debug)]
pub(crate) struct Few<T, const MAX: usize> {
    pub(crate) all: Vec<T>,
    /// How many were skipped.
    pub(crate) skipped: u64,
}

impl<T, const MAX: usize> Default for Few<T, MAX> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            skipped: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T, MAX>, A::Error> {
                let mut few = Few::default();
                while few.all.len() < MAX {
                    let Some(next) = list.next_element()? else {
                        return Ok(few);
                    };
                    few.all.push(next);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    few.skipped += 1;
                }
                Ok(few)
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Reads an answer; the reason of a failure has its place in it and nothing of its content.
pub(crate) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "it is not the JSON of such a server (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}
