//! The one token that stands in every configuration of the tests, and must stand in nothing that is said.

use std::io::Read;

pub const TOKEN: &str = "hush-hush-0123456789-this-is-in-no-output";

/// Where it is said all the same.
pub fn leak(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(TOKEN))
}

/// What a tracer says: the reading fails where the token is in it.
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
        let is_said = self.tail.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!is_said, "the token is said: {}", String::from_utf8_lossy(&self.tail));
        let keep = self.tail.len().min(TOKEN.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
        Ok(count)
    }
}
