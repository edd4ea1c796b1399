//! Which processes are servers: those of the registered products, and those that the user's own pattern names.
//!
//! Names and arguments are a process's own choice. What a process does is known from its sockets.

use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::path;
use crate::model::process::Text;
use crate::model::program;
use crate::products::{ProductRef, registry};

/// Servers that root starts and that give up root before they listen. Their starts are recorded from the beginning, for the
/// user that started them, which nothing shows later.
const GIVE_UP_ROOT: [&str; 14] = [
    "mosquitto",
    "mariadbd",
    "mysqld",
    "memcached",
    "haproxy",
    "lighttpd",
    "named",
    "dnsmasq",
    "unbound",
    "pdns_server",
    "slapd",
    "squid",
    "vsftpd",
    "beanstalkd",
];

/// Arguments that are examined: the options of a program come before its command.
const ARGUMENTS_MAX: usize = 32;

/// A server of the user's own: `--server [PORT=]PATTERN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The port that it is the server of; `None`: any watched one.
    pub port: Option<NonZeroU16>,
    /// Text in the name of its process, of its program or of its script.
    pub text: String,
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbered = text.split_once('=').and_then(|(port, text)| Some((port.parse().ok()?, text)));
        let (port, text) = numbered.map_or((None, text), |(port, text)| (Some(port), text));
        if text.is_empty() { Err("it is empty") } else { Ok(Self { port, text: text.to_owned() }) }
    }
}

/// Which processes may be a server.
#[derive(Clone, Debug, Default)]
pub struct Recognition {
    /// Servers of other products.
    pub patterns: Vec<Pattern>,
}

/// What a process is named like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Product(ProductRef),
    /// One of the user's patterns names it.
    Pattern {
        port: Option<NonZeroU16>,
    },
}

impl Recognition {
    /// The names of programs that may become a server, or whose user at the start is to be known, of which the kernel compares
    /// the first fifteen bytes; `None`: any program may.
    pub fn runners(&self) -> Option<Vec<&'static str>> {
        let of_products = || registry().iter().flat_map(|product| product.runners());
        let runners = || of_products().chain(&GIVE_UP_ROOT).copied().collect();
        self.patterns.is_empty().then(runners)
    }

    /// The product that a process is a client of, by the same.
    pub fn client(name: &[u8], executable: Option<&[u8]>, arguments: &[u8]) -> Option<ProductRef> {
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).take(ARGUMENTS_MAX).collect();
        let first = words.first().map(|word| path::file_name(word)).unwrap_or_default();
        let program = executable.unwrap_or(first);
        let is_other = program::is_launcher(program, &words) || program::is_reader(program);
        registry().iter().find(|product| !is_other && product.recognises_client(name, &words)).copied()
    }

    /// The server that a process is named like, by the name of the process, the file name of its executable, where that is
    /// known, and its arguments, which end with a NUL each.
    ///
    /// A program that starts others, reads files or makes requests is not a server, whatever its arguments name.
    pub fn recognise(&self, name: &[u8], executable: Option<&[u8]>, arguments: &[u8]) -> Option<Named> {
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).take(ARGUMENTS_MAX).collect();
        let first = words.first().map(|word| path::file_name(word)).unwrap_or_default();
        let program = executable.unwrap_or(first);
        if program::is_launcher(program, &words) || program::is_reader(program) {
            return None;
        }
        if let Some(product) = registry().iter().find(|product| product.recognises(name, &words)) {
            return Some(Named::Product(*product));
        }
        let script = program::script(program, &words).or_else(|| program::script(first, &words));
        let script = script.as_ref().map(Text::as_bytes).unwrap_or_default();
        let is_it = |pattern: &&Pattern| {
            [name, program, first, script].iter().any(|text| contains(text, pattern.text.as_bytes()))
        };
        self.patterns.iter().find(is_it).map(|pattern| Named::Pattern { port: pattern.port })
    }
}

/// Whether a text has this part; no text has the empty one.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognition(patterns: &[&str]) -> Recognition {
        Recognition { patterns: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect() }
    }

    fn named(recognition: &Recognition, line: &str) -> Option<Named> {
        let arguments = line.replace(' ', "\0") + "\0";
        let name = line.split(' ').next().unwrap();
        recognition.recognise(name.rsplit('/').next().unwrap().as_bytes(), None, arguments.as_bytes())
    }

    #[test]
    fn a_pattern_is_searched_in_the_names_of_program_and_script() {
        let own = recognition(&["my-server"]);
        let any = Some(Named::Pattern { port: None });
        for line in [
            "/opt/my-server --port 80",
            "python3 /srv/my-server.py",
            "java -jar lib/my-server.jar",
            "node my-server.js",
        ] {
            assert_eq!(named(&own, line), any, "{line}");
        }
        assert_eq!(
            own.recognise(b"my-server", Some(b"python3"), b""),
            any,
            "by the name that it gave itself"
        );
    }

    #[test]
    fn a_bystander_is_not_a_server() {
        let own = recognition(&["my-server"]);
        for line in [
            "tail -f /var/log/my-server.log",
            "vim my-server.conf",
            "sh -c my-server",
            "sudo my-server",
            "ip netns exec a my-server",
            "curl http://my-server/",
            "python3 other.py my-server",
            "supervisor my-server",
        ] {
            assert_eq!(named(&own, line), None, "{line}");
        }
    }

    #[test]
    fn a_pattern_may_be_for_one_port() {
        let two = recognition(&["9000=php-fpm", "nginx"]);
        assert_eq!(
            named(&two, "php-fpm --nodaemonize"),
            Some(Named::Pattern { port: NonZeroU16::new(9000) })
        );
        assert_eq!(named(&two, "nginx -g x"), Some(Named::Pattern { port: None }));
        assert!(two.runners().is_none());
        assert_eq!("a=b".parse(), Ok(Pattern { port: None, text: "a=b".to_owned() }));
        for wrong in ["", "80="] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
