//! The form of an unknown value in recordings, and in the frames of queries and answers: 0, as older recordings have it.
//!
//! For `#[serde(with = "zero_is_none")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a value, and 0 for `None`.
///
/// # Errors
/// As the serializer.
pub fn serialize<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Copy + Default + Serialize,
    S: Serializer,
{
    value.unwrap_or_default().serialize(serializer)
}

/// Reads a value; 0 is `None`.
///
/// # Errors
/// As the deserializer.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Default + PartialEq + Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(|value| Some(value).filter(|value| *value != T::default()))
}
