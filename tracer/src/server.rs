//! Which processes claim to be the server that is waited for.
//!
//! A table, the OpenClaw gateway its only entry yet: another server is one more. A name is a claim, never proof:
//! what a process is told from what its sockets do.

use crate::claims::Product;
use crate::claims::openclaw::OpenClaw;

/// A server as its processes show it.
struct Server {
    product: &'static dyn Product,
    /// Its own name for its process begins with this.
    name: &'static [u8],
    /// Programs that run it, by the first eight bytes of their names.
    runners: &'static [&'static str],
    /// Its package, in the path of the program or of its script.
    package: &'static [u8],
    /// The script of an installation whose path does not name the package.
    script: &'static [u8],
    /// The argument that makes it a server and not a client.
    command: &'static [u8],
}

const SERVERS: [Server; 1] = [Server {
    product: &OpenClaw,
    name: b"openclaw-gatewa",
    runners: &["openclaw", "node", "bun"],
    package: b"openclaw",
    script: b"dist/index.js",
    command: b"gateway",
}];

/// Arguments that are looked at: the program's options come before its command.
const ARGUMENTS: usize = 16;

/// What a user waits for.
#[derive(Clone, Debug, Default)]
pub struct Recognition {
    /// Text in the name or the arguments of a server that the table does not have.
    pub pattern: Option<String>,
}

impl Recognition {
    /// First letters of the programs that may become a server; `None`: any may.
    pub fn runners(&self) -> Option<Vec<&'static str>> {
        match self.pattern {
            Some(_) => None,
            None => Some(SERVERS.iter().flat_map(|server| server.runners).copied().collect()),
        }
    }

    /// What a process claims to be, by its name and its arguments, which end with a NUL each: `None`, no server;
    /// `Some(None)`, the one that the user's pattern names.
    pub fn recognise(&self, name: &[u8], arguments: &[u8]) -> Option<Option<&'static dyn Product>> {
        let known =
            SERVERS.iter().find(|server| name.starts_with(server.name) || server.is_run_by(arguments));
        match known {
            Some(server) => Some(Some(server.product)),
            None => self.is_wanted(name, arguments).then_some(None),
        }
    }

    fn is_wanted(&self, name: &[u8], arguments: &[u8]) -> bool {
        let Some(pattern) = self.pattern.as_deref().map(str::as_bytes) else {
            return false;
        };
        let spaced: Vec<u8> = arguments.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
        contains(name, pattern) || contains(&spaced, pattern)
    }
}

impl Server {
    fn is_run_by(&self, arguments: &[u8]) -> bool {
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).take(ARGUMENTS).collect();
        let is_it = |word: &[u8]| contains(word, self.package) || word.ends_with(self.script);
        let is_option = |word: &[u8]| word.is_empty() || word.starts_with(b"-");
        // The command is the first word behind the script that is no option; it has commands of its own, and
        // all but one make a client.
        (1..words.len()).any(|behind| {
            let mut rest = words[behind..].iter().copied();
            is_it(words[behind - 1])
                && rest.by_ref().find(|word| !is_option(word)) == Some(self.command)
                && rest.next().is_none_or(|word| is_option(word) || word == b"run")
        })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_by_its_name_and_by_its_arguments() {
        let recognition = Recognition::default();
        let by_arguments = |arguments: &str| {
            recognition.recognise(b"node", arguments.replace(' ', "\0").as_bytes()).is_some()
        };
        assert_eq!(recognition.recognise(b"openclaw-gatewa", b""), Some(Some(&OpenClaw as &dyn Product)));
        assert!(by_arguments("node dist/index.js gateway --port 18789"));
        assert!(by_arguments("/usr/bin/node /usr/lib/node_modules/openclaw/openclaw.mjs gateway run"));
        assert!(by_arguments("/opt/openclaw-lab/node /opt/openclaw-lab/bin/openclaw gateway run"));
        assert!(!by_arguments("node /usr/bin/openclaw gateway probe"));
        assert!(!by_arguments("node dist/index.js health"));
        assert!(!by_arguments("node server.js gateway"));
        assert!(!by_arguments("vim openclaw.json"));
        assert_eq!(recognition.recognise(b"curl", b"curl\0http://127.0.0.1:18789/\0"), None);
    }

    #[test]
    fn a_pattern_is_looked_for_in_name_and_arguments() {
        let recognition = Recognition { pattern: Some("my server".into()) };
        assert_eq!(recognition.recognise(b"python3", b"python3\0my\0server\0"), Some(None));
        assert_eq!(recognition.recognise(b"my server", b""), Some(None));
        assert_eq!(recognition.recognise(b"python3", b"python3\0other\0"), None);
        assert!(recognition.runners().is_none());
    }
}
