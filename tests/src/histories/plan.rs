//! A history to be: what processes do with a port, and the connects that are refused meanwhile, at random from a seed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::random::Random;

/// An address that only some namespaces have: `bind()` to it fails until [`Step::AddAddress`].
pub const LATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 9, 9));
/// Addresses of `lo` in every history, besides loopback.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

/// Programs that are started: names of links to the one program that plays all of them.
pub const PROGRAMS: [&str; 6] = ["alphad", "betad", "gammad", "deltad", "epsilond", "zetad"];

/// Users besides root.
const USERS: [u32; 3] = [0, 1_001, 1_002];

/// Which of the ports of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortName {
    /// The watched port that clients ask for.
    Main,
    /// Another watched port.
    Other,
    /// A port that is not watched.
    Unwatched,
}

/// A program, its user and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Place in [`PROGRAMS`].
    pub name: usize,
    pub uid: u32,
    /// With other arguments than usual.
    pub has_other_arguments: bool,
}

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub v6only: bool,
}

/// Whose connect it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A process that does nothing else.
    Fresh { uid: u32 },
    /// A process of the history.
    Process(usize),
}

/// A refused connect, unless a listener answers it.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    pub client: Client,
    pub ip: IpAddr,
    pub port: PortName,
    /// The next step waits for the verdict.
    pub waits: bool,
}

/// One step. Processes and sockets are numbered in the order in which they are made; a step whose process or socket does
/// not exist (its `bind()` has failed) is left out.
#[derive(Clone, Debug)]
pub enum Step {
    /// Makes the next process.
    Start(Program),
    /// Makes the next socket.
    Bind {
        process: usize,
        port: PortName,
        address: Address,
        reuse: bool,
    },
    Listen {
        process: usize,
        socket: usize,
    },
    Close {
        process: usize,
        socket: usize,
    },
    /// Makes the next process, which has all sockets of its parent.
    Fork {
        process: usize,
    },
    /// Starts another program in the process, which inherits its sockets or not.
    Exec {
        process: usize,
        name: usize,
        keeps: bool,
    },
    Exit {
        process: usize,
        code: u8,
    },
    Kill {
        process: usize,
    },
    /// Milliseconds.
    Wait(u64),
    /// Adds [`LATE`].
    AddAddress,
    Connect(Connect),
}

/// All steps, and the seed that they come from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: Vec<Step>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut processes, mut sockets) = (0, 0);
        for step in &self.steps {
            write!(f, "    ")?;
            match step {
                Step::Start(program) => {
                    writeln!(f, "start {} as process {processes}", Shown(program))?;
                    processes += 1;
                }
                Step::Bind { process, port, address, reuse } => {
                    let v6only = if address.v6only { ", v6only" } else { "" };
                    let reuse = if *reuse { ", SO_REUSEADDR" } else { "" };
                    let ip = address.ip;
                    writeln!(f, "process {process} binds socket {sockets} to {ip} {port:?}{v6only}{reuse}")?;
                    sockets += 1;
                }
                Step::Listen { process, socket } => writeln!(f, "process {process} listens on {socket}")?,
                Step::Close { process, socket } => writeln!(f, "process {process} closes {socket}")?,
                Step::Fork { process } => {
                    writeln!(f, "process {process} forks process {processes}")?;
                    processes += 1;
                }
                Step::Exec { process, name, keeps } => {
                    let sockets = if *keeps { "with its sockets" } else { "without sockets" };
                    writeln!(f, "process {process} execs {} {sockets}", PROGRAMS[*name])?;
                }
                Step::Exit { process, code } => writeln!(f, "process {process} exits with {code}")?,
                Step::Kill { process } => writeln!(f, "process {process} is killed")?,
                Step::Wait(milliseconds) => writeln!(f, "{milliseconds} ms pass")?,
                Step::AddAddress => writeln!(f, "{LATE} is added")?,
                Step::Connect(Connect { client, ip, port, waits }) => {
                    let then = if *waits { "" } else { ", and the next step does not wait" };
                    writeln!(f, "{client:?} connects to {ip} {port:?}{then}")?;
                }
            }
        }
        Ok(())
    }
}

struct Shown<'a>(&'a Program);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Program { name, uid, has_other_arguments } = self.0;
        let arguments = if *has_other_arguments { ", other arguments" } else { "" };
        write!(f, "{} (uid {uid}{arguments})", PROGRAMS[*name])
    }
}

/// What the generator knows of a process while it makes the steps.
#[derive(Clone, Debug)]
struct Process {
    is_alive: bool,
    program: Program,
    sockets: Vec<usize>,
    /// Connects to each address only once: the second would be counted with the first.
    asked: Vec<(IpAddr, u16)>,
}

struct Generator {
    random: Random,
    steps: Vec<Step>,
    processes: Vec<Process>,
    /// Whether each listens, as far as the steps go.
    sockets: Vec<bool>,
    programs: Vec<Program>,
    clients: u32,
    is_added: bool,
}

