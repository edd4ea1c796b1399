//! Conversions to types of the schema that need the state or the clock: names in place of numbers, wall-clock time.

use std::net::IpAddr;

use super::schema;
use crate::model::clock::Clock;
use crate::model::escape::escape;
use crate::model::process::Process;
use crate::model::socket::{Listener, NetnsId};
use crate::state::HostState;
use crate::state::namespaces::Namespaces;
use crate::verdict::considered::ConsideredListener;

/// What is known, and the clock that it is shown by.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub state: &'a HostState,
    pub clock: &'a Clock,
    /// The clock as it was first read: a process has the same start in each line of a run, however often the wall clock
    /// has stepped.
    pub first_clock: &'a Clock,
}

/// The address as text, with its zone when it is link-local.
pub fn address(namespaces: &Namespaces, netns: NetnsId, addr: IpAddr, device: Option<u32>) -> String {
    match (addr, device) {
        (IpAddr::V6(v6), Some(device)) if v6.is_unicast_link_local() => {
            format!("{v6}%{}", namespaces.device_name(netns, device))
        }
        _ => addr.to_string(),
    }
}

impl View<'_> {
    pub fn netns(&self, netns: NetnsId) -> schema::Netns {
        let known = self.state.namespaces.get(netns);
        schema::Netns { id: netns.0, name: known.and_then(|namespace| namespace.name.clone()) }
    }

    pub fn addr(&self, netns: NetnsId, addr: IpAddr, device: Option<u32>) -> String {
        address(&self.state.namespaces, netns, addr, device)
    }

    pub fn endpoint(
        &self,
        netns: NetnsId,
        addr: IpAddr,
        port: Option<u16>,
        device: Option<u32>,
    ) -> schema::Endpoint {
        schema::Endpoint { addr: self.addr(netns, addr, device), port }
    }

    /// A process with all that is known of it.
    pub fn process(&self, process: &Process) -> schema::Process {
        let Process {
            pid,
            ns_pid,
            ppid,
            uid,
            uid_at_exec: _,
            comm,
            exe,
            script: _,
            arguments: _,
            start,
            container,
            unit,
        } = self.state.processes.describe(process);
        schema::Process {
            pid,
            ns_pid,
            ppid,
            uid,
            comm: comm.map(|comm| escape(comm.as_bytes())),
            exe: exe.map(|exe| escape(exe.as_bytes())),
            start_time: start.map(|start| self.first_clock.time_of_start(start)),
            container: container.map(Into::into),
            unit: unit.map(Into::into),
        }
    }

    pub fn listener(&self, listener: &Listener) -> schema::Listener {
        let Listener { key, netns, addr, port, v6only, device, backlog, since, process, opener } = listener;
        let namespaces = &self.state.namespaces;
        schema::Listener {
            addr: self.addr(*netns, *addr, *device),
            port: *port,
            v6only: *v6only,
            device: device.map(|device| namespaces.device_name(*netns, device)),
            interface: namespaces.interface_of(*netns, *addr, *device),
            netns: self.netns(*netns),
            cookie: (key.cookie != 0).then(|| key.cookie.to_string()),
            since: since.map(|since| self.clock.time(since)),
            backlog: *backlog,
            process: self.process(process),
            opener: opener.as_ref().map(|opener| self.process(opener)),
        }
    }

    pub fn considered(&self, considered: &[ConsideredListener]) -> Vec<schema::EvaluatedListener> {
        let one = |one: &ConsideredListener| schema::EvaluatedListener {
            listener: self.listener(&one.listener),
            mismatch: one.mismatch.map(Into::into),
        };
        considered.iter().map(one).collect()
    }
}
