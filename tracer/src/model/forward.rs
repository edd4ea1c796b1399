//! Which port leads where, by the arguments of a forwarder (`ssh -L`, socat, docker-proxy).
//!
//! Only what stands there is taken: a forward whose port or target is a name of a file, of a service or of a configuration is
//! not known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::text::Text;

/// Forwards of one process that are taken.
const FORWARDS_MAX: usize = 64;

/// Longest name of a host (RFC 1035).
const HOST_MAX: usize = 253;

/// A port that a process forwards over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Where it listens; `None`: the arguments leave the address to the program, or give a name.
    pub addr: Option<IpAddr>,
    pub port: u16,
    pub target: Target,
    pub target_port: u16,
}

/// Where a forward leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// An address, reached from where the process runs.
    Address(IpAddr),
    /// A host by its name, resolved where the process runs.
    Host(Text),
    /// A host, or a pod, as another machine calls it.
    Remote(Text),
    /// The container, whose address the arguments do not give.
    Container,
}

/// What a program forwards; empty: nothing that its arguments show. `words` begin with the name of the program.
pub fn forwards(program: &[u8], words: &[&[u8]]) -> Vec<Forward> {
    let arguments: Vec<&str> = words.iter().skip(1).map_while(|word| str::from_utf8(word).ok()).collect();
    let mut found = match program {
        b"docker-proxy" => docker_proxy(&arguments).into_iter().collect(),
        b"socat" | b"socat1" => socat(&arguments).into_iter().collect(),
        b"ssh" => ssh(&arguments),
        b"kubectl" => kubectl(&arguments),
        b"pasta" | b"pasta.avx2" => pasta(&arguments),
        b"rootlesskit" => rootlesskit(&arguments),
        _ => Vec::new(),
    };
    found.truncate(FORWARDS_MAX);
    found
}

/// The value of an option: `-name value`, `-name=value`, each with one dash or two.
fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    values(arguments, &[name]).next()
}

/// The values of an option in the order of the arguments.
fn values<'a, 'b>(
    arguments: &'b [&'a str],
    names: &'b [&str],
) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
    arguments.iter().enumerate().filter_map(move |(at, word)| {
        let option = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        match option.split_once('=') {
            Some((own, value)) => names.contains(&own).then_some(value),
            None if names.contains(&option) => arguments.get(at + 1).copied(),
            None => None,
        }
    })
}

fn port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a sign.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// An address, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// The address that a listener has for this text: `None`, that depends on the program.
fn listening(text: &str) -> Option<IpAddr> {
    if text == "*" { Some(Ipv4Addr::UNSPECIFIED.into()) } else { address(text) }
}

fn host(text: &str) -> Option<Text> {
    (!text.is_empty() && text.len() <= HOST_MAX).then(|| Text::from(text))
}

/// A host that is resolved where the process runs.
fn target(text: &str) -> Option<Target> {
    if text == "localhost" {
        return Some(Target::Address(Ipv4Addr::LOCALHOST.into()));
    }
    address(text).map(Target::Address).or_else(|| host(text).map(Target::Host))
}

/// `docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 3200 -container-ip 172.17.0.2 -container-port 80`.
fn docker_proxy(arguments: &[&str]) -> Option<Forward> {
    if value(arguments, "proto").is_some_and(|proto| proto != "tcp") {
        return None;
    }
    Some(Forward {
        addr: value(arguments, "host-ip").and_then(address),
        port: port(value(arguments, "host-port")?)?,
        target: Target::Address(address(value(arguments, "container-ip")?)?),
        target_port: port(value(arguments, "container-port")?)?,
    })
}

/// `socat TCP-LISTEN:3200,bind=127.0.0.1,fork TCP:172.17.0.2:80`: either address may stand first.
fn socat(arguments: &[&str]) -> Option<Forward> {
    let mut addresses = arguments.iter().filter(|word| word.contains(':') && !word.starts_with('-'));
    let (one, other) = (addresses.next()?, addresses.next()?);
    socat_pair(one, other).or_else(|| socat_pair(other, one))
}

fn socat_pair(listens: &str, connects: &str) -> Option<Forward> {
    let (keyword, rest) = listens.split_once(':')?;
    let is_listener = ["tcp-listen", "tcp4-listen", "tcp6-listen", "tcp-l", "tcp4-l", "tcp6-l"]
        .contains(&&*keyword.to_lowercase());
    let mut options = rest.split(',');
    let port = port(options.next()?)?;
    let addr = options.filter_map(|option| option.strip_prefix("bind=")).next_back().and_then(address);
    let (keyword, rest) = connects.split_once(':')?;
    let is_connect = ["tcp", "tcp4", "tcp6", "tcp-connect", "tcp4-connect", "tcp6-connect"]
        .contains(&&*keyword.to_lowercase());
    let (to, to_port) = rest.split(',').next()?.rsplit_once(':')?;
    let forward = Forward { addr, port, target: target(to)?, target_port: self::port(to_port)? };
    (is_listener && is_connect).then_some(forward)
}

/// Options of ssh that take a value (ssh(1)).
const SSH_WITH_VALUE: &str = "BbcDEeFIiJLlmOopQRSWw";

