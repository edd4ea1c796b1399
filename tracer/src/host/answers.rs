//! Each kind of query, and how it is answered.

use std::hash::RandomState;
use std::sync::Arc;

use super::config_watch::{self, FileInUse};
use super::fanotify::Marker;
use super::openings::{self, OpeningTimes};
use super::process::Described;
use super::scan::Scanner;
use super::{clock, forwarders, local_sockets, netns, process, settings};
use crate::model::time::Interval;
use crate::products::recognise::{Named, Recognition};
use crate::query::{Answer, Candidate, Observation, Query, QueryKind};

/// Answers the queries of one thread.
pub struct Answerer {
    pub scanner: Scanner,
    pub recognition: Recognition,
    /// This process and those it descends from: never servers.
    pub own_line: Vec<u32>,
    /// `None`: this host does not let configuration files be watched.
    pub marker: Option<Marker>,
    /// `None`: no kernel program records when sockets begin to listen.
    pub openings: Option<Arc<dyn OpeningTimes>>,
    /// Gives files their numbers: the same in every thread.
    pub hasher: RandomState,
}

/// What was found beside an answer, for those who ask and watch.
#[derive(Default)]
pub struct Beside {
    /// The configuration file that is in use.
    pub in_use: Option<FileInUse>,
    /// The processes that hold listeners.
    pub described: Vec<Described>,
}

impl Answerer {
    /// Answers a query.
    pub fn answer(&mut self, query: Query) -> (Answer, Beside) {
        let began = clock::now();
        let mut in_use = None;
        self.scanner.set_added_ports(query.added_ports);
        let result = match query.kind {
            QueryKind::Host => self.scanner.host().ok().map(Observation::Scan),
            QueryKind::Port { port } => self.scanner.port(port).ok().map(Observation::Scan),
            QueryKind::Namespace { netns, pid_hint } => {
                Some(Observation::Scan(self.scanner.namespace(netns, pid_hint)))
            }
            QueryKind::Owners { netns, known } => Some(self.scanner.owners(netns, known)),
            QueryKind::Holders { netns, port } => {
                Some(Observation::Holders { netns, port, sockets: self.scanner.holders(netns, port) })
            }
            QueryKind::OtherPorts { netns } => {
                let mut listeners = self.scanner.other_ports(netns);
                let dated_since = openings::date(&mut listeners, self.openings.as_ref());
                Some(Observation::OtherPorts { netns, listeners, dated_since })
            }
            QueryKind::LocalSockets { netns, pids } => {
                let sockets = pids.iter().flat_map(|pid| local_sockets::of(*pid)).collect();
                Some(Observation::LocalSockets { netns, pids, sockets })
            }
            QueryKind::Candidates => Some(self.candidates()),
            QueryKind::Candidate { pid } => Some(Observation::Candidate(self.candidate(pid))),
            QueryKind::Process(key) => Some(Observation::Process(process::describe_same(key))),
            QueryKind::Writer { pid } => Some(Observation::Writer(process::describe(pid))),
            QueryKind::Settings { pid } => {
                let mut read = settings::read_settings(pid, &self.recognition);
                let file = read.settings.as_ref().and_then(|settings| settings.file.as_ref());
                in_use = file.zip(self.marker.as_mut()).and_then(|(file, marker)| {
                    let used = config_watch::arm(pid, &file.path, marker, &self.hasher)?;
                    read.file = Some(used.id);
                    Some(used)
                });
                Some(Observation::Settings(read))
            }
            QueryKind::Forwarders { netns, port } => Some(Observation::Forwarders {
                netns,
                port,
                found: forwarders::find(netns, port, || self.scanner.every_listener(netns)),
            }),
            QueryKind::Named { netns, name } => Some(Observation::Named(netns::is_named(netns, &name))),
        };
        let beside = Beside { in_use, described: self.scanner.take_described() };
        (Answer { id: query.id, interval: Interval { began, ended: clock::now() }, result }, beside)
    }

    /// The processes of the host that may be the server.
    fn candidates(&self) -> Observation {
        let processes = netns::processes().unwrap_or_default();
        // A `/proc` that has vanished lists no process, which proves nothing about any.
        let is_complete = processes.iter().any(|(pid, _)| *pid == std::process::id());
        let found = processes.into_iter().filter_map(|(pid, _)| self.candidate(pid)).collect();
        Observation::Candidates { found, is_complete }
    }

    /// The process as a candidate, if it may be the server.
    fn candidate(&self, pid: u32) -> Option<Candidate> {
        // Its own arguments hold the pattern, and so do those of the sudo that started it.
        if self.own_line.contains(&pid) {
            return None;
        }
        let time = clock::now();
        let appearance = process::appearance(pid)?;
        let process::Appearance { name, arguments, netns, start, .. } = &appearance;
        let named = self.recognition.recognise(name, appearance.executable(), arguments)?;
        let (product, port) = match named {
            Named::Product(product) => (Some(product), None),
            Named::Pattern { port } => (None, port),
        };
        let process = process::describe(pid).filter(|process| process.start == Some(*start))?;
        let since = clock::read().mono_of_start(*start);
        Some(Candidate { time, since, netns: *netns, process, product, port, is_named: true })
    }
}
