//! The home directories in a `passwd` file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// As much of `/etc/passwd` as is read for a home directory.
pub(super) const PASSWD_MAX: usize = 256 << 10;

/// The home directory of a user by the beginning of a `passwd` file. What is cut off at the end of a long one is not
/// read: it would be another directory.
pub fn home_of(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    let end = if passwd.len() < PASSWD_MAX {
        passwd.len()
    } else {
        passwd.iter().rposition(|byte| *byte == b'\n')?
    };
    passwd[..end].split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let line_uid: u32 = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
        let home = fields.nth(2)?;
        let is_it = line_uid == uid && home.starts_with(b"/");
        is_it.then(|| PathBuf::from(OsStr::from_bytes(home)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_the_one_of_the_user_and_whole() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad:x:zero:0::/bad:\napp:x:7:7::srv/app:\napp:x:7:7::/srv/app:/bin/sh";
        assert_eq!(home_of(passwd, 0), Some("/root".into()));
        assert_eq!(home_of(passwd, 7), Some("/srv/app".into()), "the first that is an absolute path");
        assert_eq!(home_of(passwd, 8), None);
        // One that is longer than what is read of it.
        let mut long = b"x:x:1:1::/x:\n".repeat(PASSWD_MAX / 13 + 1);
        let line = b"\napp:x:7:7::/srv";
        long.truncate(PASSWD_MAX - line.len());
        long.extend(line);
        assert_eq!(home_of(&long, 7), None);
        assert_eq!(home_of(&long, 1), Some("/x".into()));
    }
}
