//! Text that a process chose, made safe for a terminal.

use std::fmt::Write as _;

/// Whether a character can move the cursor, change how what follows is shown, or hide: controls, the
/// bidirectional formatting characters (Unicode UAX #9), invisible ones and line separators.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The bytes as text: unsafe characters as `\x1b` or `\u{202e}`, bytes that are not UTF-8 as `\xff`, and
/// the backslash itself doubled, so that no two names look the same.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                character => push(character, &mut out),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A text that should have been escaped before, as in a log that is read back: unsafe characters are escaped, and
/// backslashes stay single, so that an escaped text stays as it is.
pub fn escape_again(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|character| push(character, &mut out));
    out
}

/// Adds one character, escaped if it is unsafe.
fn push(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        _ if is_unsafe(character) && character.is_ascii() => {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
        _ if is_unsafe(character) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
        _ => out.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unsafe_is_left() {
        assert_eq!(escape(b"curl"), "curl");
        assert_eq!(escape("größe 日本".as_bytes()), "größe 日本");
        assert_eq!(escape(b"a\x1b[31mb\x07\n\\"), "a\\x1b[31mb\\x07\\n\\\\");
        assert_eq!(escape("x\u{202e}y\u{9b}z".as_bytes()), "x\\u{202e}y\\u{9b}z");
        assert_eq!(escape(b"\xff\xfeok\xc3"), "\\xff\\xfeok\\xc3");
    }

    #[test]
    fn escaping_again_changes_unsafe_characters_only() {
        assert_eq!(escape_again("a\u{1b}]0;b\u{202e}\n"), "a\\x1b]0;b\\u{202e}\\n");
        assert_eq!(escape_again(r"a\x1b"), r"a\x1b");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_are(bytes: Vec<u8>) {
            let escaped = escape(&bytes);
            proptest::prop_assert!(!escaped.chars().any(is_unsafe));
            proptest::prop_assert_eq!(escape_again(&escaped), escaped);
        }
    }
}
