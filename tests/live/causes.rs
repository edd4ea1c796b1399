//! Every cause, for each family, for blocking and non-blocking clients, and for listeners that were there
//! before the tracer or opened after it.
//!
//! Each cause is a table of situations, each on a port of its own, so that one run of the tracer serves
//! them all.

use libtest_mimic::Trial;
use tracer::line::{Because, Cause, Change, Mismatch, Owner, OwnerState};

use crate::support::needs::Need;
use crate::support::netns::Netns;
use crate::support::story::{By, Client, Listen, Listening, Spot, Story};
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];
const NEEDS_NFT: &[Need] = &[Need::Root, Need::Network, Need::Nft];

/// An address that is local nowhere, by RFC 5737 and RFC 3849.
const REMOTE_V4: &str = "198.51.100.7";
const REMOTE_V6: &str = "2001:db8:77::7";

/// Whether the listeners are there before the tracer or open while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// One port: what listens on it, each with why it does not answer, and where the clients connect to.
struct Situation {
    listens: Vec<(Listen, Option<Mismatch>)>,
    to: &'static str,
}

/// A situation with one listener.
fn one(listen: impl Into<Listen>, mismatch: impl Into<Option<Mismatch>>, to: &'static str) -> Situation {
    Situation { listens: vec![(listen.into(), mismatch.into())], to }
}

/// A situation with several.
fn many<const N: usize>(listens: [(Listen, Mismatch); N], to: &'static str) -> Situation {
    Situation {
        listens: listens.into_iter().map(|(listen, mismatch)| (listen, Some(mismatch))).collect(),
        to,
    }
}

const MAPPED: &str = "[::ffff:127.0.0.1]";

fn wrong_address() -> Vec<Situation> {
    use Mismatch::{Address, Family};
    vec![
        one("10.77.0.1", Address, "127.0.0.1"),
        one("10.77.0.1", Address, MAPPED),
        one("10.77.0.1", Family, "[::1]"),
        one("[fd77::1]", Address, "[::1]"),
        one("[fd77::1]", Family, "127.0.0.1"),
        one(Listen::at("[fd77::1]").v6only(), Address, "[::1]"),
        one("127.0.0.1", Address, "10.77.0.1"),
        one("127.0.0.1", Address, "[::ffff:10.77.0.1]"),
        one("127.0.0.1", Address, "127.0.0.2"),
        one("127.0.0.2", Family, "[::1]"),
        one("[::1]", Address, "[fd77::1]"),
        // The counterpart of an address that is not loopback is the other wildcard, which this is not.
        one("10.77.0.1", Family, "[fd77::1]"),
        one("10.77.0.1", Address, "0.0.0.0"),
        one("[fd77::1]", Address, "[::]"),
        many([("10.77.0.1".into(), Address), ("[fd77::1]".into(), Family)], "127.0.0.1"),
    ]
}

fn wrong_family() -> Vec<Situation> {
    use Mismatch::{Address, Family, V6only};
    vec![
        one("[::1]", Family, "127.0.0.1"),
        one("[::1]", Family, MAPPED),
        one("[::1]", Family, "127.0.0.2"),
        one("127.0.0.1", Family, "[::1]"),
        one("0.0.0.0", Family, "[::1]"),
        one(Listen::at("[::]").v6only(), V6only, "127.0.0.1"),
        one(Listen::at("[::]").v6only(), V6only, MAPPED),
        one(Listen::at("[::]").v6only(), V6only, "10.77.0.1"),
        one("0.0.0.0", Family, "[fd77::1]"),
        many([("10.77.0.1".into(), Address), ("[::1]".into(), Family)], "127.0.0.1"),
    ]
}

