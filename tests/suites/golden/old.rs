//! Recordings in the form of the core before queries and answers were data: JSON lines, one object a line, `k` is its kind.

use std::collections::HashMap;
use std::io::Read as _;

use serde::de::DeserializeOwned;
use serde_json::Value;

use tracer::model::clock::Clock;
use tracer::model::kernel_event::{Executed, KernelEvent, Listened, Lost, LostWhere, Shutdown};
use tracer::model::namespace::{Link, LocalRoute, Namespace};
use tracer::model::process::{Process, Text};
use tracer::model::socket::{Holder, Listener, NetnsId, SocketKey, TcpState};
use tracer::model::time::{Interval, Mono, StartTime, WallTime};
use tracer::output::schema;
use tracer::products::{ConfigFile, FileSettings, Override, ProductRef, ServerSettings, Source};
use tracer::query::{
    Candidate, ConfigChanged, FileChange, FileId, Scan, ScanScope, SettingsRead, Unreadable,
};
use tracer::run::Setup;
use tracer::stream::decode::{decode, is_loss};
use tracer_ebpf as wire;

/// One recorded run.
pub struct Recording {
    pub name: String,
    objects: Vec<Value>,
}

/// Every recording, in the order of their names.
pub fn recordings() -> Vec<Recording> {
    let mut text = String::new();
    let bytes = include_bytes!("recordings.jsonl.gz").as_slice();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("recordings.jsonl.gz");
    let mut recordings: Vec<Recording> = Vec::new();
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).expect("a line of recordings.jsonl.gz");
        match kind(&object) {
            "recording" => recordings.push(Recording { name: text_of(&object["name"]), objects: Vec::new() }),
            _ => recordings.last_mut().expect("a name comes first").objects.push(object),
        }
    }
    recordings
}

/// What a run met, in order.
pub enum Step {
    /// A batch of the ring, with what was lost before it.
    Ring {
        at: Mono,
        lost: Vec<Lost>,
        events: Vec<KernelEvent>,
    },
    Clock(Clock),
    /// A change of a configuration file, seen at this time.
    Config {
        at: Mono,
        changed: ConfigChanged,
    },
    Alive {
        at: Mono,
    },
    End {
        at: Mono,
    },
}

/// What is asked, whatever is known already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    Host,
    Namespace(NetnsId),
    Owners(NetnsId),
    Holders(NetnsId, u16),
    OtherPorts(NetnsId),
    LocalSockets,
    Forwarders,
    Candidates,
    Candidate(u32),
    Process(u32, StartTime),
    Writer(u32),
    Settings(u32),
    Named(NetnsId),
}

/// What the host was found to have.
#[derive(Clone)]
pub enum Found {
    Unknown,
    Scan(Scan),
    /// The owners of listeners that were known.
    Owners(Vec<(u64, Process)>),
    Holders(Vec<Holder>),
    OtherPorts(Vec<Listener>),
    Candidates(Vec<Candidate>, bool),
    Candidate(Option<Candidate>),
    Process(Process),
    Settings(SettingsRead),
    Named(bool),
}

/// An answer of the host.
#[derive(Clone)]
pub struct Answered {
    pub interval: Interval,
    pub found: Found,
}

/// A recorded run: its inputs for the core, in order.
pub struct Run {
    pub setup: Setup,
    pub steps: Vec<Step>,
    pub answers: HashMap<Question, Vec<Answered>>,
    /// What was lost, as found out at the end.
    pub lost: Vec<Lost>,
    pub reason: schema::StopReason,
    /// The lines that were written.
    pub lines: Vec<Value>,
}

/// What the values of one recording are read with.
struct Reader {
    clock: Clock,
}

