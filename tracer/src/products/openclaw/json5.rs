//! A walk through JSON5 that keeps nothing of it: the visitor sees each value with the keys that lead to it, as
//! a piece of the text.
//!
//! Not by a library: those build the whole document, secrets included, and follow its nesting by recursion. This
//! one copies no value, and refuses what is nested deeper than [`DEPTH_MAX`]. It takes what JSON5 takes
//! (<https://spec.json5.org>) and is lenient about what it need not know: how a number is written, and the exact
//! letters of a bare key.

use std::borrow::Cow;
use std::fmt;

/// Objects and arrays inside of one another.
pub const DEPTH_MAX: usize = 64;

/// Why a text is not JSON5, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte from the beginning.
    pub at: usize,
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON5: {} at byte {}", self.why, self.at)
    }
}

impl std::error::Error for Malformed {}

/// A value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Object,
    Array,
    /// What stands between the quotes.
    String(&'a str),
    /// A number, `true`, `false` or `null`.
    Word(&'a str),
}

impl<'a> Value<'a> {
    /// The text of a string, its escapes resolved.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::String(raw) => unescape(raw),
            Self::Object | Self::Array | Self::Word(_) => None,
        }
    }

    /// A whole number from 0 to 65535.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Word(word) => {
                let number: f64 = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
                    Some(digits) => f64::from(u32::from_str_radix(digits, 16).ok()?),
                    None => word.strip_prefix('+').unwrap_or(word).parse().ok()?,
                };
                let is_port = number.fract() == 0.0 && (0.0..=65_535.0).contains(&number);
                is_port.then_some(number as u16)
            }
            Self::Object | Self::Array | Self::String(_) => None,
        }
    }
}

/// Calls `visit` with the keys and the value of everything in `text`, in order; an object or array comes before what
/// is in it. Of a key that stands twice both are seen, and the last one counts. In an array each value has the
/// key `[]`.
///
/// # Errors
/// When the text is not JSON5, or nested too deep: by then some of it has been visited.
pub fn walk<'a>(text: &'a str, mut visit: impl FnMut(&[Cow<'a, str>], Value<'a>)) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0 };
    let mut open: Vec<Container> = Vec::new();
    let mut path: Vec<Cow<'a, str>> = Vec::new();
    reader.skip_space()?;
    loop {
        // A value stands here.
        let value = reader.value()?;
        visit(&path, value);
        let opened = match value {
            Value::Object => Some(Container::Object),
            Value::Array => Some(Container::Array),
            Value::String(_) | Value::Word(_) => None,
        };
        if let Some(container) = opened {
            if open.len() == DEPTH_MAX {
                return Err(reader.malformed("nested too deep"));
            }
            open.push(container);
            if reader.begin_next(container, true, &mut path)? {
                continue;
            }
            open.pop();
        }
        // A value has ended here: so may have what it is in.
        loop {
            let Some(container) = open.last().copied() else {
                reader.skip_space()?;
                return if reader.rest().is_empty() {
                    Ok(())
                } else {
                    Err(reader.malformed("more behind its end"))
                };
            };
            path.pop();
            if reader.begin_next(container, false, &mut path)? {
                break;
            }
            open.pop();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn malformed(&self, why: &'static str) -> Malformed {
        Malformed { at: self.at, why }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// White space and comments.
    fn skip_space(&mut self) -> Result<(), Malformed> {
        loop {
            let rest = self.rest();
            let trimmed =
                rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}');
            self.at += rest.len() - trimmed.len();
            if self.take("//") {
                let line = self.rest();
                let end = line.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(line.len());
                self.at += end;
            } else if self.take("/*") {
                let Some(end) = self.rest().find("*/") else {
                    return Err(self.malformed("a comment without end"));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// Goes to the next value of a container, past its key; false at its end.
    fn begin_next(
        &mut self,
        container: Container,
        is_first: bool,
        path: &mut Vec<Cow<'a, str>>,
    ) -> Result<bool, Malformed> {
        let end = if container == Container::Object { "}" } else { "]" };
        self.skip_space()?;
        if !is_first && !self.take(",") {
            return if self.take(end) {
                Ok(false)
            } else {
                Err(self.malformed("a comma or an end is missing"))
            };
        }
        self.skip_space()?;
        if self.take(end) {
            return Ok(false);
        }
        if container == Container::Array {
            path.push(Cow::Borrowed("[]"));
            return Ok(true);
        }
        let key = self.key()?;
        self.skip_space()?;
        if !self.take(":") {
            return Err(self.malformed("a colon is missing"));
        }
        self.skip_space()?;
        path.push(key);
        Ok(true)
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if let Some(raw) = self.string()? {
            return unescape(raw).ok_or_else(|| self.malformed("an escape that means nothing"));
        }
        self.word().map(Cow::Borrowed)
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        if self.take("{") {
            return Ok(Value::Object);
        }
        if self.take("[") {
            return Ok(Value::Array);
        }
        match self.string()? {
            Some(raw) => Ok(Value::String(raw)),
            None => self.word().map(Value::Word),
        }
    }

    /// What stands between quotes, if a quote is here.
    fn string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let Some(quote) = self.rest().chars().next().filter(|letter| matches!(letter, '"' | '\'')) else {
            return Ok(None);
        };
        let inside = &self.rest()[1..];
        let mut is_escaped = false;
        for (index, letter) in inside.char_indices() {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '\n' | '\r' => break,
                _ if letter == quote => {
                    self.at += 1 + index + 1;
                    return Ok(Some(&inside[..index]));
                }
                _ => {}
            }
        }
        Err(self.malformed("a string without end"))
    }

    /// A bare key, a number or a literal.
    fn word(&mut self) -> Result<&'a str, Malformed> {
        let rest = self.rest();
        let is_part = |letter: char| letter.is_alphanumeric() || "_$+-.".contains(letter);
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.malformed("a value or a key is missing"));
        }
        self.at += end;
        Ok(&rest[..end])
    }
}

