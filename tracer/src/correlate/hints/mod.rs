//! What to do about a refusal: one table, by cause and by who owns the socket, the first row that fits.
//!
//! A hint is true for the case or absent. The remedy that exposes least comes first; nobody is told to set what a file
//! says already; and nothing that opens more addresses is proposed without a word on who may then come in.

pub mod owner;
pub mod table;
mod words;

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::claims::Rewrite;
use super::listeners::OwnerEnd;
use super::wording::{Wording, bracketed, who};
use crate::claims::{Claims, Source};
use crate::event::{ExitStatus, Listener};
use crate::line::{Cause, Process};
use owner::Kind;
use table::Row;

/// What a row of the table looks at.
pub struct Case<'a> {
    /// The refusal, and what is known around it.
    pub facts: &'a Wording<'a>,
    /// The socket that the cause is about.
    pub socket: Option<&'a Listener>,
    /// Who can do something about it: the socket's owner, who holds the port, or the candidate. `None`: nobody is known.
    pub process: Option<&'a Process>,
    /// What that is.
    pub kind: Kind,
    /// What it says of itself.
    pub claims: Option<&'a Claims>,
}

/// What to do; `None`: nothing true can be said.
pub fn hint(facts: &Wording<'_>) -> Option<String> {
    let case = Case::of(facts);
    select(&case).map(|row| (row.hint)(&case))
}