fn wrong_device() -> Vec<Situation> {
    use Mismatch::{Device, Family};
    let on = |addr, device| Listen::at(addr).device(device);
    vec![
        one(on("0.0.0.0", "eth0"), Device, "127.0.0.1"),
        one(on("0.0.0.0", "eth0"), Device, MAPPED),
        one(on("127.0.0.1", "eth0"), Device, "127.0.0.1"),
        one(on("[::]", "eth0"), Device, "127.0.0.1"),
        one(on("[::]", "eth0"), Device, "[::1]"),
        one(on("0.0.0.0", "lo"), Device, "10.77.0.1"),
        one(on("[::]", "lo"), Device, "[fd77::1]"),
        one(on("[::]", "peer0"), Device, "[fd77::1]"),
        many([(on("0.0.0.0", "eth0"), Device), ("[::1]".into(), Family)], "127.0.0.1"),
    ]
}

fn stopped() -> Vec<Situation> {
    use Mismatch::Closed;
    vec![
        one("127.0.0.1", Closed, "127.0.0.1"),
        one("127.0.0.1", Closed, MAPPED),
        one("0.0.0.0", Closed, "127.0.0.1"),
        one("0.0.0.0", Closed, "10.77.0.1"),
        one("[::1]", Closed, "[::1]"),
        one("[::]", Closed, "[::1]"),
        one("[::]", Closed, "127.0.0.1"),
        one("[::]", Closed, MAPPED),
        one(Listen::at("0.0.0.0").device("lo"), Closed, "127.0.0.1"),
    ]
}

fn other_netns() -> Vec<Situation> {
    use Mismatch::Netns;
    vec![
        one("127.0.0.1", Netns, "127.0.0.1"),
        one("0.0.0.0", Netns, "127.0.0.1"),
        one("0.0.0.0", Netns, MAPPED),
        one("[::1]", Netns, "[::1]"),
        one("[::]", Netns, "[::1]"),
        one("[::]", Netns, "127.0.0.1"),
        one("10.77.0.1", Netns, "127.0.0.1"),
    ]
}

fn nothing_listening() -> Vec<Situation> {
    ["127.0.0.1", MAPPED, "[::1]", "10.77.0.1", "[fd77::1]", "127.8.9.10", "0.0.0.0", "[::]"]
        .map(|to| Situation { listens: Vec::new(), to })
        .into()
}

/// Listeners that cover the address, and never see the connect.
fn intercepted() -> Vec<Situation> {
    vec![
        one("0.0.0.0", None, "127.0.0.1"),
        one("127.0.0.1", None, "127.0.0.1"),
        one("[::]", None, "127.0.0.1"),
        one("0.0.0.0", None, MAPPED),
        one("[::]", None, MAPPED),
        one("[::]", None, "[::1]"),
        one("[::1]", None, "[::1]"),
        one("0.0.0.0", None, "10.77.0.1"),
        one("[::]", None, "[fd77::1]"),
        one(Listen::at("0.0.0.0").device("eth0"), None, "10.77.0.1"),
        one(Listen::at("[::]").device("lo"), None, "[::1]"),
    ]
}

fn remote() -> Vec<Situation> {
    let mut situations = vec![
        Situation { listens: Vec::new(), to: REMOTE_V4 },
        Situation { listens: Vec::new(), to: "[2001:db8:77::7]" },
        Situation { listens: Vec::new(), to: "[::ffff:198.51.100.7]" },
    ];
    // A wildcard listener here does not make the address local.
    for to in [REMOTE_V4, "[2001:db8:77::7]", "[::ffff:198.51.100.7]"] {
        situations.push(one("[::]", None, to));
    }
    situations
}

/// Stages every situation of a cause and asserts what the tracer says of each.
struct Stage {
    story: Story,
    situations: Vec<Situation>,
    listening: Vec<Listening>,
}

impl Stage {
    /// Opens the listeners before or after the tracer starts, in `spot` or the story's own namespace.
    fn set(mut story: Story, situations: Vec<Situation>, when: When, spot: Option<Spot>) -> Self {
        let spot = spot.unwrap_or_else(|| Spot::from(&story.netns));
        if when == When::After {
            story.trace();
        }
        let mut listening = Vec::new();
        for (port, situation) in situations.iter().enumerate() {
            for (listen, _) in &situation.listens {
                listening.push(story.listen_in(spot.clone(), listen.clone().port(port)));
            }
        }
        if when == When::Before {
            story.trace();
            for gateway in &listening {
                let line = story.tracer().listener(Change::Present, gateway.pid);
                gateway.assert_is(&line.listener);
            }
        }
        Self { story, situations, listening }
    }

