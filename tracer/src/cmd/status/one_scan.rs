//! One scan of the host, and the answers to the queries that follow from it.

use std::collections::BTreeSet;
use std::hash::RandomState;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use rustix::thread::CapabilitySet;

use crate::exit::Failure;
use crate::host::answers::Answerer;
use crate::host::scan::Scanner;
use crate::host::sock_diag::Unavailable;
use crate::host::{clock, process, settings};
use crate::lifecycle::inquiry::{self, Intended};
use crate::model::kernel_event::Refused;
use crate::model::ports::Ports;
use crate::model::time::{Interval, Mono};
use crate::output::status::Reader;
use crate::products::recognise::Recognition;
use crate::query::{Observation, Query, QueryId, QueryKind, SettingsRead};
use crate::sandbox;
use crate::state::HostState;
use crate::state::followed_ports::FollowedPorts;
use crate::verdict::evidence::Verdict;

/// Owners of listeners whose settings are read.
const OWNERS_MAX: usize = 64;

/// How long the configuration of one may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// One scan of the host, and the answers to the queries that follow from it.
pub struct OneScan {
    pub state: HostState,
    answerer: Answerer,
    pub reader: Reader,
    next: u64,
}

impl OneScan {
    /// Reads the listeners on these ports, and what their owners are set to.
    ///
    /// # Errors
    /// When the listeners cannot be read.
    pub fn begin(ports: &[u16]) -> Result<Self> {
        let mut scanner = Scanner::new(ports);
        // A process that may enter every namespace is shown a listener elsewhere; others see their own.
        let sees_all = sandbox::effective().contains(CapabilitySet::SYS_ADMIN);
        let began = clock::now();
        let scan = if sees_all { scanner.host() } else { scanner.own() };
        let scan = scan.map_err(|error| match error.downcast_ref::<Unavailable>() {
            Some(unavailable) => Failure::host(unavailable.to_string(), unavailable.remedy()).into(),
            None => error,
        })?;
        let mut state = HostState::default();
        state.followed = FollowedPorts::new(Ports::Only(ports.to_vec()));
        let owners: BTreeSet<u32> =
            scan.listeners.iter().filter_map(|listener| listener.process.pid).collect();
        state.scanned(scan, Interval { began, ended: clock::now() });
        for owner in owners.into_iter().take(OWNERS_MAX) {
            let began = clock::now();
            if let Some(read) = read_settings(owner) {
                state.settings.note(read, Interval { began, ended: clock::now() });
            }
        }
        let reader = Reader { uid: rustix::process::geteuid().as_raw(), sees_own_only: !sees_all };
        let answerer = Answerer {
            scanner,
            recognition: Recognition::default(),
            own_line: process::own_line(),
            marker: None,
            openings: None,
            hasher: RandomState::new(),
        };
        Ok(Self { state, answerer, reader, next: 0 })
    }

    /// The verdict on a connect that would be refused now.
    pub fn inquire(&mut self, intended: Intended) -> (Refused, Verdict) {
        let Self { state, answerer, next, .. } = self;
        inquiry::inquire(intended, clock::now(), state, |kind| {
            if let QueryKind::Settings { pid } = kind {
                let began = clock::now();
                let read = read_settings(pid)?;
                return Some((Observation::Settings(read), Interval { began, ended: clock::now() }));
            }
            *next += 1;
            let query = Query {
                id: QueryId(*next),
                deadline: Mono::MAX,
                max_bytes: u32::MAX,
                added_ports: Vec::new(),
                kind,
            };
            let (answer, _) = answerer.answer(query);
            Some((answer.result?, answer.interval))
        })
    }
}

/// What is configured for a process; `None`: a file system did not answer in time.
fn read_settings(pid: u32) -> Option<SettingsRead> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().name("settings".to_owned());
    let read = move || {
        // The receiver has been dropped when this fails: it waited too long.
        let _ = sender.send(settings::read_settings(pid, &Recognition::default()));
    };
    worker.spawn(read).ok()?;
    receiver.recv_timeout(PATIENCE).ok()
}
