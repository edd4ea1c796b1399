//! The argument of `--netns`: which network namespace a person means by it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::netns::{NAMES, find, names, open, parse_id, shown};
use crate::model::socket::NetnsId;

/// What `--netns` names is not there, or not a network namespace.
#[derive(Debug)]
pub struct NotFound {
    argument: String,
    /// Each path that was tried, and what was wrong with it.
    pub tried: Vec<(PathBuf, io::Error)>,
}

impl NotFound {
    pub const HINT: &str = "`ip netns` lists those with a name, `lsns -t net` those of processes";
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no network namespace `{}`", self.argument)?;
        for (index, (path, err)) in self.tried.iter().enumerate() {
            let separator = if index == 0 { ": tried" } else { ";" };
            write!(f, "{separator} `{}`: {err}", path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for NotFound {}

/// The namespace that a person means by `NAME`, `/PATH`, `PID`, or `net:[NUMBER]` as tracer prints it. A
/// name of digits only goes before the process of that number.
pub fn resolve(argument: &str) -> Result<(NetnsId, Option<String>), NotFound> {
    let named = |id| names().into_iter().find_map(|(named, name)| (named == id).then(|| shown(&name)));
    let mut tried = Vec::new();
    if let Some(id) = parse_id(argument.as_bytes()) {
        if let Some(place) = find(id, None) {
            return Ok((id, place.name));
        }
        tried.push((PathBuf::from("/proc/*/ns/net"), io::ErrorKind::NotFound.into()));
    } else {
        let mut ways = Vec::new();
        if argument.contains('/') {
            ways.push(PathBuf::from(argument));
        } else {
            ways.push(Path::new(NAMES).join(argument));
            if !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit()) {
                ways.push(PathBuf::from(format!("/proc/{argument}/ns/net")));
            }
        }
        for way in ways {
            match open(&way) {
                Ok((_, id)) => {
                    let name = way.strip_prefix(NAMES).ok().map(|name| shown(name.as_os_str()));
                    return Ok((id, name.or_else(|| named(id))));
                }
                Err(err) => tried.push((way, err)),
            }
        }
    }
    Err(NotFound { argument: argument.to_owned(), tried })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::own;

    #[test]
    fn the_argument_may_be_a_process_or_a_path_and_an_error_lists_what_was_tried() {
        let own = own().unwrap();
        assert_eq!(resolve(&std::process::id().to_string()).unwrap().0, own);
        assert_eq!(resolve("/proc/thread-self/ns/net").unwrap().0, own);
        assert_eq!(resolve(&own.to_string()).unwrap().0, own);

        let error = resolve("/proc/self/ns/mnt").unwrap_err().to_string();
        assert!(error.contains("`/proc/self/ns/mnt`: not a network namespace"), "{error}");
        let error = resolve("4294967294").unwrap_err().to_string();
        assert!(
            error.contains("`/run/netns/4294967294`") && error.contains("`/proc/4294967294/ns/net`"),
            "{error}"
        );
    }
}