    /// Connects by both kinds of client to each port, and asserts the verdicts.
    fn play(mut self, cause: Cause, because: &[Because], by: By) {
        let mut clients = Vec::new();
        for (port, situation) in self.situations.iter().enumerate() {
            clients.push(Client::blocking(situation.to).port(port).refused_by(by));
            clients.push(Client::nonblocking(situation.to).port(port).refused_by(by));
        }
        let count = clients.len();
        let refusals = self.story.all_refused(clients);
        let mut listening = self.listening.iter();
        for (pair, situation) in refusals.chunks(2).zip(&self.situations) {
            let gateways: Vec<&Listening> = listening.by_ref().take(situation.listens.len()).collect();
            for refusal in pair {
                refusal.verdict(cause, because);
                if cause == Cause::Remote {
                    continue;
                }
                refusal.weighs_only(gateways.len());
                for (gateway, (_, mismatch)) in gateways.iter().zip(&situation.listens) {
                    refusal.weighs(gateway, *mismatch);
                }
            }
        }
        drop(refusals);
        let log = self.story.end();
        assert_eq!(log.refusals().count(), count, "{}", log.text());
        assert_eq!(log.stop().by_cause.keys().collect::<Vec<_>>(), [&cause]);
    }
}

/// A cause whose listeners are in the client's namespace.
fn staged(cause: Cause, situations: Vec<Situation>, when: When) {
    let story = Story::with_ports(situations.len());
    Stage::set(story, situations, when, None).play(cause, &[], By::Stack);
}

fn staged_other_netns(when: When) {
    let other = Netns::new();
    let situations = other_netns();
    let story = Story::with_ports(situations.len());
    Stage::set(story, situations, when, Some(Spot::from(&other))).play(Cause::OtherNetns, &[], By::Stack);
}

/// How a listener comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its process closes it and lives on.
    Close,
    /// Its process exits.
    Exit,
    /// Its process is killed.
    Kill,
}

fn staged_stopped(when: When, end: End) {
    let situations = stopped();
    let mut stage = Stage::set(Story::with_ports(situations.len()), situations, when, None);
    for gateway in &mut stage.listening {
        match end {
            End::Close => gateway.close(),
            End::Exit => assert_eq!(gateway.exit(7).code(), Some(7)),
            End::Kill => assert!(gateway.kill().code().is_none()),
        }
        stage.story.closed(gateway.pid);
        let line = stage.story.tracer().listener(Change::Closed, gateway.pid);
        gateway.assert_is(&line.listener);
        let (state, code, signal) = match end {
            End::Close => (OwnerState::Alive, None, None),
            End::Exit => (OwnerState::Ended, Some(7), None),
            End::Kill => (OwnerState::Ended, None, Some(libc::SIGKILL)),
        };
        assert_eq!(line.owner, Some(Owner { state, code, signal }), "{line:?}");
    }
    stage.play(Cause::Stopped, &[], By::Stack);
}

/// What an nftables rule does with a connect.
fn action(by: By) -> &'static str {
    match by {
        By::Stack => "accept",
        By::Reset => "reject with tcp reset",
        By::Icmp => "reject",
    }
}

fn port_set(story: &Story) -> String {
    let ports: Vec<String> = story.ports.iter().map(|port| port.number.to_string()).collect();
    format!("{{ {} }}", ports.join(", "))
}

fn staged_intercepted(when: When, by: By) {
    let situations = intercepted();
    let story = Story::with_ports(situations.len());
    story.netns.nft(&format!(
        "table inet firewall {{
            chain input {{
                type filter hook input priority 0
                tcp dport {} {}
            }}
        }}",
        port_set(&story),
        action(by)
    ));
    Stage::set(story, situations, when, None).play(Cause::Intercepted, &[], by);
}

