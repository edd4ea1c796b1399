//! The one token that stands in every configuration of the tests, and that must not stand in any output.

use std::io::Read;

pub const TOKEN: &str = "hush-hush-0123456789-this-is-in-no-output";

/// The line of a text that contains the token.
pub fn leak(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(TOKEN))
}

/// A tracer's output: reading it fails where it contains the token.
pub struct Checked<R> {
    inner: R,
    /// What was read last, short of a whole token.
    tail: Vec<u8>,
}

impl<R> Checked<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, tail: Vec::new() }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.tail.extend_from_slice(&buffer[..count]);
        let is_printed = self.tail.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!is_printed, "the token is printed: {}", String::from_utf8_lossy(&self.tail));
        let keep = self.tail.len().min(TOKEN.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
        Ok(count)
    }
}
