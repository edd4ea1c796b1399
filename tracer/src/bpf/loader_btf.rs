//! The part of the running kernel's type information that aya's loader needs.
//!
//! aya's own parser keeps every type, which takes some 30 ms and as many megabytes. So aya gets only what it looks up.

use super::btf::{Btf, BtfError, HEADER_BYTES, MAGIC, TRACEPOINT, TYPE_BYTES, VERSION, kind};

impl Btf<'_> {
    /// BTF for a loader, which looks up by its name what a program is to be attached to, and hands its place among the
    /// types to the kernel: the tracepoints and these functions at the places that they have here, and nothing that
    /// takes time to read at the others.
    ///
    /// # Errors
    /// Never for what [`Btf::parse`] has understood.
    pub fn names(&self, functions: &[&str]) -> Result<Vec<u8>, BtfError> {
        let mut types = Vec::with_capacity(self.places.len() * TYPE_BYTES);
        let mut strings = vec![0];
        for place in self.places.iter().skip(1) {
            let this = self.read(*place as usize)?;
            let name = match this.kind {
                kind::TYPEDEF => Some(self.string(this.name)).filter(|name| name.starts_with(TRACEPOINT)),
                kind::FUNC => Some(self.string(this.name))
                    .filter(|name| functions.iter().any(|wanted| wanted.as_bytes() == *name)),
                _ => None,
            };
            let (name, kind) = match name {
                Some(name) => {
                    let at = strings.len() as u32;
                    strings.extend_from_slice(name);
                    strings.push(0);
                    (at, this.kind)
                }
                None => (0, kind::FWD),
            };
            for word in [name, kind << 24, 0] {
                types.extend_from_slice(&word.to_le_bytes());
            }
        }
        Ok(whole(&types, &strings))
    }
}

/// The bytes of BTF with these sections.
pub(super) fn whole(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let (types_at, types_bytes, strings_bytes) = (0, types.len() as u32, strings.len() as u32);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + types.len() + strings.len());
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&[VERSION, 0]);
    for word in [HEADER_BYTES as u32, types_at, types_bytes, types_bytes, strings_bytes] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(types);
    bytes.extend_from_slice(strings);
    bytes
}