impl Recording {
    pub fn read(&self) -> Run {
        let start = self.objects.first().filter(|first| kind(first) == "start").expect("`start` comes first");
        let reader = Reader { clock: clock(&start["clock"]) };
        let lines: Vec<Value> = self.of("line").map(|object| object["line"].clone()).collect();
        let end = self.of("end").next().expect("`end`");
        let mut run = Run {
            setup: setup(start, reader.clock, &lines[0]),
            steps: Vec::new(),
            answers: HashMap::new(),
            lost: Vec::new(),
            reason: parsed(&end["reason"]),
            lines,
        };
        self.steps(&reader, &mut run);
        add_results(&mut run.steps);
        self.answers(&reader, &mut run.answers);
        for answers in run.answers.values_mut() {
            answers.sort_by_key(|answer| answer.interval.began);
        }
        run
    }

    fn of<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| kind(object) == wanted)
    }

    fn steps(&self, reader: &Reader, run: &mut Run) {
        let mut is_at_the_end = false;
        for (index, object) in self.objects.iter().enumerate() {
            match kind(object) {
                "ring" => {
                    let decoded = records(object).filter(|bytes| !is_loss(bytes));
                    let events = decoded.map(|bytes| event(&bytes)).collect();
                    run.steps.push(Step::Ring { at: mono(&object["at"]), lost: Vec::new(), events });
                }
                "losses" => {
                    let losses = list(&object["losses"]).map(lost);
                    match run.steps.last_mut().filter(|_| !is_at_the_end) {
                        Some(Step::Ring { lost, .. }) => lost.extend(losses),
                        _ => run.lost.extend(losses),
                    }
                }
                "clock" => run.steps.push(Step::Clock(clock(object))),
                "config" => run.steps.push(reader.config(&object["configured"])),
                "alive" => {
                    let line = &self.objects[index..].iter().find(|object| kind(object) == "line");
                    let at = line.map_or(Mono(0), |line| mono(&line["mono"]));
                    run.steps.push(Step::Alive { at });
                }
                "end" => run.steps.push(Step::End { at: mono(&object["now"]) }),
                "tick" if object["finish"] == true => is_at_the_end = true,
                "unseen_ends" => {
                    let records = number(&object["count"]);
                    let from = mono(&object["from"]);
                    let (place, to) = (LostWhere::Recursion, from);
                    run.lost.extend((records > 0).then_some(Lost { records, place, from, to }));
                }
                _ => {}
            }
        }
    }

    fn answers(&self, reader: &Reader, answers: &mut HashMap<Question, Vec<Answered>>) {
        let mut add = |question, interval, found| {
            answers.entry(question).or_default().push(Answered { interval, found });
        };
        for object in self.of("answer").chain(self.of("disturbed")) {
            let (name, parameters) = match &object["query"] {
                Value::String(name) => (name.as_str(), &Value::Null),
                Value::Object(query) => {
                    query.iter().next().map(|(name, of)| (name.as_str(), of)).expect("a query")
                }
                other => panic!("{other}"),
            };
            let result = &object["result"];
            let of = if object["began"].is_null() { result } else { object };
            let interval = Interval { began: mono(&of["began"]), ended: mono(&of["ended"]) };
            let netns = netns(&parameters["netns"]);
            match name {
                "everything" if object["blind"] == true => add(Question::Host, interval, Found::Unknown),
                "everything" => {
                    let scan = reader.scan(result);
                    // It answers for each of its namespaces too.
                    for namespace in &scan.namespaces {
                        let part = Scan {
                            scope: ScanScope::Namespace(namespace.id),
                            namespaces: vec![namespace.clone()],
                            listeners: of_netns(&scan.listeners, namespace.id),
                            unreadable: Vec::new(),
                        };
                        add(Question::Namespace(namespace.id), interval, Found::Scan(part));
                    }
                    add(Question::Host, interval, Found::Scan(scan));
                }
                "namespace" => add(Question::Namespace(netns), interval, Found::Scan(reader.scan(result))),
                "owners" | "owners_still" if result.is_null() => {}
                "owners" => {
                    let scan = reader.scan(result);
                    if !scan.namespaces.is_empty() {
                        let part = Scan { scope: ScanScope::Namespace(netns), ..scan.clone() };
                        add(Question::Namespace(netns), interval, Found::Scan(part));
                    }
                    add(Question::Owners(netns), interval, Found::Scan(scan));
                }
                "owners_still" => {
                    let scan = reader.scan(result);
                    let owners = scan.listeners.into_iter().map(|one| (one.key.inode, one.process));
                    add(Question::Owners(netns), interval, Found::Owners(owners.collect()));
                }
                "holders" => {
                    let sockets = list(&result["sockets"]).map(|one| Holder {
                        socket: reader.listener(&one["socket"]),
                        state: tcp_state(&text_of(&one["state"])),
                    });
                    let port = number(&parameters["port"]) as u16;
                    add(Question::Holders(netns, port), interval, Found::Holders(sockets.collect()));
                }
                "other_ports" => {
                    let listeners = list(&result["listeners"]).map(|one| reader.listener(one)).collect();
                    add(Question::OtherPorts(netns), interval, Found::OtherPorts(listeners));
                }
                "candidates" => {
                    let found = list(&result["found"]).map(|one| reader.candidate(one)).collect();
                    let is_complete = result["is_complete"] == true;
                    add(Question::Candidates, interval, Found::Candidates(found, is_complete));
                }
                // Each is in the answer that ends the search.
                "candidate" => {}
                "claims" => {
                    let read = reader.settings(result);
                    add(Question::Settings(read.pid), interval, Found::Settings(read));
                }
                "named" => add(Question::Named(netns), interval, Found::Named(result == true)),
                "client" => {
                    let process = reader.process(result);
                    if let Some(key) = process.key() {
                        add(Question::Process(key.pid, key.start), interval, Found::Process(process));
                    }
                }
                other => panic!("an answer to `{other}`"),
            }
        }
        self.described(reader, &mut add);
        for object in self.of("config") {
            let configured = &object["configured"];
            for read in list(&configured["claimed"]) {
                let interval = interval(&read["look"]);
                let read = reader.settings(read);
                add(Question::Settings(read.pid), interval, Found::Settings(read));
            }
            let process = reader.process(&configured["process"]);
            let at = list(&configured["claimed"]).map(|read| interval(&read["look"]).began).min();
            let at = at.unwrap_or_else(|| mono(&configured["time"]));
            if let Some(pid) = process.pid {
                let interval = Interval { began: at, ended: at };
                add(Question::Writer(pid), interval, Found::Process(process));
            }
        }
    }

    /// What `/proc` said of the processes of records, just after they were taken.
    fn described(&self, reader: &Reader, add: &mut impl FnMut(Question, Interval, Found)) {
        let mut batches: HashMap<u64, (Mono, Vec<Vec<u8>>)> = HashMap::new();
        for object in &self.objects {
            match kind(object) {
                "ring" => {
                    let batch = (mono(&object["at"]), records(object).collect());
                    batches.insert(number(&object["batch"]), batch);
                }
                "described" => {
                    let (at, records) = &batches[&number(&object["of"][0])];
                    let interval = Interval { began: *at, ended: *at };
                    if object["kind"] == "candidate" {
                        let record = &records[number(&object["of"][1]) as usize];
                        let KernelEvent::Executed(executed) = event(record) else { panic!("no exec") };
                        let Some(pid) = executed.process.pid else { continue };
                        let one = &object["candidate"];
                        let candidate = (!one.is_null()).then(|| reader.candidate(one));
                        add(Question::Candidate(pid), interval, Found::Candidate(candidate));
                    } else if !object["process"].is_null() {
                        let process = reader.process(&object["process"]);
                        let Some(key) = process.key() else { continue };
                        add(Question::Process(key.pid, key.start), interval, Found::Process(process));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Reader {
    fn scan(&self, snapshot: &Value) -> Scan {
        let namespaces: Vec<Namespace> = list(&snapshot["namespaces"]).map(namespace).collect();
        let unreadable: Vec<Unreadable> = list(&snapshot["unreadable"])
            .map(|one| Unreadable { id: netns(&one["id"]), why: text_of(&one["why"]) })
            .collect();
        // The hidden processes' namespaces stood as one without a number.
        let is_partial = unreadable.iter().any(|one| one.id == NetnsId(0));
        let unreadable: Vec<Unreadable> = unreadable.into_iter().filter(|one| one.id != NetnsId(0)).collect();
        let first = namespaces.first().map(|one| one.id).or(unreadable.first().map(|one| one.id));
        let scope = if !snapshot["owners_of"].is_null() {
            ScanScope::Owners(netns(&snapshot["owners_of"]))
        } else if snapshot["is_complete"] == true {
            ScanScope::Host { is_partial }
        } else {
            ScanScope::Namespace(first.unwrap_or(NetnsId(0)))
        };
        let listeners = list(&snapshot["listeners"]).map(|one| self.listener(one)).collect();
        Scan { scope, namespaces, listeners, unreadable }
    }

    fn listener(&self, listener: &Value) -> Listener {
        Listener {
            key: SocketKey {
                inode: number(&listener["key"]["inode"]),
                cookie: number(&listener["key"]["cookie"]),
            },
            netns: netns(&listener["netns"]),
            addr: parsed(&listener["addr"]),
            port: parsed(&listener["port"]),
            v6only: parsed(&listener["v6only"]),
            device: parsed(&listener["device"]),
            backlog: parsed(&listener["backlog"]),
            since: (!listener["since"].is_null()).then(|| mono(&listener["since"])),
            process: self.process(&listener["process"]),
            opener: None,
        }
    }

    fn process(&self, process: &Value) -> Process {
        let text = |name: &str| process[name].as_str().map(|text| Text::new(&unescape(text)));
        let container: Option<schema::Container> = parsed(&process["container"]);
        Process {
            pid: parsed(&process["pid"]),
            ns_pid: parsed(&process["ns_pid"]),
            ppid: parsed(&process["ppid"]),
            uid: parsed(&process["uid"]),
            uid_at_exec: None,
            comm: text("comm"),
            exe: text("exe"),
            script: None,
            arguments: None,
            start: self.start(&process["start_time"]),
            container: container.map(Into::into),
            unit: None,
        }
    }

    /// The start of a process, which was recorded by the wall clock.
    fn start(&self, time: &Value) -> Option<StartTime> {
        let wall = wall_time(time)?;
        let boottime = wall - self.clock.realtime_offset + self.clock.boottime_offset;
        let half = StartTime::TICK_NS / 2;
        Some(StartTime::from_boottime(u64::try_from(boottime).ok()?.saturating_add(half)))
    }

    fn candidate(&self, candidate: &Value) -> Candidate {
        Candidate {
            time: mono(&candidate["time"]),
            since: mono(&candidate["since"]),
            netns: netns(&candidate["netns"]),
            process: self.process(&candidate["process"]),
            product: candidate["product"].as_str().map(product),
            port: None,
            is_named: true,
        }
    }

    fn settings(&self, claimed: &Value) -> SettingsRead {
        SettingsRead {
            pid: parsed(&claimed["pid"]),
            started: self.start(&claimed["started"]),
            settings: (!claimed["claims"].is_null()).then(|| settings(&claimed["claims"])),
            file: parsed::<Option<u64>>(&claimed["file"]).map(FileId),
        }
    }

    fn config(&self, configured: &Value) -> Step {
        let time = mono(&configured["time"]);
        let claimed: Vec<SettingsRead> = list(&configured["claimed"]).map(|one| self.settings(one)).collect();
        let looks = list(&configured["claimed"]).map(|one| interval(&one["look"]).began);
        let changed = ConfigChanged {
            time,
            file: FileId(number(&configured["file"])),
            path: text_of(&configured["path"]).into(),
            change: match configured["change"].as_str() {
                Some("replaced") => FileChange::Replaced,
                Some("written") => FileChange::Written,
                Some("removed") => FileChange::Removed,
                other => panic!("{other:?}"),
            },
            writer: parsed(&configured["process"]["pid"]),
            users: claimed.iter().map(|read| read.pid).collect(),
        };
        Step::Config { at: looks.min().unwrap_or(time), changed }
    }
}

/// Bytes of a refusal before it had a role.
const REFUSED_BYTES: usize = std::mem::offset_of!(wire::Refused, role);

/// Bytes of a program's start before it had more than its header and the task.
const EXECUTED_BYTES: usize = size_of::<wire::Header>() + size_of::<wire::Task>();

/// Reads a record. What has been added since is 0: of a refusal, the role of a client.
fn event(record: &[u8]) -> KernelEvent {
    let mut record = record.to_vec();
    let is_of = |kind: u32| record[..4] == kind.to_ne_bytes();
    let is_old_start = record.len() == EXECUTED_BYTES && is_of(wire::kind::EXECUTED);
    let is_old_refusal = record.len() == REFUSED_BYTES && is_of(wire::kind::REFUSED);
    let grown = is_old_start
        .then_some(size_of::<wire::Executed>())
        .or(is_old_refusal.then_some(size_of::<wire::Refused>()));
    if let Some(bytes) = grown {
        record.resize(bytes, 0);
        record[4..8].copy_from_slice(&(bytes as u32).to_ne_bytes());
    }
    match decode(&record).expect("a record") {
        KernelEvent::Executed(executed) if is_old_start => {
            KernelEvent::Executed(Box::new(Executed { program: None, ..*executed }))
        }
        event => event,
    }
}

/// Within this time, in its own thread, a `listen()` that failed went back to CLOSE: so its result was known.
const FAILURE_NS: u64 = 1_000_000;

/// Adds the results of `listen()`, which were not recorded, as they were known then.
fn add_results(steps: &mut [Step]) {
    let events = |step: &Step| match step {
        Step::Ring { events, .. } => events.clone(),
        _ => Vec::new(),
    };
    let all: Vec<KernelEvent> = steps.iter().flat_map(events).collect();
    let mut following = all.iter();
    for step in steps {
        let Step::Ring { events, .. } = step else { continue };
        for event in std::mem::take(events) {
            following.next();
            let listened = match &event {
                KernelEvent::Opened(opened) => {
                    let is_end = |event: &&KernelEvent| {
                        matches!(event, KernelEvent::Closed(closed)
                            if closed.listener.key.is_same(opened.listener.key))
                    };
                    let has_failed = following.clone().find(is_end).is_some_and(|event| {
                        matches!(event, KernelEvent::Closed(closed) if closed.shutdown == Shutdown::None
                            && closed.tid == opened.tid
                            && closed.time.since(opened.time) < FAILURE_NS)
                    });
                    (!has_failed).then_some(Listened {
                        time: opened.time,
                        key: opened.listener.key,
                        netns: opened.listener.netns,
                        netns_cookie: opened.netns_cookie,
                        has_succeeded: true,
                    })
                }
                _ => None,
            };
            events.push(event);
            events.extend(listened.map(KernelEvent::Listened));
        }
    }
}

fn setup(start: &Value, clock: Clock, first: &Value) -> Setup {
    let undetectable: Option<schema::Cause> = parsed(&start["undetectable"]);
    Setup {
        run: parsed(&first["run"]),
        now: mono(&start["mono"]),
        clock,
        start: parsed(&start["start"]),
        count: parsed(&start["count"]),
        all: start["all"] == true,
        undetectable: undetectable.map(Into::into),
        skips_listeners: start["skips_anything"] == true,
        patience_ns: None,
        patterns: Vec::new(),
    }
}

fn settings(claims: &Value) -> ServerSettings {
    let overrides = list(&claims["said"]).map(|one| Override {
        what: text_of(&one["what"]).into(),
        value: parsed(&one["value"]),
        source: match one["source"].as_str() {
            Some(_) => Source::Arguments,
            None => Source::Environment(text_of(&one["source"]["environment"]).into()),
        },
    });
    let file = &claims["file"];
    let file = (!file.is_null()).then(|| ConfigFile {
        path: text_of(&file["path"]).into(),
        changed: wall_time(&file["changed"]).map(WallTime),
        settings: match file["settings"]["Err"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(file_settings(&file["settings"]["Ok"])),
        },
    });
    ServerSettings {
        overrides: overrides.collect(),
        file,
        ..ServerSettings::of(product(claims["product"].as_str().expect("a product")))
    }
}

fn file_settings(settings: &Value) -> FileSettings {
    FileSettings {
        values: list(&settings["said"]).map(|pair| (text_of(&pair[0]).into(), text_of(&pair[1]))).collect(),
        version: parsed(&settings["version"]),
        includes: settings["includes"] == true,
        ..FileSettings::default()
    }
}

fn namespace(namespace: &Value) -> Namespace {
    let link = |link: &Value| Link {
        index: parsed(&link["index"]),
        name: text_of(&link["name"]),
        master: parsed(&link["master"]),
        vrf_table: parsed(&link["vrf_table"]),
        peer: None,
    };
    let route = |route: &Value| LocalRoute {
        addr: parsed(&route["addr"]),
        prefix_len: parsed(&route["prefix_len"]),
        device: parsed(&route["device"]),
        table: parsed(&route["table"]),
    };
    Namespace {
        id: netns(&namespace["id"]),
        cookie: number(&namespace["cookie"]),
        name: parsed(&namespace["name"]),
        is_own: namespace["is_own"] == true,
        links: list(&namespace["links"]).map(link).collect(),
        local: list(&namespace["local"]).map(route).collect(),
        l3mdev_accept: parsed(&namespace["l3mdev_accept"]),
    }
}

fn lost(lost: &Value) -> Lost {
    let place = match lost["place"].as_str() {
        Some("ring") => LostWhere::Ring,
        Some("recursion") => LostWhere::Recursion,
        Some("attempts") => LostWhere::Attempts,
        Some("followed") => LostWhere::Followed,
        Some("decode") => LostWhere::Decode,
        other => panic!("{other:?}"),
    };
    Lost { records: number(&lost["records"]), place, from: mono(&lost["from"]), to: mono(&lost["to"]) }
}

fn tcp_state(name: &str) -> TcpState {
    const ALL: [TcpState; 12] = [
        TcpState::Established,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::TimeWait,
        TcpState::Closed,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::Listen,
        TcpState::Closing,
        TcpState::Unknown,
    ];
    ALL.into_iter().find(|state| state.name() == name).unwrap_or_else(|| panic!("`{name}`"))
}

/// What [`tracer::model::escape::escape`] made of bytes, back.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let mut length = 1;
        match after.as_bytes()[0] {
            b'\\' => out.push(b'\\'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'x' => {
                length = 3;
                out.push(u8::from_str_radix(&after[1..3], 16).expect("two digits"));
            }
            b'u' => {
                length = after.find('}').expect("`}`") + 1;
                let number = u32::from_str_radix(&after[2..length - 1], 16).expect("digits");
                let character = char::from_u32(number).expect("a character");
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => panic!("`\\{}`", char::from(other)),
        }
        rest = &after[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

pub fn of_netns(listeners: &[Listener], netns: NetnsId) -> Vec<Listener> {
    listeners.iter().filter(|listener| listener.netns == netns).cloned().collect()
}

fn product(name: &str) -> ProductRef {
    ProductRef::by_name(name).unwrap_or_else(|| panic!("`{name}`"))
}

fn kind(object: &Value) -> &str {
    object["k"].as_str().expect("a kind")
}

fn records(ring: &Value) -> impl Iterator<Item = Vec<u8>> {
    list(&ring["records"]).map(|record| {
        let digits = record.as_str().expect("a record").as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    })
}

fn clock(clock: &Value) -> Clock {
    let offset = |name: &str| clock[name].as_str().expect("an offset").parse().expect("an offset");
    Clock { realtime_offset: offset("realtime_offset"), boottime_offset: offset("boottime_offset") }
}

fn wall_time(time: &Value) -> Option<i128> {
    let time: jiff::Timestamp = time.as_str()?.parse().expect("a time");
    Some(time.as_nanosecond())
}

fn interval(look: &Value) -> Interval {
    Interval { began: mono(&look["began"]), ended: mono(&look["ended"]) }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not an unsigned number"))
}

fn mono(value: &Value) -> Mono {
    Mono(number(value))
}

fn netns(value: &Value) -> NetnsId {
    NetnsId(value.as_u64().unwrap_or(0) as u32)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

fn parsed<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}
