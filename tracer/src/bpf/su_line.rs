//! The command that runs this very command as root, for a person to copy.

use std::env;

/// The command that runs this very command as root: `su -c '/home/ann/tracer --port 80'`.
pub(super) fn su_line() -> String {
    let program =
        env::current_exe().map_or_else(|_| "tracer".to_owned(), |path| path.to_string_lossy().into_owned());
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let command: Vec<_> = std::iter::once(program).chain(arguments).map(|word| quote(&word)).collect();
    format!("su -c {}", always_quote(&command.join(" ")))
}

/// For a POSIX shell.
fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:,@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { always_quote(word) }
}

fn always_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("/home/ann/tracer"), "/home/ann/tracer");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
