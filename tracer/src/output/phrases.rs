//! Phrases about a subject that sentences and hints have in common: namespaces, sockets, interfaces.

use super::subject::Subject;
use super::words::{enumerate, in_brackets};
use crate::model::container;
use crate::model::escape::{escape, quoted};
use crate::model::socket::{Listener, NetnsId, is_tailnet};
use crate::query::LocalEndpoint;

impl Subject<'_> {
    /// ` in NAME` where the destination's namespace is not the client's.
    pub fn in_netns(&self) -> String {
        if self.is_elsewhere() { format!(" in {}", self.show_netns(self.netns())) } else { String::new() }
    }

    /// Where a command is to be run when the client is not in the tracer's own namespace.
    pub fn inside(&self) -> String {
        self.inside_of(self.refused.netns)
    }

    /// Where a command is to be run that is about the destination's own sockets.
    pub fn inside_destination(&self) -> String {
        self.inside_of(self.netns())
    }

    /// Where the rules of the packet filter are that refused.
    pub fn inside_filter(&self) -> String {
        self.inside_of(self.verdict.filter.unwrap_or(self.refused.netns))
    }

    fn inside_of(&self, netns: NetnsId) -> String {
        let is_own = self.view.state.namespaces.get(netns).is_none_or(|namespace| namespace.is_own);
        if is_own { String::new() } else { format!("; inside {}", self.show_netns(netns)) }
    }

    pub fn show_netns(&self, netns: NetnsId) -> String {
        match self.view.state.namespaces.get(netns) {
            Some(namespace) if namespace.name.is_some() => {
                format!("network namespace {}", quoted(namespace.name.as_deref().unwrap_or_default()))
            }
            Some(namespace) if namespace.is_own => "tracer's own network namespace".to_owned(),
            _ => match self.container_of(netns) {
                Some(container) => container::label(container),
                None => format!("network namespace {netns}"),
            },
        }
    }

    pub fn endpoint(&self, listener: &Listener) -> String {
        let addr = self.view.addr(listener.netns, listener.addr, listener.device);
        format!("{}:{}", in_brackets(&addr), listener.port)
    }

    /// The distinct endpoints of listeners, in words.
    pub fn endpoints(&self, listeners: &[&Listener]) -> String {
        let mut all: Vec<String> = Vec::new();
        for listener in listeners {
            let tailnet = if is_tailnet(listener.addr) { " (tailnet)" } else { "" };
            let endpoint = format!("{}{tailnet}", self.endpoint(listener));
            if !all.contains(&endpoint) {
                all.push(endpoint);
            }
        }
        enumerate(&all)
    }

    /// A socket that is not a TCP socket.
    pub fn show_local(&self, endpoint: &LocalEndpoint) -> String {
        match endpoint {
            LocalEndpoint::Unix(path) => quoted(&escape(path.as_bytes())).into_owned(),
            LocalEndpoint::Udp(address) => format!("UDP {address}"),
        }
    }

    /// The interface that a listener is bound to.
    pub fn device(&self, listener: &Listener) -> Option<String> {
        listener.device.map(|device| self.device_name(listener.netns, device))
    }

    pub fn device_name(&self, netns: NetnsId, device: u32) -> String {
        quoted(&self.view.state.namespaces.device_name(netns, device)).into_owned()
    }
}
