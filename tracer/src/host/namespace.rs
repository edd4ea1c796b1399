//! Reads the network namespace that the thread is in: interfaces, local addresses, cookie.

use std::fs::File;
use std::io::Read as _;
use std::mem::size_of;
use std::os::fd::AsRawFd as _;

use super::enter::Failure;
use super::netlink::Channel;
use super::netns::Place;
use super::routes;
use crate::model::namespace::Namespace;

/// `SO_NETNS_COOKIE`: asm-generic/socket.h, since 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Reads the namespace that the thread is in.
pub(super) fn read(place: &Place) -> Result<Namespace, Failure> {
    let mut channel = routes::open().map_err(Failure::other)?;
    let links =
        routes::links(&mut channel).map_err(|err| Failure::other(format_args!("interfaces: {err}")))?;
    // Without a VRF it has no effect, and among many namespaces it is the most expensive to read: the kernel finds each
    // one's file among those of the same name (`proc_sys_compare`, fs/proc/proc_sysctl.c).
    let has_vrf = links.iter().any(|link| link.vrf_table.is_some());
    Ok(Namespace {
        id: place.id,
        cookie: cookie(&channel),
        name: place.name.clone(),
        is_own: place.is_own,
        links,
        local: routes::local_routes(&mut channel)
            .map_err(|err| Failure::other(format_args!("local addresses: {err}")))?,
        l3mdev_accept: if has_vrf { l3mdev_accept() } else { None },
    })
}

/// The cookie of the channel's namespace; 0 where the kernel has none to give.
fn cookie(channel: &Channel) -> u64 {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, the value has the eight bytes of `length`, and the kernel
    // writes no more than that (`sk_getsockopt()`, net/core/sock.c).
    let result = unsafe {
        libc::getsockopt(
            channel.socket().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 && length as usize == size_of::<u64>() { cookie } else { 0 }
}

/// `net.ipv4.tcp_l3mdev_accept` of the thread's namespace: `/proc/sys/net` shows that of the thread that opens it.
fn l3mdev_accept() -> Option<bool> {
    let mut value = [0; 16];
    let length =
        File::open("/proc/sys/net/ipv4/tcp_l3mdev_accept").and_then(|mut file| file.read(&mut value)).ok()?;
    let number: u32 = str::from_utf8(&value[..length]).ok()?.trim().parse().ok()?;
    Some(number != 0)
}