/// `ssh -N -L [bind:]3200:host:80 user@bastion`; the host is resolved by the other side.
fn ssh(arguments: &[&str]) -> Vec<Forward> {
    let mut forwards = Vec::new();
    let mut words = arguments.iter();
    let mut operands = 0;
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            operands += 1;
            // What follows the host is a command of the other side, which begins with no dash.
            if operands > 1 {
                break;
            }
            continue;
        };
        if letters == "-" {
            break;
        }
        // `-NL 3200:host:80`: one word of letters, the last of which takes a value.
        let Some((at, letter)) = letters.char_indices().find(|(_, letter)| SSH_WITH_VALUE.contains(*letter))
        else {
            continue;
        };
        let glued = &letters[at + letter.len_utf8()..];
        let value = if glued.is_empty() { words.next().copied().unwrap_or_default() } else { glued };
        let specification = match letter {
            'L' => Some(value.to_owned()),
            'o' => local_forward(value),
            _ => None,
        };
        forwards.extend(specification.and_then(|specification| ssh_forward(&specification)));
    }
    forwards
}

/// `LocalForward=3200 host:80`, as one text like that of `-L`.
fn local_forward(option: &str) -> Option<String> {
    let (name, value) = option.split_once(['=', ' '])?;
    let (listens, connects) = value.trim_start_matches(['=', ' ']).split_once(' ')?;
    name.trim().eq_ignore_ascii_case("LocalForward").then(|| format!("{listens}:{}", connects.trim()))
}

