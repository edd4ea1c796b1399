//! What a gateway's configuration sets, beside what its sockets show; who changes it; and hostile files.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use rustix::fs::FileType;
use tracer::output::schema::{Body, Cause, Config, ConfigChange, ConfiguredValue, Verdict};

use tests::fixture::{Client, Fixture, Listen, Listening};
use tests::needs::Need;
use tests::process::ProcessSpec;
use tests::suite::test;
use tests::token::TOKEN;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

const TAILNET: &str = "100.101.102.103";

pub fn all() -> Vec<Trial> {
    let all = vec![
        test("configs::agrees", NEEDS, agrees),
        test("configs::the_trap", NEEDS, the_trap),
        test("configs::arguments_win_over_the_file", NEEDS, arguments_win),
        test("configs::of_a_candidate", NEEDS, of_a_candidate),
        test("configs::of_a_candidate_that_ended", NEEDS, of_a_candidate_that_ended),
        test("configs::changed::replaced", NEEDS, || changes(replace, ConfigChange::Replaced)),
        test("configs::changed::written_in_place", NEEDS, || changes(write_in_place, ConfigChange::Written)),
        test("configs::changed::by_an_editor", NEEDS, || changes(edit, ConfigChange::Replaced)),
        test("configs::changed::removed_and_back", NEEDS, removed_and_back),
        test("configs::changed::with_its_directory", NEEDS, with_its_directory),
        test("configs::changed::taken_back", NEEDS, taken_back),
        test("configs::hostile::a_file_system_that_hangs", NEEDS, that_hangs),
    ];
    let hostile = HOSTILE
        .iter()
        .map(|file| test(format!("configs::hostile::{}", file.name), NEEDS, move || hostile(file)));
    all.into_iter().chain(hostile).collect()
}

/// A home directory with a configuration.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join(".openclaw")).expect("a directory");
        Self { directory }
    }

    pub(crate) fn with(bind: &str) -> Self {
        let home = Self::new();
        std::fs::write(home.file(), configuration(bind)).expect("to write the configuration");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join(".openclaw/openclaw.json")
    }

    pub(crate) fn gateway(&self) -> ProcessSpec {
        ProcessSpec::named("openclaw-gatewa").variable("HOME", self.path().to_str().expect("UTF-8"))
    }
}

fn configuration(bind: &str) -> String {
    format!("{{ gateway: {{ bind: \"{bind}\", auth: {{ mode: 'token', token: '{TOKEN}' }} }} }}")
}

/// As OpenClaw does it itself.
fn replace(file: &Path, contents: &str) {
    let young = file.with_extension("tmp");
    std::fs::write(&young, contents).expect("to write");
    std::fs::rename(&young, file).expect("to rename");
}

fn write_in_place(file: &Path, contents: &str) {
    std::fs::write(file, contents).expect("to write");
}

/// The old one is kept under another name, and a new one is written.
fn edit(file: &Path, contents: &str) {
    std::fs::rename(file, file.with_extension("json~")).expect("to rename");
    std::fs::write(file, contents).expect("to write");
}

/// A fixture in which a gateway listens on its tailnet address.
fn on_the_tailnet(home: &Home) -> (Fixture, Listening) {
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let gateway = fixture.listen(Listen::at(TAILNET).by(home.gateway()));
    (fixture, gateway)
}

fn refused(fixture: &mut Fixture) -> Verdict {
    fixture.refused("127.0.0.1").line.verdict.clone()
}

pub(crate) fn bind_of(claims: &[ConfiguredValue]) -> &ConfiguredValue {
    claims.iter().find(|configured| configured.what == "gateway.bind").unwrap_or_else(|| panic!("{claims:?}"))
}

/// Starts the tracer, which reports everything; its reader asserts that the token is not in it.
fn trace(fixture: &mut Fixture) {
    fixture.trace_with(&["--verbose"]);
}

