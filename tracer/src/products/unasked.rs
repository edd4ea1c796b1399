//! Servers that ask their clients for nothing unless they are set up to: what makes them ask.

use crate::model::process::{Process, Text};
use crate::model::service;

/// Programs by their file names, or their scripts, and what makes them ask a client who it is.
struct Unasked {
    programs: &'static [&'static [u8]],
    asks_by: &'static str,
}

const UNASKED: [Unasked; 6] = [
    Unasked { programs: &[b"memcached"], asks_by: "SASL (memcached -S)" },
    Unasked {
        programs: &[b"redis-server", b"valkey-server", b"keydb-server"],
        asks_by: "requirepass or an ACL",
    },
    Unasked { programs: &[b"mongod", b"mongos"], asks_by: "security.authorization" },
    Unasked { programs: &[b"etcd"], asks_by: "--client-cert-auth" },
    Unasked {
        programs: &[b"org.elasticsearch.bootstrap.Elasticsearch", b"org.opensearch.bootstrap.OpenSearch"],
        asks_by: "its security plugin",
    },
    Unasked { programs: &[b"dockerd"], asks_by: "--tlsverify" },
];

/// What makes a server ask its clients who they are; `None`: its program is not known to do without.
pub fn asks_by(process: &Process) -> Option<&'static str> {
    let program = service::program_of(process).unwrap_or_default();
    let script = process.script.as_ref().map(Text::as_bytes).unwrap_or_default();
    let is_it = |one: &&Unasked| one.programs.contains(&program) || one.programs.contains(&script);
    UNASKED.iter().find(is_it).map(|one| one.asks_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_file_name_or_its_script() {
        let process = |exe: &str, script: Option<&str>| Process {
            exe: Some(exe.into()),
            script: script.map(Into::into),
            ..Process::default()
        };
        assert_eq!(asks_by(&process("/usr/bin/memcached", None)), Some("SASL (memcached -S)"));
        let java = |script| asks_by(&process("/usr/bin/java", Some(script)));
        assert_eq!(java("org.elasticsearch.bootstrap.Elasticsearch"), Some("its security plugin"));
        assert_eq!((java("org.example.Main"), asks_by(&process("/usr/sbin/nginx", None))), (None, None));
    }

    #[test]
    fn each_program_is_listed_once() {
        let mut programs: Vec<&[u8]> = UNASKED.iter().flat_map(|one| one.programs).copied().collect();
        let count = programs.len();
        programs.sort_unstable();
        programs.dedup();
        assert_eq!(programs.len(), count);
    }
}
