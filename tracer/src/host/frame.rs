//! Queries and answers as bytes: what crosses between the core and what answers it.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The frame of a value.
///
/// # Errors
/// Never for the types of [`crate::query`].
pub fn encode(value: &impl Serialize) -> postcard::Result<Bytes> {
    postcard::to_allocvec(value).map(Bytes::from)
}

/// The value of a frame.
///
/// # Errors
/// Where the bytes are not a frame of such a value.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> postcard::Result<T> {
    postcard::from_bytes(frame)
}
