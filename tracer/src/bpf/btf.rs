//! An index over the running kernel's own type information (BTF).
//!
//! Rust's compiler emits no relocations for kernel structures, so the offsets are looked up here and
//! handed to the programs as constants. The parser reads `/sys/kernel/btf/vmlinux` in place and builds
//! an index of 4 bytes a type.
//!
//! Format: `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h`.

use std::collections::HashMap;
use std::fmt;

use tracer_ebpf::MISSING;

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

pub(super) const MAGIC: u16 = 0xeb9f;
pub(super) const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const ENUM_VALUE_BYTES: usize = 8;

/// Kinds of types, and the bytes that follow each in the type section.
pub(super) mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;

    /// Bytes of data behind a type with `vlen` entries; `None` for a kind that is not known.
    pub fn trailing_bytes(kind: u32, vlen: usize) -> Option<usize> {
        match kind {
            INT | VAR | DECL_TAG => Some(4),
            ARRAY => Some(12),
            STRUCT | UNION | DATASEC | ENUM64 => vlen.checked_mul(12),
            ENUM | FUNC_PROTO => vlen.checked_mul(8),
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => Some(0),
            _ => None,
        }
    }
}

/// What the name of a tracepoint's type begins with.
pub(super) const TRACEPOINT: &[u8] = b"btf_trace_";

/// The type by which a tracepoint calls its programs with preemption on (`__DO_TRACE_CALL`,
/// include/linux/tracepoint.h): on 7.3, and not on 5.10, 6.1, 6.12 and 6.18.
const PREEMPTIBLE_GUARD: &[u8] = b"class_srcu_fast_notrace_t";

/// The flags of a socket (include/net/sock.h).
const SOCKET_FLAGS: &[u8] = b"sock_flags";

/// Anonymous structures nest a few levels; types that refer to each other in a circle do not exist in
/// a kernel, only in a damaged file.
const DEPTH_MAX: usize = 16;

/// Members that are searched for one; a kernel's largest structure has a few hundred. Anonymous ones may
/// hold each other without a circle, and the ways through them double with each level.
const MEMBERS_MAX: usize = 65_536;

/// What is wrong with the type information, or missing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// Not BTF, cut off, or of a later version than is understood.
    Malformed(&'static str),
    /// The kernel has no such structure, or the structure no such member.
    Missing(String),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the kernel's type information is not understood: {what}"),
            Self::Missing(what) => write!(f, "this kernel has no `{what}`"),
        }
    }
}

impl std::error::Error for BtfError {}

/// An index over BTF bytes.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`, by id; id 0 is `void` and has no place.
    pub(super) places: Vec<u32>,
    /// Structures by name.
    structs: HashMap<&'a [u8], u32>,
    /// `btf_trace_*` types by the tracepoint's name.
    tracepoints: HashMap<&'a [u8], u32>,
    /// Whether there is a [`PREEMPTIBLE_GUARD`].
    preempts_programs: bool,
    /// Where [`SOCKET_FLAGS`] begins.
    socket_flags: Option<usize>,
}