impl Plan {
    /// The history of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = match random.below(100) {
            0..=54 => 1,
            55..=87 => 2,
            _ => 3,
        };
        let has_users = random.chance(25);
        let usual = if random.chance(70) { 0 } else { USERS[1] };
        let programs = (0..count)
            .map(|name| Program {
                name,
                uid: if has_users { *random.pick(&USERS) } else { usual },
                has_other_arguments: false,
            })
            .collect();
        let clients = if random.chance(80) { usual } else { *random.pick(&USERS) };
        let mut generator = Generator {
            random,
            steps: Vec::new(),
            processes: Vec::new(),
            sockets: Vec::new(),
            programs,
            clients,
            is_added: false,
        };
        generator.run();
        Self { seed, steps: generator.steps }
    }
}

impl Generator {
    fn run(&mut self) {
        self.start();
        let rounds = 1 + self.random.below(3);
        for round in 0..rounds {
            for _ in 0..1 + self.random.below(6) {
                self.act();
            }
            let is_last = round + 1 == rounds;
            // Mostly away from the moment at which a listener changes.
            if self.random.chance(85) {
                self.wait();
            }
            self.connect(is_last);
        }
    }

    fn wait(&mut self) {
        let milliseconds = match self.random.below(100) {
            0 => 5_300,
            1..=45 => 25,
            46..=55 => 2,
            _ => 90,
        };
        self.steps.push(Step::Wait(milliseconds));
    }

    fn alive(&mut self) -> Option<usize> {
        let alive: Vec<usize> =
            (0..self.processes.len()).filter(|&one| self.processes[one].is_alive).collect();
        (!alive.is_empty()).then(|| *self.random.pick(&alive))
    }

    fn start(&mut self) {
        let mut program = *self.random.pick(&self.programs);
        program.has_other_arguments = self.random.chance(3);
        self.steps.push(Step::Start(program));
        self.processes.push(Process { is_alive: true, program, sockets: Vec::new(), asked: Vec::new() });
    }

    fn address(&mut self) -> Address {
        let ip: IpAddr = match self.random.below(100) {
            0..=19 => Ipv4Addr::UNSPECIFIED.into(),
            20..=34 => Ipv6Addr::UNSPECIFIED.into(),
            35..=56 => Ipv4Addr::LOCALHOST.into(),
            57..=71 => Ipv6Addr::LOCALHOST.into(),
            72..=78 => Ipv4Addr::new(127, 0, 0, 2).into(),
            79..=85 => OWN_V4.into(),
            86..=90 => OWN_V6.into(),
            _ => LATE,
        };
        Address { ip, v6only: ip.is_ipv6() && self.random.chance(50) }
    }

    fn bind(&mut self, process: usize, port: PortName) -> usize {
        let address = self.address();
        let reuse = self.random.chance(40);
        self.steps.push(Step::Bind { process, port, address, reuse });
        self.sockets.push(false);
        let socket = self.sockets.len() - 1;
        self.processes[process].sockets.push(socket);
        socket
    }

    fn listen(&mut self, process: usize, socket: usize) {
        self.steps.push(Step::Listen { process, socket });
        self.sockets[socket] = true;
    }

    fn act(&mut self) {
        let choice = self.random.below(100);
        let Some(process) = self.alive() else {
            // Whether another starts is part of the history.
            if choice < 60 {
                self.start();
            }
            return;
        };
        let held = self.processes[process].sockets.clone();
        match choice {
            0..=9 if self.processes.len() < 7 => self.start(),
            10..=44 => {
                let socket = self.bind(process, PortName::Main);
                self.listen(process, socket);
                if self.random.chance(55) {
                    self.steps.push(Step::Wait(90));
                }
            }
            45..=49 => {
                self.bind(process, PortName::Main);
            }
            50..=52 => {
                if let Some(&socket) = held.iter().find(|&&socket| !self.sockets[socket]) {
                    self.listen(process, socket);
                }
            }
            53..=60 => {
                let port = if self.random.chance(50) { PortName::Other } else { PortName::Unwatched };
                let socket = self.bind(process, port);
                self.listen(process, socket);
            }
            61..=70 if !held.is_empty() => {
                let socket = *self.random.pick(&held);
                self.steps.push(Step::Close { process, socket });
                self.processes[process].sockets.retain(|&one| one != socket);
            }
            71..=75 if self.processes.len() < 7 => {
                self.steps.push(Step::Fork { process });
                let child = self.processes[process].clone();
                self.processes.push(child);
            }
            76..=79 => {
                let same = self.processes[process].program.name;
                let name = if self.random.chance(60) { same } else { self.random.below(PROGRAMS.len()) };
                let keeps = self.random.chance(50);
                self.steps.push(Step::Exec { process, name, keeps });
                self.processes[process].program.name = name;
                if !keeps {
                    self.processes[process].sockets.clear();
                }
            }
            80..=88 => {
                if self.random.chance(50) {
                    let code = *self.random.pick(&[0, 1, 78]);
                    self.steps.push(Step::Exit { process, code });
                } else {
                    self.steps.push(Step::Kill { process });
                }
                self.processes[process].is_alive = false;
            }
            89..=91 if !self.is_added => {
                self.steps.push(Step::AddAddress);
                self.is_added = true;
            }
            _ => self.wait(),
        }
    }

