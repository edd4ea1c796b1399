//! The credentials of a process by which the kernel decides which files it may read.

use rustix::fs::{Mode, Stat};

use super::process::{Handle, STATUS};

/// The ids of a process that count where it opens files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub(super) uid: u32,
    /// As its own user namespace counts.
    pub(super) uid_inside: u32,
    pub(super) groups: Vec<u32>,
}

impl Credentials {
    pub(super) fn of(handle: &Handle) -> Option<Self> {
        let mut status = [0; STATUS];
        let mut credentials = Self::from_status(handle.read(c"status", &mut status)?)?;
        let mut map = [0; 4096];
        let map = handle.read(c"uid_map", &mut map).unwrap_or_default();
        credentials.uid_inside = inside(map, credentials.uid);
        Some(credentials)
    }

    /// The last of each four ids is the one that counts for files.
    pub fn from_status(status: &[u8]) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line =
                status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
            std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
        };
        let uid = *numbers("Uid:")?.last()?;
        let mut groups = numbers("Groups:").unwrap_or_default();
        groups.extend(numbers("Gid:")?.last());
        Some(Self { uid, uid_inside: uid, groups })
    }

    /// Whether the mode of a file lets it be read.
    pub(super) fn may_read(&self, stat: &Stat) -> bool {
        let bit = match stat {
            _ if self.uid == 0 => return true,
            stat if stat.st_uid == self.uid => Mode::RUSR,
            stat if self.groups.contains(&stat.st_gid) => Mode::RGRP,
            _ => Mode::ROTH,
        };
        Mode::from_raw_mode(stat.st_mode).contains(bit)
    }
}

/// A user id as the user namespace with this `uid_map` counts.
pub fn inside(map: &[u8], uid: u32) -> u32 {
    let ranges = std::str::from_utf8(map).unwrap_or_default().lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?))
    });
    for (inside, outside, length) in ranges {
        if uid.checked_sub(outside).is_some_and(|offset| offset < length) {
            return inside.saturating_add(uid - outside);
        }
    }
    uid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_the_ids_that_count_for_files() {
        let status = b"Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nGroups:\t27 100 \n";
        let credentials = Credentials::from_status(status).unwrap();
        assert_eq!(credentials, Credentials { uid: 1003, uid_inside: 1003, groups: vec![27, 100, 8] });
        assert_eq!(Credentials::from_status(b"Uid:\tx"), None);
    }

    #[test]
    fn a_user_id_is_counted_as_inside() {
        let map = b"         0     100000      65536\n     65536          7          1\n";
        assert_eq!((inside(map, 101_000), inside(map, 7), inside(map, 9)), (1_000, 65_536, 9));
        assert_eq!(inside(b"", 9), 9);
        assert_eq!(inside(b"1 4294967295 4294967295", 4_294_967_295), 1);
    }
}
