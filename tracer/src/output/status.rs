//! The answer of `tracer status`: what a connect made now would get.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::bodies::configured;
use super::exposure::exposure;
use super::schema;
use super::view::View;
use super::words::who;
use crate::model::socket::NetnsId;
use crate::state::settings::SHOWN_MAX;
use crate::verdict::prospect::{self, Prospect};

/// The process that asks for a status, and how far it can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub uid: u32,
    /// Only its own namespace was read.
    pub sees_own_only: bool,
}

/// What a connect made now, inside `netns`, would get.
pub(super) fn status(
    view: View<'_>,
    (netns, addr, port): (NetnsId, IpAddr, u16),
    reader: Reader,
) -> schema::Status {
    let state = view.state;
    let Prospect { destination, answered, considered, total } =
        prospect::foresee(netns, addr, port, &state.listeners, &state.namespaces);
    let is_local = destination.route.is_some();
    let summary = match considered.first() {
        _ if !is_local => "not an address of this network namespace".to_owned(),
        None if reader.sees_own_only => format!(
            "nothing listens on the port in this network namespace (others: not readable as uid {})",
            reader.uid
        ),
        None => "nothing listens on the port".to_owned(),
        Some(nearest) => {
            let listener = &nearest.listener;
            let at = SocketAddr::new(listener.addr, listener.port);
            let only = if answered { "" } else { " only" };
            let elsewhere = if listener.netns == netns { "" } else { ", in another network namespace" };
            let owner = match listener.process.pid {
                Some(_) => who(&listener.process),
                None => format!("owner: not readable as uid {}", reader.uid),
            };
            format!("{at}{only}{elsewhere} ({owner})")
        }
    };
    let mut seen = BTreeSet::new();
    let owners = considered.iter().map(|one| &one.listener);
    let claims = owners
        .filter(|listener| listener.process.pid.is_some_and(|pid| seen.insert(pid)))
        .take(SHOWN_MAX)
        .flat_map(|listener| state.settings.values(&listener.process, Some(listener.netns), &state.listeners))
        .map(configured)
        .collect();
    schema::Status {
        claims,
        exposures: considered.iter().filter_map(|one| exposure(view, &one.listener)).collect(),
        addr: view.addr(netns, addr, None),
        port: destination.port,
        netns: view.netns(netns),
        is_local,
        answered,
        verdict: None,
        probe: None,
        may_be_redirected: None,
        listeners: view.considered(&considered),
        listeners_total: total,
        summary,
    }
}
