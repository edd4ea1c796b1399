//! Counts by a key, in the order in which they are listed: a JSON object, whose keys have that order too.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use super::schema::{Cause, Role};
use crate::verdict::rules;

/// A key that counts are listed by.
pub trait Listed: Copy + PartialEq {
    /// Its place in the list.
    fn place(self) -> usize;
}

/// In the order in which causes are tried.
impl Listed for Cause {
    fn place(self) -> usize {
        rules::place(self.into())
    }
}

impl Listed for Role {
    fn place(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Upstream => 1,
        }
    }
}

/// Counts by a key. A key that has no count is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountsBy<K>(Vec<(K, u64)>);

impl<K> Default for CountsBy<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Listed> CountsBy<K> {
    /// The keys that occurred and their counts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The count of a key; `None`: it did not occur.
    pub fn get(&self, key: K) -> Option<u64> {
        self.iter().find(|(own, _)| *own == key).map(|(_, count)| count)
    }

    /// The counts without their keys.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().map(|(_, count)| count)
    }
}

/// In any order; of a key that is given twice, the last count.
impl<K: Listed> FromIterator<(K, u64)> for CountsBy<K> {
    fn from_iter<I: IntoIterator<Item = (K, u64)>>(counts: I) -> Self {
        let mut listed: Vec<(K, u64)> = Vec::new();
        for (key, count) in counts {
            match listed.iter_mut().find(|(own, _)| *own == key) {
                Some((_, own)) => *own = count,
                None => listed.push((key, count)),
            }
        }
        listed.sort_by_key(|(key, _)| key.place());
        Self(listed)
    }
}

impl<K: Listed + Serialize> Serialize for CountsBy<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K: Listed + Deserialize<'de>> Deserialize<'de> for CountsBy<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Reads the entries of a map.
struct Entries<K>(PhantomData<K>);

impl<'de, K: Listed + Deserialize<'de>> Visitor<'de> for Entries<K> {
    type Value = CountsBy<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of counts")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut counts = Vec::new();
        while let Some(entry) = map.next_entry()? {
            counts.push(entry);
        }
        Ok(counts.into_iter().collect())
    }
}

impl<K: JsonSchema> JsonSchema for CountsBy<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        <std::collections::BTreeMap<K, u64>>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <std::collections::BTreeMap<K, u64>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_listed_in_the_order_of_the_rules() {
        let given = [(Cause::NothingListening, 1), (Cause::Filtered, 2), (Cause::OtherPort, 3)];
        let counts: CountsBy<Cause> = given.into_iter().collect();
        let text = r#"{"filtered":2,"other-port":3,"nothing-listening":1}"#;
        assert_eq!(serde_json::to_string(&counts).unwrap(), text);
        let shuffled = r#"{"nothing-listening":1,"other-port":3,"filtered":2}"#;
        assert_eq!(serde_json::from_str::<CountsBy<Cause>>(shuffled).unwrap(), counts);
        assert_eq!((counts.get(Cause::OtherPort), counts.get(Cause::Stopped)), (Some(3), None));
        assert_eq!(counts.values().sum::<u64>(), 6);
    }

    #[test]
    fn roles_are_listed_with_clients_first() {
        let counts: CountsBy<Role> = [(Role::Upstream, 1), (Role::Client, 2)].into_iter().collect();
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"client":2,"upstream":1}"#);
    }
}
