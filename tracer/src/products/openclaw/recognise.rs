//! Which processes are an OpenClaw gateway.

use crate::products::recognise::contains;

/// The gateway sets its own name to one that begins with this.
const NAME: &[u8] = b"openclaw-gatewa";

/// The package, in the path of the program or of its script.
const PACKAGE: &[u8] = b"openclaw";

/// The script of an installation whose path does not name the package.
const SCRIPT: &[u8] = b"dist/index.js";

/// The command that makes it a server and not a client.
const COMMAND: &[u8] = b"gateway";

/// The programs that run it.
pub const RUNNERS: [&str; 4] = ["openclaw", "openclaw-gateway", "node", "bun"];

/// Names of its processes.
pub const OWNER_NAMES: [&str; 2] = ["openclaw", "openclaw-gatewa"];

pub const BY: &str =
    "the name `openclaw-gatewa`, the arguments `openclaw gateway` or `dist/index.js gateway`";

/// Whether a process is a gateway, by its name and its arguments.
pub fn is_gateway(name: &[u8], arguments: &[&[u8]]) -> bool {
    name.starts_with(NAME) || is_run_by(arguments)
}

/// Whether a process is another command of the same program: one of its clients.
pub fn is_client(name: &[u8], arguments: &[&[u8]]) -> bool {
    let mut program = arguments.iter().take(2).filter(|word| !word.starts_with(b"-"));
    let is_own =
        name.starts_with(PACKAGE) || program.any(|word| contains(word, PACKAGE) || word.ends_with(SCRIPT));
    is_own && !is_gateway(name, arguments)
}

fn is_run_by(words: &[&[u8]]) -> bool {
    let is_script = |word: &[u8]| contains(word, PACKAGE) || word.ends_with(SCRIPT);
    let is_option = |word: &[u8]| word.is_empty() || word.starts_with(b"-");
    // The command is the first word behind the script that is not an option. It has commands of its own, and all but `run`
    // make it a client.
    (1..words.len()).any(|behind| {
        let mut rest = words[behind..].iter().copied();
        is_script(words[behind - 1])
            && rest.by_ref().find(|word| !is_option(word)) == Some(COMMAND)
            && rest.next().is_none_or(|word| is_option(word) || word == b"run")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_recognised_by_its_name_or_its_arguments() {
        let by_arguments = |arguments: &str| {
            let words: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
            is_gateway(b"node", &words)
        };
        assert!(is_gateway(b"openclaw-gatewa", &[]));
        assert!(by_arguments("node dist/index.js gateway --port 18789"));
        assert!(by_arguments("/usr/bin/node /usr/lib/node_modules/openclaw/openclaw.mjs gateway run"));
        assert!(by_arguments("/opt/openclaw-lab/node /opt/openclaw-lab/bin/openclaw gateway run"));
        assert!(!by_arguments("node /usr/bin/openclaw gateway probe"));
        assert!(!by_arguments("node dist/index.js health"));
        let is_client_by = |name: &str, arguments: &str| {
            let words: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
            is_client(name.as_bytes(), &words)
        };
        assert!(is_client_by("node", "/usr/bin/node /usr/lib/node_modules/openclaw/openclaw.mjs health"));
        assert!(is_client_by("openclaw", "openclaw"));
        assert!(!is_client_by("node", "/usr/bin/node openclaw.mjs gateway"));
        assert!(!is_client_by("node", "node app.js --name openclaw"));
        assert!(!by_arguments("node server.js gateway"));
        assert!(!by_arguments("vim openclaw.json"));
        assert!(!is_gateway(b"curl", &[b"curl", b"http://127.0.0.1:18789/"]));
    }
}