/// The row of the table that fits.
pub fn select(case: &Case<'_>) -> Option<&'static Row> {
    table::ROWS.iter().find(|row| {
        row.cause == case.cause() && row.owner.is_none_or(|kind| kind == case.kind) && (row.fits)(case)
    })
}

/// What a time in `/proc`, which is in hundredths of a second, and one that a kernel with a hundred interrupts a second
/// gives a file (`ktime_get_coarse_real_ts64`) can be behind the true one.
const TICK: Duration = Duration::from_millis(10);

/// How far behind the true one a file's time can be. Whole seconds are likely all that its file system keeps: so do ext3,
/// ext4 with inodes of 128 bytes and some servers of NFS, and FAT keeps each other one.
fn precision(changed: Timestamp) -> Duration {
    if changed.subsec_nanosecond() == 0 { Duration::from_secs(2) } else { TICK }
}

impl<'a> Case<'a> {
    fn of(facts: &'a Wording<'a>) -> Self {
        let socket = facts.socket();
        let process = match facts.judgement.cause {
            Cause::BindFailed if facts.errno() == Some(libc::EADDRINUSE) => {
                facts.holder().map(|(holder, _)| holder)
            }
            Cause::Starting | Cause::NeverListened => {
                facts.candidate().map(|(candidate, _)| &candidate.process)
            }
            _ => socket.map(|socket| &socket.process),
        };
        let claims = process.and_then(|process| facts.claims.of(process));
        let is_candidate = |process: &&Process| {
            facts.judgement.candidates.iter().find(|known| known.candidate.process.pid == process.pid)
        };
        let recognised = process.as_ref().and_then(is_candidate).and_then(|known| known.candidate.product);
        let product = claims.map(|claims| claims.product).or(recognised);
        let kind = process.map_or(Kind::Unknown, |process| owner::recognise(process, product));
        Self { facts, socket, process, kind, claims }
    }

    pub fn cause(&self) -> Cause {
        self.facts.judgement.cause
    }

    /// The owner as people know it.
    pub fn name(&self) -> String {
        self.process.map_or_else(|| "the server".to_owned(), who)
    }

    /// The owner's process id, for a command line.
    pub fn pid(&self) -> String {
        self.process.and_then(|process| process.pid).map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
    }

    pub fn dst(&self) -> IpAddr {
        self.facts.dst()
    }

    /// The address that was asked for, as it stands in a URL.
    pub fn addr(&self) -> String {
        bracketed(self.dst())
    }

    pub fn port(&self) -> u16 {
        self.facts.port()
    }

    /// What the socket is bound to.
    pub fn bound_to(&self) -> IpAddr {
        self.socket.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |socket| socket.addr)
    }

    /// Where the socket is, as it stands in a URL; of several loopback addresses of its owner the one in the client's
    /// family.
    pub fn at(&self) -> String {
        let Some(socket) = self.socket else { return String::new() };
        let is_nearer = |other: &&Listener| {
            socket.addr.is_loopback()
                && other.addr.is_loopback()
                && other.addr.is_ipv4() == self.dst().is_ipv4()
                && other.process.pid == socket.process.pid
        };
        let nearer = self.facts.in_place().into_iter().find(is_nearer);
        self.facts.endpoint(nearer.unwrap_or(socket))
    }

    /// The socket's address is one that its namespace has.
    pub fn is_there(&self) -> bool {
        let addr = self.bound_to();
        addr.is_unspecified() || self.facts.is_answered(addr)
    }

    /// What became of the owner of a listener that closed.
    pub fn end(&self) -> Option<OwnerEnd> {
        self.facts.judgement.gone.as_ref().map(|gone| gone.owner)
    }

    /// How the owner, or the candidate, ended.
    pub fn status(&self) -> Option<ExitStatus> {
        match (self.end(), self.facts.candidate()) {
            (Some(OwnerEnd::Ended(status)), _) => Some(status),
            (_, Some((_, Some((_, status))))) => Some(status),
            _ => None,
        }
    }

    /// What it claims asks for the address that was asked for: `None`, that is not known.
    pub fn claims_the_address(&self) -> Option<bool> {
        self.claims?.covers(self.dst())
    }

    /// The file is what asks for the address that was asked for, and nothing wins over it.
    pub fn file_is_right(&self) -> bool {
        self.claims_the_address() == Some(true) && self.bind_source().is_none() && self.claims_a_file()
    }

    fn claims_a_file(&self) -> bool {
        self.claims.is_some_and(|claims| claims.file.is_some())
    }

    /// What says how it binds, where that is not the file.
    pub fn bind_source(&self) -> Option<&'a Source> {
        let claims = self.claims?;
        claims.effective(claims.product.bind())?.wins_over_file
    }

    /// The owner's sockets are not what it says it wants.
    pub fn is_contradicted(&self) -> bool {
        let (Some(claims), Some(socket)) = (self.claims, self.socket) else { return false };
        let own = self.facts.table.open_in(socket.netns);
        let own = own.filter(|listener| listener.process.pid == socket.process.pid);
        let (addrs, ports): (Vec<IpAddr>, Vec<u16>) =
            own.map(|listener| (listener.addr, listener.port)).unzip();
        claims.product.agrees(claims.product.bind(), claims, &addrs, &ports) == Some(false)
    }

    /// The file asks for the address that was asked for, and something else wins over it: what that is.
    pub fn wins_over_the_file(&self) -> Option<String> {
        let claims = self.claims.filter(|claims| claims.covers(self.dst()) == Some(false))?;
        let over = claims.effective(claims.product.bind())?.wins_over_file?;
        (claims.of_file().covers(self.dst()) == Some(true)).then(|| over.to_string())
    }

    /// The file was written after its process had started; `None`: that cannot be told.
    pub fn is_older_than_the_file(&self) -> Option<bool> {
        let changed = self.claims?.file.as_ref()?.changed?.0;
        let started = self.process?.start_time?.0;
        if started + TICK <= changed {
            Some(true)
        } else if changed + precision(changed) <= started {
            Some(false)
        } else {
            None
        }
    }

    /// Who asked for the address in the file, and who took that back.
    pub fn rewritten(&self) -> Option<(&'a Rewrite, &'a Rewrite)> {
        self.facts.claims.taken_back(self.process?)
    }

    /// The port is held by the very process that asks for it.
    pub fn holds_it_itself(&self) -> bool {
        let asks = self.socket.and_then(|socket| socket.process.pid);
        asks.is_some() && self.process.and_then(|process| process.pid) == asks
    }
}