/// Where a member lies in its outermost structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    bit_offset: u32,
    type_id: u32,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) name: u32,
    pub(super) kind: u32,
    vlen: usize,
    /// `kind_flag`: a structure's member offsets carry bit-field sizes.
    flag: bool,
    size_or_type: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = bytes.get(at..at + 4).ok_or(BtfError::Malformed("cut off"))?;
    Ok(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

impl<'a> Btf<'a> {
    /// Indexes little-endian BTF.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] when the bytes are not BTF version 1, or hold a kind of type that is not
    /// known and so cannot be skipped.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if data.len() < HEADER_BYTES || u16::from_le_bytes([data[0], data[1]]) != MAGIC {
            return Err(BtfError::Malformed("not BTF"));
        }
        if data[2] != VERSION {
            return Err(BtfError::Malformed("not version 1"));
        }
        let header = u32_at(data, 4)? as usize;
        let section = |offset: usize, length: usize| -> Result<&'a [u8], BtfError> {
            let start = header.checked_add(u32_at(data, offset)? as usize);
            let start = start.ok_or(BtfError::Malformed("section out of range"))?;
            let end = start.checked_add(u32_at(data, length)? as usize);
            let end = end.ok_or(BtfError::Malformed("section out of range"))?;
            data.get(start..end).ok_or(BtfError::Malformed("section out of range"))
        };
        let types = section(8, 12)?;
        let strings = section(16, 20)?;

        let mut btf = Self {
            types,
            strings,
            places: Vec::with_capacity(types.len() / 24 + 1),
            // What a kernel has of each, so that the tables need not grow.
            structs: HashMap::with_capacity(types.len() / 200),
            tracepoints: HashMap::with_capacity(types.len() / 1_600),
            preempts_programs: false,
            socket_flags: None,
        };
        btf.places.push(0);
        let mut at = 0;
        while at < types.len() {
            let id = btf.places.len() as u32;
            btf.places.push(at as u32);
            let this = btf.read(at)?;
            if this.kind == kind::STRUCT && this.name != 0 {
                btf.structs.entry(btf.string(this.name)).or_insert(id);
            } else if this.kind == kind::TYPEDEF {
                let name = btf.string(this.name);
                if let Some(tracepoint) = name.strip_prefix(TRACEPOINT) {
                    btf.tracepoints.insert(tracepoint, id);
                }
                btf.preempts_programs |= name == PREEMPTIBLE_GUARD;
            } else if this.kind == kind::ENUM && btf.string(this.name) == SOCKET_FLAGS {
                btf.socket_flags = Some(at);
            }
            let trailing = kind::trailing_bytes(this.kind, this.vlen);
            at += TYPE_BYTES + trailing.ok_or(BtfError::Malformed("a kind of type that is not known"))?;
        }
        Ok(btf)
    }

    pub(super) fn read(&self, at: usize) -> Result<Type, BtfError> {
        let info = u32_at(self.types, at + 4)?;
        Ok(Type {
            name: u32_at(self.types, at)?,
            kind: info >> 24 & 0x1f,
            vlen: (info & 0xffff) as usize,
            flag: info >> 31 == 1,
            size_or_type: u32_at(self.types, at + 8)?,
        })
    }

    fn get(&self, id: u32) -> Result<(usize, Type), BtfError> {
        let place = *self.places.get(id as usize).ok_or(BtfError::Malformed("a type out of range"))? as usize;
        if id == 0 {
            return Ok((0, Type { name: 0, kind: 0, vlen: 0, flag: false, size_or_type: 0 }));
        }
        Ok((place, self.read(place)?))
    }

    /// The bytes of a name, without its NUL; empty when out of range.
    pub(super) fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        &rest[..end]
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Result<(u32, usize, Type), BtfError> {
        for _ in 0..DEPTH_MAX {
            let (place, this) = self.get(id)?;
            match this.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = this.size_or_type;
                }
                _ => return Ok((id, place, this)),
            }
        }
        Err(BtfError::Malformed("types nest too deep"))
    }

    /// A member by name, searched in anonymous members too. `left`: how many may still be searched.
    fn find(
        &self,
        struct_id: u32,
        name: &[u8],
        depth: usize,
        left: &mut usize,
    ) -> Result<Option<Member>, BtfError> {
        if depth > DEPTH_MAX {
            return Err(BtfError::Malformed("types nest too deep"));
        }
        let (_, place, this) = self.strip(struct_id)?;
        if this.kind != kind::STRUCT && this.kind != kind::UNION {
            return Ok(None);
        }
        *left =
            left.checked_sub(this.vlen).ok_or(BtfError::Malformed("a structure with too many members"))?;
        for index in 0..this.vlen {
            let at = place + TYPE_BYTES + index * MEMBER_BYTES;
            let own_name = u32_at(self.types, at)?;
            let type_id = u32_at(self.types, at + 4)?;
            let offset = u32_at(self.types, at + 8)?;
            let bit_offset = if this.flag { offset & 0x00ff_ffff } else { offset };
            if own_name == 0 {
                if let Some(inner) = self.find(type_id, name, depth + 1, left)? {
                    return Ok(Some(Member {
                        bit_offset: bit_offset.saturating_add(inner.bit_offset),
                        ..inner
                    }));
                }
            } else if self.string(own_name) == name {
                return Ok(Some(Member { bit_offset, type_id }));
            }
        }
        Ok(None)
    }

    /// Follows a path such as `sock.__sk_common.skc_dport`.
    fn member(&self, path: &str) -> Result<Member, BtfError> {
        let missing = || BtfError::Missing(path.to_owned());
        let mut parts = path.split('.');
        let outermost = parts.next().unwrap_or_default();
        let mut type_id = *self.structs.get(outermost.as_bytes()).ok_or_else(missing)?;
        let mut bit_offset = 0u32;
        for part in parts {
            let mut left = MEMBERS_MAX;
            let member = self.find(type_id, part.as_bytes(), 0, &mut left)?.ok_or_else(missing)?;
            bit_offset = bit_offset.saturating_add(member.bit_offset);
            type_id = member.type_id;
        }
        Ok(Member { bit_offset, type_id })
    }

    /// The byte offset of the member that a path leads to.
    ///
    /// # Errors
    /// [`BtfError::Missing`] when the kernel does not have it.
    pub fn offset(&self, path: &str) -> Result<u32, BtfError> {
        Ok(self.member(path)?.bit_offset / 8)
    }

    /// The byte offset of a member; [`MISSING`] when the kernel does not have it.
    pub(super) fn optional_offset(&self, path: &str) -> u32 {
        self.offset(path).unwrap_or(MISSING)
    }

    /// The byte that holds a one-bit member, and its bit inside that byte.
    pub(super) fn bit(&self, path: &str) -> Result<(u32, u32), BtfError> {
        let bit_offset = self.member(path)?.bit_offset;
        Ok((bit_offset / 8, 1 << (bit_offset % 8)))
    }

    /// Size in bytes of the type of the member that a path leads to, where it is an integer.
    pub(super) fn integer_bytes(&self, path: &str) -> Option<u32> {
        let (_, _, this) = self.strip(self.member(path).ok()?.type_id).ok()?;
        (this.kind == kind::INT).then_some(this.size_or_type)
    }

    /// Size in bytes of a structure.
    pub(super) fn struct_bytes(&self, name: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(name.to_owned());
        let id = *self.structs.get(name.as_bytes()).ok_or_else(missing)?;
        Ok(self.get(id)?.1.size_or_type)
    }

    /// The number of a flag among those of a socket, such as `SOCK_RCU_FREE`.
    pub fn socket_flag(&self, name: &str) -> Option<u32> {
        let place = self.socket_flags?;
        let values =
            (0..self.read(place).ok()?.vlen).map(|index| place + TYPE_BYTES + index * ENUM_VALUE_BYTES);
        for at in values {
            if self.string(u32_at(self.types, at).ok()?) == name.as_bytes() {
                return u32_at(self.types, at + 4).ok();
            }
        }
        None
    }

    /// Whether tracepoints call BTF programs with preemption on.
    pub fn preempts_programs(&self) -> bool {
        self.preempts_programs
    }

    /// How many arguments a tracepoint hands to a program; `None` when the tracepoint does not exist.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let typedef = *self.tracepoints.get(name.as_bytes())?;
        let (_, _, pointer) = self.strip(typedef).ok()?;
        if pointer.kind != kind::PTR {
            return None;
        }
        let (_, _, prototype) = self.strip(pointer.size_or_type).ok()?;
        // The first one is the tracing core's own.
        (prototype.kind == kind::FUNC_PROTO).then(|| prototype.vlen.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::loader_btf::whole;

    /// A writer of small BTF files.
    #[derive(Default)]
    struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Writer {
        fn new() -> Self {
            Self { strings: vec![0], ..Self::default() }
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            at
        }

        fn put(&mut self, words: &[u32]) {
            for word in words {
                self.types.extend_from_slice(&word.to_le_bytes());
            }
        }

        fn int(&mut self, name: &str, bytes: u32) -> u32 {
            let name = self.name(name);
            self.put(&[name, kind::INT << 24, bytes, bytes * 8]);
            self.count += 1;
            self.count
        }

        fn composite(&mut self, kind: u32, name: &str, flag: bool, members: &[(&str, u32, u32)]) -> u32 {
            let name = self.name(name);
            self.put(&[name, u32::from(flag) << 31 | kind << 24 | members.len() as u32, 64]);
            for (member, type_id, offset) in members {
                let member = self.name(member);
                self.put(&[member, *type_id, *offset]);
            }
            self.count += 1;
            self.count
        }

        fn finish(&self) -> Vec<u8> {
            whole(&self.types, &self.strings)
        }
    }

    #[test]
    fn walks_into_anonymous_members_and_bit_fields() {
        let mut writer = Writer::new();
        let byte = writer.int("unsigned char", 1);
        let union = writer.composite(kind::UNION, "", false, &[("skc_num", byte, 16)]);
        let common = writer.composite(
            kind::STRUCT,
            "sock_common",
            true,
            &[("first", byte, 0), ("", union, 32), ("skc_ipv6only", byte, 1 << 24 | 85)],
        );
        writer.composite(kind::STRUCT, "sock", false, &[("pad", byte, 0), ("__sk_common", common, 64)]);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sock.__sk_common.skc_num"), Ok(8 + 4 + 2));
        assert_eq!(btf.bit("sock.__sk_common.skc_ipv6only"), Ok((8 + 10, 1 << 5)));
        assert_eq!(btf.integer_bytes("sock.__sk_common.skc_num"), Some(1));
        assert_eq!(
            btf.offset("sock.__sk_common.skc_none"),
            Err(BtfError::Missing("sock.__sk_common.skc_none".into()))
        );
        assert_eq!(btf.tracepoint_arguments("inet_sock_set_state"), None);
    }

    #[test]
    fn preemption_is_a_type_that_the_kernel_has() {
        let preempts = |name: &str| {
            let mut writer = Writer::new();
            writer.composite(kind::TYPEDEF, name, false, &[]);
            Btf::parse(&writer.finish()).unwrap().preempts_programs()
        };
        assert!(preempts("class_srcu_fast_notrace_t"));
        assert!(!preempts("class_srcu_fast_t"));
    }

    #[test]
    fn refuses_what_it_cannot_skip() {
        let mut writer = Writer::new();
        writer.put(&[0, 31 << 24, 0]);
        assert_eq!(
            Btf::parse(&writer.finish()).err(),
            Some(BtfError::Malformed("a kind of type that is not known"))
        );
    }

    #[test]
    fn a_structure_that_holds_itself_is_an_error_not_a_loop() {
        let mut writer = Writer::new();
        writer.composite(kind::STRUCT, "sock", false, &[("", 1, 0)]);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sock.x"), Err(BtfError::Malformed("types nest too deep")));
    }

    #[test]
    fn structures_that_hold_each_other_many_times_are_an_error_not_a_long_search() {
        let mut writer = Writer::new();
        let mut inner = writer.int("int", 4);
        for _ in 0..DEPTH_MAX - 2 {
            inner = writer.composite(kind::STRUCT, "", false, &[("", inner, 0); 8]);
        }
        writer.composite(kind::STRUCT, "sock", false, &[("", inner, 0)]);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sock.x"), Err(BtfError::Malformed("a structure with too many members")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(mut data: Vec<u8>, at: usize, byte: u8) {
            let _ = Btf::parse(&data).map(|btf| btf.offsets().is_ok());
            let mut writer = Writer::new();
            let int = writer.int("int", 4);
            writer.composite(kind::STRUCT, "sock", true, &[("a", int, 0), ("", int, 32)]);
            data = writer.finish();
            let length = data.len();
            data[at % length] = byte;
            let _ = Btf::parse(&data).map(|btf| (btf.offset("sock.a").is_ok(), btf.offsets().is_ok()));
        }
    }

    /// The kernel that this test runs on has everything, where it has BTF at all.
    #[test]
    fn resolves_the_running_kernel() {
        if let Ok(bytes) = std::fs::read(VMLINUX) {
            let btf = Btf::parse(&bytes).unwrap();
            let (offsets, mask) = btf.offsets().unwrap();
            assert!(mask.is_power_of_two());
            assert!(offsets.sock_dport < offsets.sock_err);
            assert_eq!(btf.tracepoint_arguments("inet_sock_set_state"), Some(3));
        }
    }

    #[test]
    fn a_loader_finds_names_at_their_places() {
        use aya_obj::btf::{Btf as Loaders, BtfKind};
        let mut writer = Writer::new();
        let int = writer.int("int", 4);
        let tracepoint = writer.composite(kind::TYPEDEF, "btf_trace_it", false, &[]);
        writer.composite(kind::STRUCT, "sock", false, &[("a", int, 0), ("b", int, 32)]);
        writer.composite(kind::FUNC, "other", false, &[]);
        let function = writer.composite(kind::FUNC, "inet_bind", false, &[]);
        let names = Btf::parse(&writer.finish()).unwrap().names(&["inet_bind"]).unwrap();
        let loaders = Loaders::parse(&names, aya::Endianness::Little).unwrap();
        let place = |name, kind| loaders.id_by_type_name_kind(name, kind).ok();
        assert_eq!(place("btf_trace_it", BtfKind::Typedef), Some(tracepoint));
        assert_eq!(place("inet_bind", BtfKind::Func), Some(function));
        assert_eq!(place("other", BtfKind::Func), None);
    }
}
