//! What a process listens on besides TCP: Unix sockets and UDP ports.
//!
//! From the tables in `/proc/PID/net`, which are those of the process's own network namespace, by the sockets that it has
//! descriptors of. Both are the process's own choice: read to a bound.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::fs::{Mode, OFlags, openat};

use super::bounded::{self, End};
use super::owners;
use super::process::Handle;
use crate::model::local_socket::{LocalEndpoint, LocalSocket};
use crate::model::text::Text;

/// Bytes of a table that are read: some ten thousand sockets.
const TABLE: usize = 1 << 20;

/// Sockets of one process that are reported.
const SOCKETS_MAX: usize = 8;

/// `__SO_ACCEPTCON` (linux/net.h): the Unix socket listens.
const ACCEPTS: u32 = 1 << 16;

/// The Unix sockets and UDP ports that a process listens on.
pub fn of(pid: u32) -> Vec<LocalSocket> {
    let Ok(handle) = Handle::open(pid) else { return Vec::new() };
    let held = owners::held(&handle);
    if held.is_empty() {
        return Vec::new();
    }
    let unix = table(&handle, c"net/unix");
    let (udp, udp6) = (table(&handle, c"net/udp"), table(&handle, c"net/udp6"));
    let unix = lines(&unix).filter_map(unix_listener);
    let udp = lines(&udp).chain(lines(&udp6)).filter_map(udp_socket);
    let found = unix.chain(udp).filter(|(inode, _)| held.contains_key(inode));
    found.map(|(_, endpoint)| LocalSocket { pid, endpoint }).take(SOCKETS_MAX).collect()
}

/// The beginning of a table; empty where it cannot be read.
fn table(handle: &Handle, name: &CStr) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = openat(handle.directory(), name, flags, Mode::empty()) else { return Vec::new() };
    let mut contents = vec![0; TABLE];
    // It comes in pieces, a few sockets each.
    let length = bounded::fill(&file, &mut contents, End::EmptyRead).unwrap_or(0);
    contents.truncate(length);
    contents
}

/// The whole lines below the heading.
fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table.split_inclusive(|byte| *byte == b'\n').skip(1).filter_map(|line| line.strip_suffix(b"\n"))
}

/// `Num RefCount Protocol Flags Type St Inode Path` (unix_seq_show, net/unix/af_unix.c): one that listens, and has a name.
fn unix_listener(line: &[u8]) -> Option<(u64, LocalEndpoint)> {
    let mut rest = line;
    let mut fields = Vec::with_capacity(7);
    while fields.len() < 7 {
        let begin = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[begin..].iter().position(|byte| *byte == b' ').map_or(rest.len(), |at| begin + at);
        fields.push(str::from_utf8(&rest[begin..end]).ok()?);
        rest = &rest[end..];
    }
    let path = rest.strip_prefix(b" ").filter(|path| !path.is_empty())?;
    let flags = u32::from_str_radix(fields[3], 16).ok()?;
    let inode = fields[6].parse().ok()?;
    (flags & ACCEPTS != 0).then(|| (inode, LocalEndpoint::Unix(Text::new(path))))
}

/// `sl local_address rem_address st ... inode` (udp4_format_sock, net/ipv4/udp.c): one that is bound and not connected.
fn udp_socket(line: &[u8]) -> Option<(u64, LocalEndpoint)> {
    let fields: Vec<&str> = str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
    let (local, remote, inode) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
    let is_connected = remote.split_once(':')?.1 != "0000";
    let (addr, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
    let address = SocketAddr::new(address(addr)?, port);
    (!is_connected).then_some((inode.parse().ok()?, LocalEndpoint::Udp(address)))
}

/// An address as the table has it: words of 32 bits, each in the host's byte order.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_process_has_its_own_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let _unix = UnixListener::bind(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = of(std::process::id());
        let has = |endpoint: &LocalEndpoint| own.iter().any(|one| one.endpoint == *endpoint);
        assert!(has(&LocalEndpoint::Unix(Text::new(path.as_os_str().as_encoded_bytes()))), "{own:?}");
        assert!(has(&LocalEndpoint::Udp(udp.local_addr().unwrap())), "{own:?}");
    }

    #[test]
    fn only_what_listens_is_taken() {
        let unix = |line: &str| unix_listener(line.as_bytes());
        assert_eq!(
            unix("0000000000000000: 00000002 00000000 00010000 0001 01 4242 /run/php/php8.2-fpm.sock"),
            Some((4242, LocalEndpoint::Unix("/run/php/php8.2-fpm.sock".into())))
        );
        assert_eq!(unix("0000000000000000: 00000002 00000000 00000000 0001 03 4242 /run/x.sock"), None);
        assert_eq!(unix("0000000000000000: 00000002 00000000 00010000 0001 01 4242"), None);
        assert_eq!(unix(""), None);
        let udp = |line: &str| udp_socket(line.as_bytes());
        assert_eq!(
            udp("  1: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 17 2 0 0"),
            Some((17, LocalEndpoint::Udp("127.0.0.1:53".parse().unwrap())))
        );
        assert_eq!(udp("1: 0100007F:0035 0100007F:0036 01 0:0 0:0 0 0 0 17"), None, "a client's");
    }
}
