//! Reads files to a bound: their lengths are the choice of others.

use std::os::fd::AsFd;

use rustix::io::{Errno, read};

/// How the end of a file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By a read that gives nothing.
    EmptyRead,
    /// By the first read: the file is made in one piece (`single_open`, fs/seq_file.c), and the call
    /// that would give nothing is spared.
    ShortRead,
}

/// Reads the beginning of a file, as much as the buffer takes.
pub(super) fn fill(file: impl AsFd, buffer: &mut [u8], end: End) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => {
                length += count;
                if end == End::ShortRead {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}