    fn connect(&mut self, is_last: bool) {
        let waits = is_last || self.random.chance(60);
        let ip: IpAddr = match self.random.below(100) {
            0..=54 => Ipv4Addr::LOCALHOST.into(),
            55..=79 => Ipv6Addr::LOCALHOST.into(),
            80..=84 => Ipv4Addr::new(127, 0, 0, 2).into(),
            85..=91 => OWN_V4.into(),
            92..=95 => OWN_V6.into(),
            _ if self.is_added => LATE,
            _ => OWN_V4.into(),
        };
        let port = if self.random.chance(93) { PortName::Main } else { PortName::Other };
        let own = self.random.chance(6).then(|| self.alive()).flatten();
        let own = own.filter(|&process| {
            let asked = &mut self.processes[process].asked;
            let is_new = !asked.contains(&(ip, port as u16));
            asked.push((ip, port as u16));
            is_new
        });
        let client = own.map_or(Client::Fresh { uid: self.clients }, Client::Process);
        self.steps.push(Step::Connect(Connect { client, ip, port, waits }));
    }
}

/// The ports of a history.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub main: u16,
    pub other: u16,
    pub unwatched: u16,
}

impl Ports {
    pub fn number(self, name: PortName) -> u16 {
        match name {
            PortName::Main => self.main,
            PortName::Other => self.other,
            PortName::Unwatched => self.unwatched,
        }
    }

    pub fn socket(self, name: PortName, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.number(name))
    }
}

impl Plan {
    /// The same without one step, and without all that needs what that step makes.
    pub fn without(&self, place: usize) -> Self {
        let made = |kind: fn(&Step) -> bool| {
            let before = self.steps[..place].iter().filter(|step| kind(step)).count();
            kind(&self.steps[place]).then_some(before)
        };
        let makes_process = |step: &Step| matches!(step, Step::Start(_) | Step::Fork { .. });
        let process = made(makes_process);
        let socket = made(|step| matches!(step, Step::Bind { .. }));
        let mut plan = Self { seed: self.seed, steps: Vec::new() };
        let mut steps = self.steps.clone();
        steps.remove(place);
        plan.steps.extend(steps.into_iter().filter_map(|step| step.renumbered(process, socket)));
        plan
    }

    /// Whether each step only names what steps before it make.
    pub fn is_whole(&self) -> bool {
        let (mut processes, mut sockets) = (0, 0);
        for step in &self.steps {
            let (process, socket) = step.named();
            if process.is_some_and(|process| process >= processes)
                || socket.is_some_and(|socket| socket >= sockets)
            {
                return false;
            }
            processes += usize::from(matches!(step, Step::Start(_) | Step::Fork { .. }));
            sockets += usize::from(matches!(step, Step::Bind { .. }));
        }
        true
    }
}

/// The number once `removed` is left out.
fn moved(number: usize, removed: Option<usize>) -> Option<usize> {
    match removed {
        Some(removed) if removed == number => None,
        Some(removed) if removed < number => Some(number - 1),
        _ => Some(number),
    }
}

impl Step {
    /// The process and the socket that it names.
    fn named(&self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Start(_) | Self::Wait(_) | Self::AddAddress => (None, None),
            Self::Listen { process, socket } | Self::Close { process, socket } => {
                (Some(*process), Some(*socket))
            }
            Self::Bind { process, .. }
            | Self::Fork { process }
            | Self::Exec { process, .. }
            | Self::Exit { process, .. }
            | Self::Kill { process } => (Some(*process), None),
            Self::Connect(connect) => match connect.client {
                Client::Fresh { .. } => (None, None),
                Client::Process(process) => (Some(process), None),
            },
        }
    }

    /// The step once a process or a socket is left out; none where it names it. A process that a left out fork would have
    /// made is left out where the steps do not make sense any more (see [`Plan::is_whole`]).
    fn renumbered(mut self, gone_process: Option<usize>, gone_socket: Option<usize>) -> Option<Self> {
        match &mut self {
            Self::Start(_) | Self::Wait(_) | Self::AddAddress => {}
            Self::Listen { process, socket } | Self::Close { process, socket } => {
                *process = moved(*process, gone_process)?;
                *socket = moved(*socket, gone_socket)?;
            }
            Self::Bind { process, .. }
            | Self::Fork { process }
            | Self::Exec { process, .. }
            | Self::Exit { process, .. }
            | Self::Kill { process } => *process = moved(*process, gone_process)?,
            Self::Connect(connect) => {
                if let Client::Process(process) = &mut connect.client {
                    *process = moved(*process, gone_process)?;
                }
            }
        }
        Some(self)
    }
}
