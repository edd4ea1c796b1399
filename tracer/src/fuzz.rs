//! Every parser of bytes that others write, and what must hold of what it makes of them. One function a fuzz
//! target (`cargo xtask fuzz`); the tests replay the targets' seeds through the same ones.

use netlink_packet_route::AddressFamily;

use crate::container;
use crate::decode;
use crate::escape::escape;
use crate::event::{Event, NetnsId};
use crate::kernel::snapshot::{netlink, owners};
use crate::kernel::{btf, netns, routes, sock_diag};
use crate::process;
use crate::server::Recognition;

/// A target: it panics where what must hold does not.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 4] =
    [("decode", decode), ("btf", btf), ("proc", proc), ("sock_diag", sock_diag)];

/// Records from the ring.
pub fn decode(bytes: &[u8]) {
    let Ok(decoded) = decode::decode(bytes) else { return };
    let process = match decoded.event {
        Event::Opened(opened) => opened.listener.process,
        Event::Closed(closed) => closed.listener.process,
        Event::Refused(refused) => refused.client,
        Event::Bound(bound) => bound.socket.process,
        Event::Failed(failed) => failed.client,
        Event::Candidate(candidate) => candidate.process,
        Event::Exited(_)
        | Event::Connected(_)
        | Event::Destroyed(_)
        | Event::Snapshot(_)
        | Event::OtherPorts(_)
        | Event::Holders(_)
        | Event::Claimed(_)
        | Event::Configured(_)
        | Event::Lost(_) => return,
    };
    assert!(process.comm.is_none_or(|comm| is_escaped(&comm)));
}

/// The kernel's type information, in which everything that is looked for at start-up is looked for.
pub fn btf(bytes: &[u8]) {
    let Ok(btf) = btf::Btf::parse(bytes) else { return };
    let _ = btf.offsets();
    let _ = btf.tracepoint_arguments("inet_sock_set_state");
}

/// What `/proc` says of a process, of namespaces and of mounts: each of its files in turn.
pub fn proc(bytes: &[u8]) {
    let _ = process::parse_stat(bytes);
    let _ = process::parse_status(bytes);
    if let Some(found) = container::from_cgroup(bytes) {
        let texts = [Some(found.id), found.name, found.pod_uid, found.runtime];
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert!(texts.iter().flatten().all(|text| !text.is_empty() && text.bytes().all(is_plain)));
    }
    let _ = netns::parse_mount(bytes);
    let _ = netns::parse_id(bytes);
    let _ = owners::parse_socket(bytes);
    let _ = Recognition::default().recognise(bytes, bytes);
    assert!(is_escaped(&escape(bytes)));
}

/// The datagrams of a dump, and the message of a socket, an interface or a route alone.
pub fn sock_diag(bytes: &[u8]) {
    /// The dump's number in the seeds.
    const SEQUENCE: u32 = 1;
    let _ = netlink::messages(bytes, SEQUENCE, &mut false, |_, payload| {
        message(payload);
        Ok(())
    });
    message(bytes);
}

fn message(payload: &[u8]) {
    if let Ok(response) = sock_diag::response(payload) {
        let holder = sock_diag::holder(&response, NetnsId(1));
        if let Some(listener) = sock_diag::listener(&response, NetnsId(1)) {
            assert_eq!((listener, "LISTEN"), (holder.socket, holder.state));
        }
    }
    if let Ok(link) = routes::link(payload) {
        assert!(is_escaped(&link.name));
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let _ = routes::local_route(payload, family);
    }
}

/// Whether a text does nothing to a terminal but stand there.
fn is_escaped(text: &str) -> bool {
    let is_bidirectional = |char: char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|char| char.is_control() || is_bidirectional(char))
}
