//! Text that a process chose, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character can move the cursor, change how what follows is shown, hide, or look like a space: controls, the
/// bidirectional formatting characters (Unicode UAX #9), every space but U+0020, line separators, and what is invisible
/// (Default_Ignorable_Code_Point, and the blank braille pattern).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || character.is_whitespace() && character != ' '
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffc}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The bytes as text: unsafe characters as `\x1b` or `\u{202e}`, bytes that are not UTF-8 as `\xff`, and
/// the backslash itself doubled, so that no two names are shown alike.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_runs(chunk.valid(), |character| character == '\\' || is_unsafe(character), &mut out);
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
    push_runs(text, is_unsafe, &mut out);
    out
}

/// Adds a text, escaped where `is_escaped` holds: what is between goes in as a whole, for most names have nothing else.
fn push_runs(text: &str, is_escaped: impl Fn(char) -> bool, out: &mut String) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_escaped(*character)) {
        out.push_str(&rest[..at]);
        push(character, out);
        rest = &rest[at + character.len_utf8()..];
    }
    out.push_str(rest);
}

/// A name that a process or a user chose, in a sentence: in quotation marks where it has anything but ASCII letters,
/// digits and `_.:@/+-`, so that it cannot be taken for a part of the sentence. `escaped` is what [`escape`] made.
pub fn quoted(escaped: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@/+-".contains(&byte);
    if !escaped.is_empty() && escaped.bytes().all(is_plain) {
        Cow::Borrowed(escaped)
    } else {
        Cow::Owned(in_quotes(escaped))
    }
}

/// A value in quotation marks; those in it are escaped.
pub fn in_quotes(escaped: &str) -> String {
    format!("\"{}\"", escaped.replace('"', "\\\""))
}

/// Adds one character, escaped.
fn push(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        _ if character.is_ascii() => {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
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

    #[test]
    fn spaces_and_invisible_characters_are_escaped() {
        let separators =
            ['\u{85}', '\u{a0}', '\u{1680}', '\u{2000}', '\u{2007}', '\u{200a}', '\u{2028}', '\u{2029}'];
        let others =
            ['\u{202f}', '\u{205f}', '\u{3000}', '\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{3164}'];
        let turning = ('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}')
            .chain(['\u{61c}', '\u{200e}', '\u{200f}']);
        for character in separators.into_iter().chain(others).chain(turning) {
            let text = character.to_string();
            assert!(
                escape(text.as_bytes()).is_ascii() && escape_again(&text).is_ascii(),
                "{}",
                text.escape_unicode()
            );
        }
        assert_eq!(escape(b"a b"), "a b");
    }

    #[test]
    fn only_plain_names_stand_without_quotation_marks() {
        for name in ["curl", "kworker/1:3", "getty@tty1.service", "libstdc++", "a_b-c.d"] {
            assert_eq!(quoted(name), name);
        }
        let cases = [("", r#""""#), ("a b", r#""a b""#), ("x[1]", r#""x[1]""#), ("a\"b", r#""a\"b""#)];
        let more = [("(sd-pam)", r#""(sd-pam)""#), ("größe", r#""größe""#), (r"a\\b", r#""a\\b""#)];
        for (name, expected) in cases.into_iter().chain(more) {
            assert_eq!(quoted(name), expected);
        }
    }

    /// What stands between the quotation mark at the beginning and the next one that is not escaped, and what follows.
    fn unquoted(text: &str) -> Option<(&str, &str)> {
        let inside = text.strip_prefix('"')?;
        let mut is_escaped = false;
        let end = inside.char_indices().find(|(_, character)| {
            let is_end = *character == '"' && !is_escaped;
            is_escaped = *character == '\\' && !is_escaped;
            is_end
        });
        let (end, _) = end?;
        Some((&inside[..end], &inside[end + 1..]))
    }

    proptest::proptest! {
        /// Whatever a name is, where it ends is known, and no two names are shown alike.
        #[test]
        fn a_name_cannot_end_its_quotation(one: Vec<u8>, other: Vec<u8>) {
            let (escaped, others) = (escape(&one), escape(&other));
            let shown = quoted(&escaped);
            if let Some((inside, rest)) = unquoted(&shown) {
                proptest::prop_assert_eq!((inside.replace("\\\"", "\""), rest), (escaped.clone(), ""));
            } else {
                proptest::prop_assert!(shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:@/+-".contains(&byte)));
            }
            proptest::prop_assert_eq!(shown == quoted(&others), one == other);
        }

        /// Text is what can be unsafe in many ways; bytes rarely are.
        #[test]
        fn whatever_the_text_is(text: String) {
            let escaped = escape(text.as_bytes());
            proptest::prop_assert!(!escaped.chars().any(is_unsafe));
            proptest::prop_assert!(!escaped.chars().any(|one| one.is_whitespace() && one != ' '));
        }

        #[test]
        fn whatever_the_bytes_are(bytes: Vec<u8>) {
            let escaped = escape(&bytes);
            proptest::prop_assert!(!escaped.chars().any(is_unsafe));
            proptest::prop_assert_eq!(escape_again(&escaped), escaped);
        }
    }
}
