//! Paths as raw bytes: of a process's executable, of a cgroup.

/// What the kernel appends to a path that has been removed (`d_path()`, fs/d_path.c; `proc_cgroup_show()`,
/// kernel/cgroup/cgroup.c).
const DELETED: &[u8] = b" (deleted)";

/// What stands behind the last `/`.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The path as it was before its file or directory was removed.
pub fn without_deleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(DELETED).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_file_keeps_its_name() {
        assert_eq!(file_name(without_deleted(b"/usr/bin/node (deleted)")), b"node");
        assert_eq!(file_name(without_deleted(b"node")), b"node");
        assert_eq!(file_name(b"/usr/bin/"), b"");
    }
}