fn agrees() {
    let home = Home::with("tailnet");
    let (mut fixture, gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    let verdict = refused(&mut fixture);
    assert_eq!(verdict.cause, Cause::WrongAddress);
    let bind = bind_of(&verdict.claims);
    assert_eq!(
        (bind.pid, bind.value.as_deref(), bind.agrees),
        (Some(gateway.pid), Some("tailnet"), Some(true))
    );
    assert_eq!(bind.source.as_str(), home.file().to_str().expect("UTF-8"));
    assert!(bind.changed.is_some(), "{bind:?}");
    let token = verdict.claims.iter().find(|configured| configured.what == "gateway.auth.token");
    assert_eq!(token.and_then(|configured| configured.value.as_deref()), Some("set"), "{:?}", verdict.claims);
    assert!(
        verdict.hint.as_deref().is_some_and(|hint| hint.starts_with("now: use http://100.")),
        "{verdict:?}"
    );
    fixture.end();
}

/// The file was changed after the process had started, and the process listens as before.
fn the_trap() {
    let home = Home::with("tailnet");
    let (mut fixture, mut gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    replace(&home.file(), &configuration("lan"));
    let config = changed(&mut fixture);
    assert_eq!(bind_of(&config.claims).agrees, Some(false), "{config:?}");
    // A restart inside the process.
    fixture.close(&mut gateway);
    gateway.must(&format!("bind {TAILNET}:{}", fixture.port()));
    gateway.listen(16).expect("to listen");
    let verdict = refused(&mut fixture);
    assert_eq!(verdict.cause, Cause::WrongAddress);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.value.as_deref(), bind.agrees), (Some("lan"), Some(false)));
    assert!(verdict.summary.contains("opened again"), "{}", verdict.summary);
    let hint = verdict.hint.expect("a hint");
    assert!(
        hint.starts_with("the file is already right. The process took its bind when it started"),
        "{hint}"
    );
    fixture.end();
}

fn arguments_win() {
    let home = Home::with("lan");
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let spec = home.gateway().arguments(&["--bind", "tailnet", "--token", TOKEN]);
    let spec = spec.variable("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let _gateway = fixture.listen(Listen::at(TAILNET).by(spec));
    trace(&mut fixture);
    let verdict = refused(&mut fixture);
    let binds: Vec<_> = verdict
        .claims
        .iter()
        .filter(|configured| configured.what == "gateway.bind")
        .map(|configured| (configured.source.as_str(), configured.value.as_deref(), configured.agrees))
        .collect();
    let file = home.file();
    assert_eq!(
        binds,
        [("arguments", Some("tailnet"), Some(true)), (file.to_str().expect("UTF-8"), Some("lan"), None)]
    );
    let hint = verdict.hint.expect("a hint");
    assert!(
        hint.starts_with("the file is already right, and the gateway.bind of its arguments wins over it"),
        "{hint}"
    );
    fixture.end();
}

/// One that has not listened yet has no sockets to agree.
fn of_a_candidate() {
    let home = Home::with("lan");
    let mut fixture = Fixture::begin();
    let _candidate = tests::process::Actor::start(&fixture.netns.place(), &home.gateway());
    trace(&mut fixture);
    let verdict = refused(&mut fixture);
    assert_eq!(verdict.cause, Cause::Starting);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.value.as_deref(), bind.agrees), (Some("lan"), None));
    fixture.end();
}

/// A gateway that its configuration ended, and that was read before.
fn of_a_candidate_that_ended() {
    let home = Home::with("lan");
    let mut fixture = Fixture::begin();
    trace(&mut fixture);
    let mut candidate = tests::process::Actor::start(&fixture.netns.place(), &home.gateway());
    // Seen while it starts, and its settings are read.
    assert_eq!(refused(&mut fixture).cause, Cause::Starting);
    candidate.exit(78);
    let verdict = refused(&mut fixture);
    assert_eq!(verdict.cause, Cause::NeverListened);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.pid, bind.value.as_deref(), bind.agrees), (Some(candidate.pid), Some("lan"), None));
    let hint = verdict.hint.expect("a hint");
    assert!(hint.contains("refused its configuration") && hint.ends_with("its log shows which"), "{hint}");
    fixture.end();
}