/// The text that a string means; `None`: an escape is cut or names no character.
fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    let mut letters = raw.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next()? {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '0' => text.push('\0'),
            'x' => text.push(char::from_u32(hexadecimal(&mut letters, 2)?)?),
            'u' => text.push(utf16(&mut letters)?),
            // A line that goes on in the next.
            '\n' | '\u{2028}' | '\u{2029}' => {}
            '\r' => {
                let mut ahead = letters.clone();
                if ahead.next() == Some('\n') {
                    letters = ahead;
                }
            }
            other => text.push(other),
        }
    }
    Some(Cow::Owned(text))
}

/// The character of four digits, or of a pair of surrogates. Half of a pair is not a character.
fn utf16(letters: &mut std::str::Chars<'_>) -> Option<char> {
    let first = hexadecimal(letters, 4)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    let pair = [letters.next()?, letters.next()?];
    let second = hexadecimal(letters, 4)?;
    let is_pair = pair == ['\\', 'u'] && (0xdc00..0xe000).contains(&second);
    is_pair.then(|| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)))?
}

/// The number of so many digits.
fn hexadecimal(letters: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + letters.next()?.to_digit(16)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Every scalar as `a.b = value`.
    fn scalars(text: &str) -> Result<Vec<String>, Malformed> {
        let mut found = Vec::new();
        walk(text, |path, value| match value {
            Value::String(raw) => found.push(format!("{} = \"{raw}\"", path.join("."))),
            Value::Word(word) => found.push(format!("{} = {word}", path.join("."))),
            Value::Object | Value::Array => {}
        })?;
        Ok(found)
    }

    #[test]
    fn values_come_with_the_keys_that_lead_to_them() {
        let text = r#"// the gateway
            { gateway: { 'bind': "lan", port: 0x4965, /* not yet */ auth: { "token": 'a"b', }, list: [1, [2], {x: 3}], },
              $include: "./more.json5", a_b: +1.5e3, "\u0061": null }"#;
        assert_eq!(
            scalars(text).unwrap(),
            [
                "gateway.bind = \"lan\"",
                "gateway.port = 0x4965",
                "gateway.auth.token = \"a\"b\"",
                "gateway.list.[] = 1",
                "gateway.list.[].[] = 2",
                "gateway.list.[].x = 3",
                "$include = \"./more.json5\"",
                "a_b = +1.5e3",
                "a = null",
            ]
        );
    }

    #[test]
    fn a_document_may_be_empty_or_no_object() {
        assert_eq!(scalars("{}").unwrap(), [""; 0]);
        assert_eq!(scalars("[]").unwrap(), [""; 0]);
        assert_eq!(scalars("{a:{},b:[],}").unwrap(), [""; 0]);
        assert_eq!(scalars(" 'x' ").unwrap(), [" = \"x\""]);
        assert_eq!(scalars("\u{feff}{a:1}\n").unwrap(), ["a = 1"]);
    }

    #[test]
    fn invalid_json5_is_rejected() {
        for text in [
            "",
            "{",
            "}",
            "{a}",
            "{a:}",
            "{a:1",
            "{a:1 b:2}",
            "[1 2]",
            "[,]",
            "{,}",
            "{a:1}}",
            "{a:1}{",
            "'x",
            "\"x\ny\"",
            "{a:'\\",
            "/* x",
            "{a:\0}",
            "{a:1}x",
            "{\"\\ud800\":1}",
            "{\"\\u00\":1}",
            "root:x:0:0:root:/root:/bin/bash",
        ] {
            assert!(scalars(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(scalars(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(scalars(&nested(DEPTH_MAX + 1)).unwrap_err().why, "nested too deep");
        assert!(scalars(&"[".repeat(1_000_000)).is_err());
        assert!(scalars(&"{a:".repeat(300_000)).is_err());
    }

    /// JSON of any shape, a few levels deep.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        scalar.prop_recursive(4, 24, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_json5(value in json()) {
            let mut texts = 0;
            let compact = value.to_string();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            for text in [&compact, &pretty] {
                walk(text, |_, value| texts += usize::from(value.text().is_some())).unwrap();
            }
            prop_assert_eq!(texts, 2 * strings(&value));
        }

        #[test]
        fn no_string_is_longer_than_it_is_written(
            text in r#"([\[\]{},:a'"/* \n\r\x00-]|\\u|41|x4|ud83e|\\udd9e|//|0x|1e3|\x{1f99e}){0,60}"#
        ) {
            let _ = walk(&text, |path, value| {
                assert!(path.len() <= DEPTH_MAX);
                let _ = value.port();
                if let Value::String(raw) = value {
                    assert!(value.text().is_none_or(|text| text.len() <= raw.len()));
                }
            });
        }
    }

    /// The strings of a document, keys apart.
    fn strings(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::String(_) => 1,
            serde_json::Value::Array(values) => values.iter().map(strings).sum(),
            serde_json::Value::Object(values) => values.values().map(strings).sum(),
            _ => 0,
        }
    }

    #[test]
    fn escapes_in_strings_are_resolved() {
        let text = |raw: &str| Value::String(raw).text().map(Cow::into_owned);
        assert_eq!(text("plain").as_deref(), Some("plain"));
        assert_eq!(
            text(
                r#"a\n\t\"\x41B\
b"#
            )
            .as_deref(),
            Some("a\n\t\"ABb")
        );
        assert_eq!(text(r"\ud83e\udd9e!").as_deref(), Some("\u{1f99e}!"));
        for half in [r"\ud83e", r"\ud83e\u0041", r"\ud83e\n0041", r"\udd9e"] {
            assert_eq!(text(half), None, "{half}");
        }
        assert_eq!(text(r"\u12"), None);
        assert_eq!(text("\\"), None);
    }

    #[test]
    fn a_port_is_a_whole_number_in_range() {
        let port = |word| Value::Word(word).port();
        assert_eq!(port("18789"), Some(18_789));
        assert_eq!(port("0x4965"), Some(18_789));
        assert_eq!(port("1.8789e4"), Some(18_789));
        for word in ["65536", "-1", "1.5", "1e999", "NaN", "Infinity", "true", "99999999999999999999999"] {
            assert_eq!(port(word), None, "{word}");
        }
        assert_eq!(Value::String("18789").port(), None);
    }
}
