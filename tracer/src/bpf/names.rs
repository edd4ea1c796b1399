//! The names of programs, as the kernel side looks them up.

use tracer_ebpf::NAME_BYTES;

/// A name in the form of the table's keys.
pub type Name = [u8; NAME_BYTES];

/// A name as a key: its first fifteen bytes, filled up with NULs.
pub fn key(name: &[u8]) -> Name {
    let mut key = [0; NAME_BYTES];
    let kept = name.len().min(NAME_BYTES - 1);
    key[..kept].copy_from_slice(&name[..kept]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_by_its_first_fifteen_bytes() {
        assert_eq!(&key(b"node"), b"node\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(key(b"long-server-name"), key(b"long-server-nam"));
        assert_eq!(&key(b"long-server-name"), b"long-server-nam\0");
    }
}