/// Another host cannot be staged: whatever has the address on this host makes it local here. What can is a
/// rule that refuses in its place, on the way out.
fn staged_remote(when: When, by: By) {
    let situations = remote();
    let story = Story::with_ports(situations.len());
    story.netns.ip(&format!("route add {REMOTE_V4} dev eth0\nroute add {REMOTE_V6} dev eth0"));
    story.netns.nft(&format!(
        "table inet firewall {{
            chain output {{
                type filter hook output priority 0
                ip daddr {REMOTE_V4} tcp dport {ports} {action}
                ip6 daddr {REMOTE_V6} tcp dport {ports} {action}
            }}
        }}",
        ports = port_set(&story),
        action = action(by)
    ));
    Stage::set(story, situations, when, None).play(Cause::Remote, &[Because::MayBeTranslated], by);
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (when, suffix) in [(When::Before, "listener_before_tracer"), (When::After, "listener_after_tracer")] {
        let name = |cause: &str| format!("causes::{cause}::{suffix}");
        for (by, rule) in [(By::Icmp, "reject"), (By::Reset, "reject_with_tcp_reset")] {
            trials.push(trial(name(&format!("intercepted::{rule}")), NEEDS_NFT, move || {
                staged_intercepted(when, by);
            }));
            trials.push(trial(name(&format!("remote::{rule}")), NEEDS_NFT, move || staged_remote(when, by)));
        }
        for (end, how) in [(End::Close, "closed"), (End::Exit, "exited"), (End::Kill, "killed")] {
            trials.push(trial(name(&format!("stopped::{how}")), NEEDS, move || staged_stopped(when, end)));
        }
        let tables = [
            (Cause::WrongDevice, wrong_device as fn() -> Vec<Situation>),
            (Cause::WrongFamily, wrong_family),
            (Cause::WrongAddress, wrong_address),
        ];
        for (cause, situations) in tables {
            let name = name(&cause.name().replace('-', "_"));
            trials.push(trial(name, NEEDS, move || staged(cause, situations(), when)));
        }
        trials.push(trial(name("other_netns"), NEEDS, move || staged_other_netns(when)));
    }
    trials.push(trial("causes::nothing_listening", NEEDS, || {
        staged(Cause::NothingListening, nothing_listening(), When::Before);
    }));
    trials.extend([
        trial("causes::order::stopped_comes_before_wrong_family", NEEDS, stopped_comes_before_wrong_family),
        trial("causes::order::an_opening_ends_stopped", NEEDS, an_opening_ends_stopped),
        trial("causes::order::a_listener_here_comes_before_one_elsewhere", NEEDS, here_comes_first),
    ]);
    trials
}

/// A listener of the other family was up all the time; the one that covered the address has closed.
fn stopped_comes_before_wrong_family() {
    let mut story = Story::begin();
    let other = story.listen("[::1]");
    let mut gateway = story.listen("127.0.0.1");
    story.trace();
    story.close(&mut gateway);
    story
        .refused("127.0.0.1")
        .cause(Cause::Stopped)
        .weighs(&gateway, Mismatch::Closed)
        .weighs(&other, Mismatch::Family);
    story.end();
}

/// The gateway came back on another address: that is the news, not that it had stopped.
fn an_opening_ends_stopped() {
    let mut story = Story::begin();
    let mut gateway = story.listen("127.0.0.1");
    story.trace();
    story.close(&mut gateway);
    let successor = story.listen("10.77.0.1");
    story.refused("127.0.0.1").cause(Cause::WrongAddress).weighs(&successor, Mismatch::Address);
    story.end();
}

/// A listener in the client's own namespace explains more than one in another.
fn here_comes_first() {
    let mut story = Story::begin();
    let other = Netns::new();
    let here = story.listen("10.77.0.1");
    let _elsewhere = story.listen_in(&other, "127.0.0.1");
    story.trace();
    story.refused("127.0.0.1").cause(Cause::WrongAddress).weighs(&here, Mismatch::Address);
    story.end();
}
