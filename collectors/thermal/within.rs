//! The table of a protocol, from which the rules of the value are taken out first.
//!
//! A rule may stand beside the protocol or inside of its table; the protocol never sees it. Spans stay exact, because
//! every key and value goes through the deserializer that knows its place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::rules::{KEYS, Written};

/// A protocol's own table, and the rules that stood in it.
#[derive(Clone, Debug)]
pub(super) struct Within<T> {
    pub(super) own: T,
    pub(super) rules: Written,
}

struct Table<T>(PhantomData<T>);

struct Without<'r, A> {
    map: A,
    rules: &'r mut Written,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Within<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
    type Value = Within<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Within<T>, A::Error> {
        let mut rules = Written::default();
        let without = Without {
            map,
            rules: &mut rules,
        };
        let own = T::deserialize(MapAccessDeserializer::new(without))?;
        Ok(Within { own, rules })
    }
}

/// A key: text that is looked at before the protocol sees it.
struct Key<S>(S);

/// A key of the protocol, or one of ours and the seed that was not used for it.
enum Found<V, S> {
    Theirs(V),
    Ours(&'static str, S),
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<S> {
    type Value = Found<S::Value, S>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Key<S> {
    type Value = Found<S::Value, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        if let Some(ours) = KEYS.iter().find(|known| **known == key) {
            return Ok(Found::Ours(ours, self.0));
        }
        let theirs = self.0.deserialize(StrDeserializer::<E>::new(key));
        // What is known here are their keys and ours.
        theirs.map(Found::Theirs).map_err(|error| {
            let ours: Vec<String> = KEYS.iter().map(|key| format!("`{key}`")).collect();
            E::custom(format_args!("{error}, {}", ours.join(", ")))
        })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Without<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let mut seed = seed;
        loop {
            match self.map.next_key_seed(Key(seed))? {
                None => return Ok(None),
                Some(Found::Theirs(key)) => return Ok(Some(key)),
                Some(Found::Ours(key, unused)) => {
                    self.rules.read(key, &mut self.map)?;
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