/// `[bind:]port:host:hostport`, with brackets around an IPv6 address. A path in place of a port or a host is a socket.
fn ssh_forward(specification: &str) -> Option<Forward> {
    if specification.contains('/') {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = specification;
    loop {
        let end =
            if rest.starts_with('[') { rest.find(']')? + 1 } else { rest.find(':').unwrap_or(rest.len()) };
        parts.push(&rest[..end]);
        match rest[end..].strip_prefix(':') {
            Some(more) => rest = more,
            None if end == rest.len() => break,
            None => return None,
        }
    }
    let (bind, listens, to, to_port) = match *parts {
        [listens, to, to_port] => (None, listens, to, to_port),
        [bind, listens, to, to_port] => (Some(bind), listens, to, to_port),
        _ => return None,
    };
    Some(Forward {
        addr: bind.and_then(listening),
        port: port(listens)?,
        target: Target::Remote(host(to)?),
        target_port: port(to_port)?,
    })
}

/// `kubectl -n shop port-forward svc/web 3200:80`.
fn kubectl(arguments: &[&str]) -> Vec<Forward> {
    let Some(command) = arguments.iter().position(|word| *word == "port-forward") else { return Vec::new() };
    let after = &arguments[command + 1..];
    let Some(resource) = after.iter().find(|word| !word.starts_with('-') && !word.contains(':')) else {
        return Vec::new();
    };
    let pairs = after.iter().filter_map(|word| {
        let (listens, connects) = word.split_once(':')?;
        Some((port(listens)?, port(connects)?))
    });
    let forward = |(port, target_port)| {
        Some(Forward { addr: None, port, target: Target::Remote(host(resource)?), target_port })
    };
    pairs.filter_map(forward).collect()
}

/// `pasta -t 127.0.0.1/3200:80,9000-9001:19000-19001`: ports of the container, also those that podman publishes.
fn pasta(arguments: &[&str]) -> Vec<Forward> {
    let glued = arguments.iter().filter_map(|word| word.strip_prefix("-t")).filter(|value| !value.is_empty());
    let specifications = values(arguments, &["t", "tcp-ports"]).chain(glued);
    specifications.flat_map(|one| one.split(',')).flat_map(pasta_ports).collect()
}

/// `[address[%interface]/]ports[:ports]`.
fn pasta_ports(specification: &str) -> Vec<Forward> {
    let (addr, ports) = specification
        .split_once('/')
        .map_or((None, specification), |(addr, ports)| (addr.split('%').next().and_then(address), ports));
    let (from, to) = ports.split_once(':').unwrap_or((ports, ports));
    let (Some(from), Some(to)) = (range(from), range(to)) else { return Vec::new() };
    if from.len() != to.len() {
        return Vec::new();
    }
    let forward = |(port, target_port)| Forward { addr, port, target: Target::Container, target_port };
    from.zip(to).take(FORWARDS_MAX).map(forward).collect()
}

/// `80`, `80-82`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// `rootlesskit --publish 0.0.0.0:3200:80/tcp`.
fn rootlesskit(arguments: &[&str]) -> Vec<Forward> {
    let forward = |specification: &str| {
        let ports = specification.strip_suffix("/tcp").unwrap_or(specification);
        let (rest, to) = ports.rsplit_once(':')?;
        let (addr, from) = rest.rsplit_once(':').map_or((None, rest), |(addr, from)| (address(addr), from));
        Some(Forward { addr, port: port(from)?, target: Target::Container, target_port: port(to)? })
    };
    values(arguments, &["p", "publish"]).filter_map(forward).collect()
}

impl Forward {
    /// Whether a listener on this address is the one that the arguments ask for.
    pub fn listens_on(&self, addr: IpAddr) -> bool {
        self.addr.is_none_or(|own| {
            own == addr || own.is_unspecified() && addr == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `addr:port > target:port`, one a forward.
    fn shown(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let program = super::super::path::file_name(words[0]);
        let one = |forward: Forward| {
            let addr = forward.addr.map_or_else(|| "?".to_owned(), |addr| addr.to_string());
            let target = match forward.target {
                Target::Address(addr) => format!("={addr}"),
                Target::Host(name) => format!("{name:?}"),
                Target::Remote(name) => format!("~{name:?}"),
                Target::Container => "inside".to_owned(),
            };
            format!("{addr} {} > {target} {}", forward.port, forward.target_port)
        };
        forwards(program, &words).into_iter().map(one).collect::<Vec<_>>().join(", ").replace('"', "")
    }

    #[test]
    fn the_arguments_of_a_forwarder_give_its_ports() {
        for (line, expected) in [
            (
                "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 3200 -container-ip 172.17.0.2 -container-port 80 \
                 -use-listen-fd",
                "0.0.0.0 3200 > =172.17.0.2 80",
            ),
            (
                "docker-proxy --proto=tcp --host-ip=:: --host-port=3200 --container-ip=fd00::2 --container-port=80",
                ":: 3200 > =fd00::2 80",
            ),
            ("socat TCP-LISTEN:3200,fork,reuseaddr TCP:172.17.0.2:80", "? 3200 > =172.17.0.2 80"),
            (
                "socat -d -d tcp4-l:3200,bind=127.0.0.1 TCP4:db.internal:80,retry=3",
                "127.0.0.1 3200 > db.internal 80",
            ),
            ("socat TCP6:[fd00::2]:80 TCP6-LISTEN:3200,bind=[::1]", "::1 3200 > =fd00::2 80"),
            ("socat TCP-LISTEN:3200 TCP:localhost:80", "? 3200 > =127.0.0.1 80"),
            ("ssh -N -L 3200:db:80 ann@bastion", "? 3200 > ~db 80"),
            (
                "ssh -fNL127.0.0.1:3200:db:80 -L 3201:[fd00::2]:81 bastion",
                "127.0.0.1 3200 > ~db 80, ? 3201 > ~[fd00::2] 81",
            ),
            ("ssh -i key bastion -o LocalForward=*:3200_db:80", ""),
            ("ssh -p 2222 -L *:3200:localhost:80 bastion", "0.0.0.0 3200 > ~localhost 80"),
            (
                "kubectl -n shop port-forward svc/web 3200:80 9090:9090",
                "? 3200 > ~svc/web 80, ? 9090 > ~svc/web 9090",
            ),
            (
                "pasta --config-net -t 127.0.0.1/3200:80,9000-9001:19000-19001 -u none --netns /run/netns/a",
                "127.0.0.1 3200 > inside 80, ? 9000 > inside 19000, ? 9001 > inside 19001",
            ),
            (
                "rootlesskit --net=slirp4netns --publish 127.0.0.1:3200:80/tcp dockerd",
                "127.0.0.1 3200 > inside 80",
            ),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        let option = ["ssh", "-o", "LocalForward 127.0.0.1:3200 db:80", "bastion"].map(str::as_bytes);
        assert_eq!(forwards(b"ssh", &option).len(), 1);
    }

    #[test]
    fn what_the_arguments_do_not_give_is_not_a_forward() {
        for line in [
            "docker-proxy -proto udp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53",
            "docker-proxy -proto tcp -host-port 3200",
            "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 0 -container-ip 172.17.0.2 -container-port 80",
            "rootlessport",
            "socat UNIX-LISTEN:/run/a TCP:172.17.0.2:80",
            "socat TCP-LISTEN:http TCP:172.17.0.2:80",
            "socat TCP-LISTEN:3200 EXEC:cat",
            "ssh bastion",
            "ssh -D 3200 bastion",
            "ssh -R 3200:db:80 bastion",
            "ssh -L 3200:/run/db.sock bastion",
            "ssh bastion echo -L 3200:db:80",
            "kubectl get pods",
            "kubectl port-forward pod/web :80",
            "pasta -t none -u none",
            "pasta -t 3200-3201:80",
            "nginx -L 3200:db:80",
            "",
        ] {
            assert_eq!(shown(line), "", "{line}");
        }
    }

    #[test]
    fn a_listener_is_the_one_that_was_asked_for() {
        let at = |addr: Option<&str>| Forward {
            addr: addr.map(|addr| addr.parse().unwrap()),
            port: 3200,
            target: Target::Container,
            target_port: 80,
        };
        let is = |asked, got: &str| at(asked).listens_on(got.parse().unwrap());
        assert!(is(None, "127.0.0.1") && is(Some("127.0.0.1"), "127.0.0.1") && is(Some("0.0.0.0"), "::"));
        assert!(!is(Some("127.0.0.1"), "10.0.0.1") && !is(Some("0.0.0.0"), "127.0.0.1"));
    }
}
