//! The addresses and ports that `tracer status` is asked about.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;

use anyhow::Result;

use crate::cli::{Host, Status, Target};
use crate::exit::Failure;

/// The names of this host.
const HOSTS: &str = "/etc/hosts";

/// How much of them is read.
const HOSTS_MAX: u64 = 1 << 20;

/// The addresses and ports asked about, in order.
///
/// # Errors
/// When a name is not in `/etc/hosts`.
pub fn targets(options: &Status) -> Result<Vec<(IpAddr, u16)>> {
    let default = options.ports.list()?;
    let mut targets = Vec::new();
    for Target { host, port } in &options.targets {
        let addrs = match host {
            Host::Addresses(addrs) => addrs.clone(),
            Host::Name(name) => resolve(name)?,
        };
        let ports = port.map_or_else(|| default.clone(), |port| vec![port.get()]);
        let of_addr = |addr: &IpAddr| ports.iter().map(|port| (*addr, *port)).collect::<Vec<_>>();
        targets.extend(addrs.iter().flat_map(of_addr));
    }
    Ok(targets)
}

/// The addresses that the host's own table gives a name: what is asked about is on this host, and a static program can load
/// no resolver.
fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let mut table = String::new();
    // A file that cannot be read knows no name.
    let _ = File::open(HOSTS).and_then(|file| file.take(HOSTS_MAX).read_to_string(&mut table));
    let addrs = addresses_of(name, &table);
    let unknown = || Failure::usage(format!("`{name}` is not in {HOSTS}"), "name the address itself");
    if addrs.is_empty() { Err(unknown().into()) } else { Ok(addrs) }
}

/// The addresses of a name by a table as hosts(5) has it.
fn addresses_of(name: &str, table: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let addr: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(addr)
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_addresses_of_each_of_its_lines() {
        let table = "127.0.0.1\tlocalhost\n# 10.0.0.9 gateway\n10.0.0.1 web Gateway # old\nfd00::1 gateway\nnone gateway\n";
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(addresses_of("gateway", table), expected);
        assert!(addresses_of("old", table).is_empty());
    }
}
