//! The one token that stands in every configuration of the tests, and must stand in nothing that is said.

pub const TOKEN: &str = "hush-hush-0123456789-this-is-in-no-output";

/// Where it is said all the same.
pub fn leak(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(TOKEN))
}
