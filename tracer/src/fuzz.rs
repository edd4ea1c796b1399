//! The fuzz targets: for each parser of bytes that others write, what must hold of what it makes of them. One function a
//! target (`cargo xtask fuzz`); the tests replay the targets' seeds through the same ones.

use std::os::unix::ffi::OsStrExt as _;

use jiff::tz::TimeZone;
use netlink_packet_route::AddressFamily;

use crate::bpf::btf;
use crate::cmd::show;
use crate::host::{credentials, fanotify, netlink, netns, owners, passwd, process, routes, sock_diag};
use crate::model::container;
use crate::model::escape::escape;
use crate::model::socket::{NetnsId, TcpState};
use crate::output::schema::Line;
use crate::output::text::Text;
use crate::products::recognise::Recognition;
use crate::products::registry;
use crate::record::Recording;
use crate::run::Run;
use crate::stream::decode;

/// A target: it panics where what must hold does not.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("decode", decode),
    ("btf", btf),
    ("proc", proc),
    ("sock_diag", sock_diag),
    ("config", config),
    ("fanotify", fanotify),
    ("passwd", passwd),
    ("uid_map", uid_map),
    ("show", show),
    ("replay", replay),
];

/// Records from the ring.
pub fn decode(bytes: &[u8]) {
    let _ = decode::decode(bytes);
}

/// The kernel's type information, in which everything that is searched at start-up is searched.
pub fn btf(bytes: &[u8]) {
    let Ok(btf) = btf::Btf::parse(bytes) else { return };
    let _ = btf.offsets();
    let _ = btf.tracepoint_arguments("inet_sock_set_state");
}

/// What `/proc` holds of a process, of namespaces and of mounts: each of its files in turn.
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
    let _ = Recognition::default().recognise(bytes, Some(bytes), bytes);
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
            assert_eq!((listener, TcpState::Listen), (holder.socket, holder.state));
        }
    }
    if let Ok(link) = routes::link(payload) {
        assert!(is_escaped(&link.name));
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let _ = routes::local_route(payload, family);
    }
}

/// A configuration file of a server, as each product reads it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for product in registry() {
        let settings = product.settings(text);
        let values = settings.iter().flat_map(|settings| &settings.values).map(|(_, value)| value);
        assert!(values.into_iter().all(|value| is_escaped(value)));
    }
}

/// Events of fanotify, as one read returns them.
pub fn fanotify(bytes: &[u8]) {
    /// `struct fanotify_event_metadata`, and the fewest bytes that name a directory.
    const EVENT: usize = 24;
    const DIRECTORY: usize = 16;
    let events = fanotify::parse(bytes);
    assert!(events.len() <= bytes.len() / EVENT);
    for event in events {
        let _ = fanotify::change(event.mask);
        assert!(event.directory.len() >= DIRECTORY && !event.name.contains(&0));
    }
}

/// `/etc/passwd` of a server's root.
pub fn passwd(bytes: &[u8]) {
    for uid in USERS {
        if let Some(home) = passwd::home_of(bytes, uid) {
            let home = home.as_os_str().as_bytes();
            assert!(home.starts_with(b"/") && !home.iter().any(|byte| b":\n".contains(byte)));
        }
    }
}

/// The map of a user namespace, and the ids of a process.
pub fn uid_map(bytes: &[u8]) {
    for uid in USERS {
        let _ = credentials::inside(bytes, uid);
    }
    let _ = credentials::Credentials::from_status(bytes);
}

/// Users whose homes and ids are searched.
const USERS: [u32; 3] = [0, 1_000, u32::MAX];

/// A log that `tracer show` is given: all its lines, one after the other.
pub fn show(bytes: &[u8]) {
    let mut text = Text::new(TimeZone::UTC, 80);
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = show::line(line) else { continue };
        let strings = serde_json::to_value(&line).expect("a line that was read can be written");
        assert!(is_all_escaped(&strings), "{strings}");
        text.write(&line, &mut std::io::sink()).expect("a sink takes everything");
    }
}

/// A recording that `tracer replay` is given: its lines, as text and as JSON.
pub fn replay(bytes: &[u8]) {
    let Ok((mut recording, setup)) = Recording::open(bytes) else { return };
    let mut text = Text::new(TimeZone::UTC, 80);
    let (mut run, first) = Run::new(setup);
    let mut write = |line: &Line| {
        serde_json::to_vec(line).expect("a line can be written");
        text.write(line, &mut std::io::sink()).expect("a sink takes everything");
    };
    write(&first);
    while let Ok(Some(input)) = recording.next_input() {
        run.take(input).iter().for_each(&mut write);
        run.take_requests();
        run.deadline();
    }
}

fn is_all_escaped(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => is_escaped(text),
        serde_json::Value::Array(values) => values.iter().all(is_all_escaped),
        serde_json::Value::Object(values) => {
            values.iter().all(|(key, value)| is_escaped(key) && is_all_escaped(value))
        }
        _ => true,
    }
}

/// Whether a text has no effect on a terminal but to be shown.
fn is_escaped(text: &str) -> bool {
    let is_bidirectional = |char: char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_blank = |char: char| {
        char.is_whitespace() && char != ' '
            || matches!(char, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
    };
    !text.chars().any(|char| char.is_control() || is_bidirectional(char) || is_blank(char))
}