/// The next line about a configuration.
fn changed(fixture: &mut Fixture) -> Config {
    fixture.tracer().wait_for("a configuration that changed", |line| match &line.body {
        Body::Config(config) => Some((**config).clone()),
        _ => None,
    })
}

fn changes(change: fn(&Path, &str), expected: ConfigChange) {
    let home = Home::with("tailnet");
    let (mut fixture, _gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    change(&home.file(), &configuration("loopback"));
    let config = fixture.tracer().wait_for("the new bind", |line| match &line.body {
        Body::Config(config) if !config.changed.is_empty() => Some((**config).clone()),
        _ => None,
    });
    assert_eq!(config.path, home.file().to_str().expect("UTF-8"));
    // An editor's two steps are one where they are seen together.
    let is_expected = config.change == expected
        || expected == ConfigChange::Replaced && config.change == ConfigChange::Written;
    assert!(is_expected, "{config:?}");
    assert_eq!(config.process.pid, Some(std::process::id()), "{config:?}");
    let [setting] = &config.changed[..] else { panic!("{config:?}") };
    assert_eq!(
        (setting.what.as_str(), setting.from.as_deref(), setting.to.as_deref()),
        ("gateway.bind", Some("tailnet"), Some("loopback"))
    );
    assert_eq!(bind_of(&config.claims).agrees, Some(false), "{config:?}");
    fixture.end();
}

fn removed_and_back() {
    let home = Home::with("tailnet");
    let (mut fixture, _gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    std::fs::remove_file(home.file()).expect("to remove the configuration");
    let config = changed(&mut fixture);
    assert_eq!(
        (config.change, config.changed.len(), config.claims.len()),
        (ConfigChange::Removed, 0, 0),
        "{config:?}"
    );
    std::fs::write(home.file(), configuration("lan")).expect("to write");
    let config = fixture.tracer().wait_for("the new bind", |line| match &line.body {
        Body::Config(config) if !config.changed.is_empty() => Some((**config).clone()),
        _ => None,
    });
    assert_eq!(bind_of(&config.claims).value.as_deref(), Some("lan"), "{config:?}");
    fixture.end();
}

/// The directory gives way to another, with another file in it, which is followed from then on.
fn with_its_directory() {
    let home = Home::with("tailnet");
    let (mut fixture, _gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    let (directory, young) = (home.path().join(".openclaw"), home.path().join("young"));
    std::fs::create_dir(&young).expect("a directory");
    std::fs::write(young.join("openclaw.json"), configuration("loopback")).expect("to write");
    std::fs::rename(&directory, home.path().join("old")).expect("to rename");
    std::fs::rename(&young, &directory).expect("to rename");
    let wait = |fixture: &mut Fixture, bind: &str| {
        fixture.tracer().wait_for(bind, |line| match &line.body {
            Body::Config(config) => {
                config.claims.iter().any(|configured| configured.value.as_deref() == Some(bind)).then_some(())
            }
            _ => None,
        });
    };
    wait(&mut fixture, "loopback");
    replace(&home.file(), &configuration("lan"));
    wait(&mut fixture, "lan");
    fixture.end();
}

/// One process sets it right, and another sets it back.
fn taken_back() {
    let home = Home::with("tailnet");
    let (mut fixture, _gateway) = on_the_tailnet(&home);
    trace(&mut fixture);
    let wait = |fixture: &mut Fixture, bind: &str| {
        fixture.tracer().wait_for(bind, |line| match &line.body {
            Body::Config(config) => {
                config.changed.iter().any(|setting| setting.to.as_deref() == Some(bind)).then_some(())
            }
            _ => None,
        });
    };
    replace(&home.file(), &configuration("lan"));
    wait(&mut fixture, "lan");
    let mut sed = std::process::Command::new("sed");
    let status = sed.args(["-i", "s/\"lan\"/\"tailnet\"/"]).arg(home.file()).status().expect("to run sed");
    assert!(status.success());
    wait(&mut fixture, "tailnet");
    let verdict = refused(&mut fixture);
    let hint = verdict.hint.expect("a hint");
    assert!(hint.starts_with("something rewrites the file: "), "{hint}");
    assert!(
        hint.contains(" set gateway.bind to \"lan\"") && hint.contains("set it back to \"tailnet\""),
        "{hint}"
    );
    fixture.end();
}

/// A hostile configuration. None of these makes the tracer wait, or print what it must not.
struct Hostile {
    name: &'static str,
    prepare: fn(&Path),
    /// The note on the file; `None`: only its settings are shown.
    why: Option<&'static str>,
}

const HOSTILE: [Hostile; 13] = [
    Hostile {
        name: "a_named_pipe",
        prepare: |file| make(file, FileType::Fifo, 0),
        why: Some("it is a named pipe"),
    },
    Hostile {
        name: "a_socket",
        prepare: |file| make(file, FileType::Socket, 0),
        why: Some("it is a socket"),
    },
    Hostile {
        name: "a_device",
        // `/dev/zero`, which has no end.
        prepare: |file| make(file, FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
        why: Some("it is a device"),
    },
    Hostile {
        name: "a_link_to_the_passwords",
        prepare: |file| symlink("/etc/passwd", file).expect("a link"),
        why: Some("not JSON5"),
    },
    Hostile {
        name: "a_gigabyte",
        prepare: |file| {
            std::fs::File::create(file).and_then(|file| file.set_len(1 << 30)).expect("a file");
        },
        why: Some("it is longer than"),
    },
    Hostile {
        name: "deep_nesting",
        prepare: |file| write_in_place(file, &"[".repeat(500_000)),
        why: Some("nested too deep"),
    },
    Hostile {
        name: "nul_bytes",
        prepare: |file| write_in_place(file, "{gateway:{bind:'lan'}}\0\0"),
        why: Some("not JSON5"),
    },
    Hostile {
        name: "a_directory",
        prepare: |file| std::fs::create_dir(file).expect("a directory"),
        why: Some("it is a directory"),
    },
    Hostile {
        name: "no_permission",
        prepare: |file| {
            write_in_place(file, &configuration("lan"));
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("to chmod");
        },
        why: Some("may not read it"),
    },
    Hostile { name: "none", prepare: |_| {}, why: None },
    Hostile {
        name: "no_utf8",
        prepare: |file| std::fs::write(file, b"{gateway:{bind:'\xff\xfe'}}").expect("a file"),
        why: Some("it is not UTF-8"),
    },
    Hostile {
        name: "huge_numbers",
        prepare: |file| write_in_place(file, "{gateway:{port:1e999999999,bind:-1e400}}"),
        why: None,
    },
    Hostile {
        name: "keys_that_stand_twice",
        prepare: |file| write_in_place(file, "{gateway:{bind:'lan'},gateway:{bind:'tailnet'}}"),
        why: None,
    },
];

fn make(file: &Path, kind: FileType, device: rustix::fs::Dev) {
    rustix::fs::mknodat(rustix::fs::CWD, file, kind, rustix::fs::Mode::RUSR, device).expect("a node");
}

/// A fixture with a gateway that has this configuration, and may not read what is another user's.
fn with_hostile(prepare: impl FnOnce(&Path)) -> (Home, Fixture, Listening) {
    let home = Home::new();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).expect("to chmod");
    prepare(&home.file());
    let mut fixture = Fixture::begin();
    fixture.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let gateway = fixture.listen(Listen::at(TAILNET).by(home.gateway().uid(65_534)));
    (home, fixture, gateway)
}

fn hostile(Hostile { name, prepare, why }: &Hostile) {
    let (_home, mut fixture, _gateway) = with_hostile(|file| {
        prepare(file);
        // Readable for the gateway's user whatever the umask is, so that its contents decide.
        if *name != "no_permission" && file.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("to chmod");
        }
    });
    trace(&mut fixture);
    let verdict = fixture.refused(Client::nonblocking("127.0.0.1")).line.verdict.clone();
    assert_eq!(verdict.cause, Cause::WrongAddress);
    let shown = format!("{:?}", verdict.claims);
    match why {
        Some(why) => {
            let [configured] = &verdict.claims[..] else { panic!("{shown}") };
            assert_eq!((configured.what.as_str(), configured.value.as_deref()), ("file", None), "{shown}");
            assert!(configured.note.as_deref().is_some_and(|note| note.contains(why)), "{shown}");
        }
        None => assert!(verdict.claims.iter().all(|configured| configured.value.is_some()), "{shown}"),
    }
    match *name {
        "none" => assert!(verdict.claims.is_empty(), "{shown}"),
        // What it means to JSON5: the last one counts.
        "keys_that_stand_twice" => {
            assert_eq!(bind_of(&verdict.claims).value.as_deref(), Some("tailnet"), "{shown}");
        }
        // As it stands there, since it is not a port.
        "huge_numbers" => {
            let value = |what: &str| {
                verdict.claims.iter().find(|configured| configured.what == what)?.value.as_deref()
            };
            assert_eq!(
                (value("gateway.port"), value("gateway.bind")),
                (Some("1e999999999"), Some("-1e400")),
                "{shown}"
            );
        }
        _ => {}
    }
    let log = fixture.end();
    assert!(!log.text().contains("root:"), "{}", log.text());
}

/// A process that opens the file waits for ever, as on a file system whose server has ended: the trace goes on.
fn that_hangs() {
    let (home, mut fixture, _gateway) = with_hostile(|file| write_in_place(file, &configuration("lan")));
    std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(0o644)).expect("to chmod");
    let hung = Hung::begin(&home.file());
    trace(&mut fixture);
    for addr in ["127.0.0.1", "[::1]"] {
        let verdict = fixture.refused(Client::nonblocking(addr)).line.verdict.clone();
        assert_eq!(verdict.cause, Cause::WrongAddress);
        assert!(verdict.claims.is_empty(), "{:?}", verdict.claims);
    }
    // One thread waits there for each server, however often it is asked.
    let _another = fixture.listen(Listen::at("10.77.0.1").by(home.gateway().uid(65_534)));
    let threads = std::fs::read_dir(format!("/proc/{}/task", fixture.tracer().pid())).expect("its threads");
    let names = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("comm")));
    let waiting = names.filter(|name| name.as_ref().is_ok_and(|name| name.trim() == "settings")).count();
    assert!((1..=3).contains(&waiting), "{waiting}: two servers, and the thread that goes on");
    drop(hung);
    // Then others are read again.
    let other = Home::with("loopback");
    let _other = fixture.listen(Listen::at("[fd77::1]").by(other.gateway()));
    assert_eq!(bind_of(&refused(&mut fixture).claims).value.as_deref(), Some("loopback"));
    fixture.end();
}

/// A file that is not opened until this is dropped: the process that fanotify asks does not answer.
pub(crate) struct Hung(#[expect(dead_code, reason = "its end lets all go on that wait")] OwnedFd);

impl Hung {
    pub(crate) fn begin(file: &Path) -> Self {
        // SAFETY: a plain system call.
        let group = unsafe { libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, 0) };
        assert!(group >= 0, "fanotify_init: {}", std::io::Error::last_os_error());
        // SAFETY: just opened, and not shared.
        let group = unsafe { OwnedFd::from_raw_fd(group) };
        let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("no NUL");
        let (mark, mask) = (libc::FAN_MARK_ADD, libc::FAN_OPEN_PERM);
        // SAFETY: a string that ends in NUL and outlives the call.
        let result =
            unsafe { libc::fanotify_mark(group.as_raw_fd(), mark, mask, libc::AT_FDCWD, path.as_ptr()) };
        assert_eq!(result, 0, "fanotify_mark: {}", std::io::Error::last_os_error());
        Self(group)
    }
}
