//! A port that no other soak of this machine uses: a tracer sees every namespace of it.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    process,
};

use anyhow::{Context, Result};

/// Below those that the live tests use, and the kernel hands out by itself.
const FIRST: u16 = 19_000;
const COUNT: u16 = 900;

/// A port that belongs to its holder until it is dropped.
pub struct Port {
    pub number: u16,
    /// Its name is taken, however this process ends.
    _name: UnixListener,
}

impl Port {
    pub fn take() -> Result<Self> {
        let start = u16::try_from(process::id() % u32::from(COUNT))?;
        (0..COUNT)
            .map(|step| FIRST + (start + step) % COUNT)
            .find_map(|number| {
                let name = SocketAddr::from_abstract_name(format!("tracer-soak-{number}")).ok()?;
                Some(Self { number, _name: UnixListener::bind_addr(&name).ok()? })
            })
            .context("every port of the soak is taken")
    }
}
