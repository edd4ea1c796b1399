//! Connects of servers to other servers: of which processes the kernel side records them, and which ports it adds for them.

use super::holders::Holders;
use super::in_flight::InFlight;
use super::requests::PortChange;
use crate::model::kernel_event::{Reached, Refused};
use crate::model::process::Process;
use crate::model::socket::{Holder, Listener, NetnsId, TcpState};
use crate::model::time::{Interval, Mono, StartTime};
use crate::query::QueryKind;
use crate::state::HostState;
use crate::state::followed_ports::HOPS_MAX;
use crate::verdict::coverage::{self, Destination};
use crate::verdict::locate::{self, Place, Way};

/// The sockets on a port, as a query found them.
#[derive(Clone, Copy, Debug)]
pub struct PortRead<'a> {
    pub netns: NetnsId,
    pub port: u16,
    pub sockets: &'a [Holder],
    pub interval: Interval,
}

/// What the kernel side is to change about the connects of servers that it records.
#[derive(Debug, Default)]
pub struct Upstream {
    holders: Holders,
    port_changes: Vec<PortChange>,
    unfollow: Vec<u32>,
}

impl Upstream {
    /// A query found that a process holds a listener.
    pub fn found(&mut self, process: &Process, read: Interval) {
        self.holders.found(process, read);
    }

    /// A process has executed a program.
    pub fn executed(&mut self, pid: u32, time: Mono, state: &mut HostState) {
        self.holders.executed(pid, time);
        state.next_hops.ended(pid);
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32, state: &mut HostState) {
        self.holders.ended(pid);
        state.next_hops.ended(pid);
    }

    /// A process that holds a listener was refused: the port is watched from now on.
    pub fn refused(&mut self, refused: &Refused, state: &mut HostState, queries: &mut InFlight, now: Mono) {
        let port = refused.dst_port;
        if !state.followed.is_other(port) {
            return;
        }
        let hops = state.hops_of(&refused.client);
        let change = state.followed.refused(port, hops, refused.client.uid, now);
        if let Some(port) = change.given_up {
            self.give_up(port, state);
        }
        if change.is_new {
            self.port_changes.push(PortChange { port, is_watched: true });
            queries.set_added_ports(state.followed.added());
        }
    }

    /// A process that holds a listener was answered on another port: the process that listens there may be the next proxy.
    pub fn reached(&self, reached: &Reached, state: &mut HostState, queries: &mut InFlight, now: Mono) {
        let Reached { netns, dst, dst_port, device, .. } = *reached;
        let hops = state.hops_of(&reached.client);
        if hops + 1 >= HOPS_MAX {
            return;
        }
        let way = Way { netns, addr: dst, port: dst_port, device };
        let destination = match locate::find(way, state) {
            Place::Here(destination) | Place::Elsewhere { destination, is_ambiguous: false } => destination,
            Place::Elsewhere { is_ambiguous: true, .. } | Place::Nowhere(_) => return,
        };
        let Destination { netns, addr, port, .. } = destination;
        if state.next_hops.reached((netns, addr, port), hops + 1, reached.client.uid, now) {
            queries.ask(QueryKind::Holders { netns, port }, now);
        }
    }

    /// Takes the sockets on a port, some of which may be the next proxies.
    pub fn port_read(&mut self, read: PortRead<'_>, state: &mut HostState) {
        let PortRead { netns, port, sockets, interval } = read;
        for addr in state.next_hops.unread(netns, port) {
            let way = Way { netns, addr, port, device: None };
            let destination = locate::find(way, state).destination();
            let covering = sockets.iter().filter(|holder| {
                holder.state == TcpState::Listen && coverage::mismatch(&holder.socket, &destination).is_none()
            });
            let listeners: Vec<Listener> = covering.map(|holder| holder.socket.clone()).collect();
            listeners.iter().for_each(|listener| self.holders.found(&listener.process, interval));
            state.next_hops.answered_by((netns, addr, port), listeners);
        }
    }

    /// Gives up the ports that were not refused, and the next proxies that were not reached, for long.
    pub fn expire(&mut self, state: &mut HostState, queries: &mut InFlight, now: Mono) {
        self.expire_ports(state, queries, now);
        self.expire_next_hops(state, now);
    }

    fn expire_ports(&mut self, state: &mut HostState, queries: &mut InFlight, now: Mono) {
        let over = state.followed.expire(now);
        if over.is_empty() {
            return;
        }
        over.into_iter().for_each(|port| self.give_up(port, state));
        queries.set_added_ports(state.followed.added());
    }

    fn expire_next_hops(&mut self, state: &mut HostState, now: Mono) {
        for process in state.next_hops.expire(now) {
            let Some(pid) = process.pid else { continue };
            let mut open = state.listeners.open();
            let is_holder = open.any(|listener| listener.process.pid == Some(pid));
            if !is_holder && state.next_hops.hops(pid).is_none() {
                self.holders.ended(pid);
                self.unfollow.push(pid);
            }
        }
    }

    fn give_up(&mut self, port: u16, state: &mut HostState) {
        state.forget_port(port);
        self.port_changes.push(PortChange { port, is_watched: false });
    }

    /// The ports to watch and to watch no longer, since the last call.
    pub fn take_port_changes(&mut self) -> Vec<PortChange> {
        std::mem::take(&mut self.port_changes)
    }

    /// The processes whose connects are to be recorded no longer, since the last call.
    pub fn take_unfollow(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unfollow)
    }

    /// The processes whose connects are to be recorded, since the last call.
    pub fn take_holders(&mut self) -> Vec<(u32, Option<StartTime>)> {
        self.holders.take()
    }
}
