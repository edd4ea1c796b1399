//! What a gateway's configuration says, beside what its sockets do; who changes it; and files that are up to no good.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use tracer::line::{Body, Cause, Claim, Config, ConfigChange, Verdict};

use crate::support::cast::Costume;
use crate::support::needs::Need;
use crate::support::story::{Client, Listen, Listening, Story};
use crate::support::token::TOKEN;
use crate::trial;

const NEEDS: &[Need] = &[Need::Root, Need::Network];

const TAILNET: &str = "100.101.102.103";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("configs::agrees", NEEDS, agrees),
        trial("configs::the_trap", NEEDS, the_trap),
        trial("configs::arguments_win_over_the_file", NEEDS, arguments_win),
        trial("configs::of_a_candidate", NEEDS, of_a_candidate),
        trial("configs::of_a_candidate_that_ended", NEEDS, of_a_candidate_that_ended),
        trial("configs::changed::replaced", NEEDS, || changes(replace, ConfigChange::Replaced)),
        trial("configs::changed::written_in_place", NEEDS, || changes(write_in_place, ConfigChange::Written)),
        trial("configs::changed::by_an_editor", NEEDS, || changes(edit, ConfigChange::Replaced)),
        trial("configs::changed::removed_and_back", NEEDS, removed_and_back),
        trial("configs::changed::with_its_directory", NEEDS, with_its_directory),
        trial("configs::changed::taken_back", NEEDS, taken_back),
        trial("configs::hostile", NEEDS, hostile),
    ]
}

/// A home directory with a configuration.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join(".openclaw")).expect("a directory");
        Self { directory }
    }

    fn with(bind: &str) -> Self {
        let home = Self::new();
        std::fs::write(home.file(), configuration(bind)).expect("to write the configuration");
        home
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join(".openclaw/openclaw.json")
    }

    fn gateway(&self) -> Costume {
        Costume::named("openclaw-gatewa").variable("HOME", self.path().to_str().expect("UTF-8"))
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

/// A story in which a gateway listens on its tailnet address.
fn on_the_tailnet(home: &Home) -> (Story, Listening) {
    let mut story = Story::begin();
    story.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let gateway = story.listen(Listen::at(TAILNET).by(home.gateway()));
    (story, gateway)
}

fn refused(story: &mut Story) -> Verdict {
    story.refused("127.0.0.1").line.verdict.clone()
}

fn bind_of(claims: &[Claim]) -> &Claim {
    claims.iter().find(|claim| claim.what == "gateway.bind").unwrap_or_else(|| panic!("{claims:?}"))
}

/// Starts the tracer, which says all that it can; that the token is not in it, whoever reads it asserts.
fn trace(story: &mut Story) {
    story.trace_with(&["--verbose"]);
}

fn agrees() {
    let home = Home::with("tailnet");
    let (mut story, gateway) = on_the_tailnet(&home);
    trace(&mut story);
    let verdict = refused(&mut story);
    assert_eq!(verdict.cause, Cause::WrongAddress);
    let bind = bind_of(&verdict.claims);
    assert_eq!(
        (bind.pid, bind.value.as_deref(), bind.agrees),
        (Some(gateway.pid), Some("tailnet"), Some(true))
    );
    assert_eq!(bind.source, home.file().to_str().expect("UTF-8"));
    assert!(bind.changed.is_some(), "{bind:?}");
    let token = verdict.claims.iter().find(|claim| claim.what == "gateway.auth.token");
    assert_eq!(token.and_then(|claim| claim.value.as_deref()), Some("set"), "{:?}", verdict.claims);
    assert!(
        verdict.hint.as_deref().is_some_and(|hint| hint.starts_with("at once: use http://100.")),
        "{verdict:?}"
    );
    story.end();
}

/// The file was changed after the process had started, and the process listens as before.
fn the_trap() {
    let home = Home::with("tailnet");
    let (mut story, mut gateway) = on_the_tailnet(&home);
    trace(&mut story);
    replace(&home.file(), &configuration("lan"));
    let config = changed(&mut story);
    assert_eq!(bind_of(&config.claims).agrees, Some(false), "{config:?}");
    // A restart inside the process.
    story.close(&mut gateway);
    gateway.must(&format!("bind {TAILNET}:{}", story.port()));
    gateway.listen(16).expect("to listen");
    let verdict = refused(&mut story);
    assert_eq!(verdict.cause, Cause::WrongAddress);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.value.as_deref(), bind.agrees), (Some("lan"), Some(false)));
    assert!(verdict.summary.contains("opened again"), "{}", verdict.summary);
    let hint = verdict.hint.expect("a hint");
    assert!(
        hint.starts_with("the file is already right. The process took its bind when it started"),
        "{hint}"
    );
    story.end();
}

fn arguments_win() {
    let home = Home::with("lan");
    let mut story = Story::begin();
    story.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
    let costume = home.gateway().arguments(&["--bind", "tailnet", "--token", TOKEN]);
    let costume = costume.variable("OPENCLAW_GATEWAY_TOKEN", TOKEN);
    let _gateway = story.listen(Listen::at(TAILNET).by(costume));
    trace(&mut story);
    let verdict = refused(&mut story);
    let binds: Vec<_> = verdict
        .claims
        .iter()
        .filter(|claim| claim.what == "gateway.bind")
        .map(|claim| (claim.source.as_str(), claim.value.as_deref(), claim.agrees))
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
    story.end();
}

/// One that has not listened yet has no sockets to agree.
fn of_a_candidate() {
    let home = Home::with("lan");
    let mut story = Story::begin();
    let _candidate = crate::support::cast::Actor::start(&story.netns.place(), &home.gateway());
    trace(&mut story);
    let verdict = refused(&mut story);
    assert_eq!(verdict.cause, Cause::Starting);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.value.as_deref(), bind.agrees), (Some("lan"), None));
    story.end();
}

/// One that was ended by its configuration, and said it before.
fn of_a_candidate_that_ended() {
    let home = Home::with("lan");
    let mut story = Story::begin();
    trace(&mut story);
    let mut candidate = crate::support::cast::Actor::start(&story.netns.place(), &home.gateway());
    // Seen while it starts, and asked what it claims.
    assert_eq!(refused(&mut story).cause, Cause::Starting);
    candidate.exit(78);
    let verdict = refused(&mut story);
    assert_eq!(verdict.cause, Cause::NeverListened);
    let bind = bind_of(&verdict.claims);
    assert_eq!((bind.pid, bind.value.as_deref(), bind.agrees), (Some(candidate.pid), Some("lan"), None));
    let hint = verdict.hint.expect("a hint");
    assert!(hint.contains("configuration refused") && hint.ends_with("names the setting"), "{hint}");
    story.end();
}

/// The next line about a configuration.
fn changed(story: &mut Story) -> Config {
    story.tracer().wait_for("a configuration that changed", |line| match &line.body {
        Body::Config(config) => Some((**config).clone()),
        _ => None,
    })
}

fn changes(change: fn(&Path, &str), expected: ConfigChange) {
    let home = Home::with("tailnet");
    let (mut story, _gateway) = on_the_tailnet(&home);
    trace(&mut story);
    change(&home.file(), &configuration("loopback"));
    let config = story.tracer().wait_for("the new bind", |line| match &line.body {
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
    story.end();
}

fn removed_and_back() {
    let home = Home::with("tailnet");
    let (mut story, _gateway) = on_the_tailnet(&home);
    trace(&mut story);
    std::fs::remove_file(home.file()).expect("to remove the configuration");
    let config = changed(&mut story);
    assert_eq!(
        (config.change, config.changed.len(), config.claims.len()),
        (ConfigChange::Removed, 0, 0),
        "{config:?}"
    );
    std::fs::write(home.file(), configuration("lan")).expect("to write");
    let config = story.tracer().wait_for("the new bind", |line| match &line.body {
        Body::Config(config) if !config.changed.is_empty() => Some((**config).clone()),
        _ => None,
    });
    assert_eq!(bind_of(&config.claims).value.as_deref(), Some("lan"), "{config:?}");
    story.end();
}

/// The directory gives way to another, with another file in it, which is followed from then on.
fn with_its_directory() {
    let home = Home::with("tailnet");
    let (mut story, _gateway) = on_the_tailnet(&home);
    trace(&mut story);
    let (directory, young) = (home.path().join(".openclaw"), home.path().join("young"));
    std::fs::create_dir(&young).expect("a directory");
    std::fs::write(young.join("openclaw.json"), configuration("loopback")).expect("to write");
    std::fs::rename(&directory, home.path().join("old")).expect("to rename");
    std::fs::rename(&young, &directory).expect("to rename");
    let wait = |story: &mut Story, bind: &str| {
        story.tracer().wait_for(bind, |line| match &line.body {
            Body::Config(config) => {
                config.claims.iter().any(|claim| claim.value.as_deref() == Some(bind)).then_some(())
            }
            _ => None,
        });
    };
    wait(&mut story, "loopback");
    replace(&home.file(), &configuration("lan"));
    wait(&mut story, "lan");
    story.end();
}

/// Someone sets it right, and something sets it back.
fn taken_back() {
    let home = Home::with("tailnet");
    let (mut story, _gateway) = on_the_tailnet(&home);
    trace(&mut story);
    let wait = |story: &mut Story, bind: &str| {
        story.tracer().wait_for(bind, |line| match &line.body {
            Body::Config(config) => {
                config.changed.iter().any(|setting| setting.to.as_deref() == Some(bind)).then_some(())
            }
            _ => None,
        });
    };
    replace(&home.file(), &configuration("lan"));
    wait(&mut story, "lan");
    let mut sed = std::process::Command::new("sed");
    let status = sed.args(["-i", "s/\"lan\"/\"tailnet\"/"]).arg(home.file()).status().expect("to run sed");
    assert!(status.success());
    wait(&mut story, "tailnet");
    let verdict = refused(&mut story);
    let hint = verdict.hint.expect("a hint");
    assert!(hint.starts_with("something rewrites the file: "), "{hint}");
    assert!(
        hint.contains(" set gateway.bind to \"lan\"") && hint.contains("set it back to \"tailnet\""),
        "{hint}"
    );
    story.end();
}

/// None of these makes the tracer wait, or say what it may not.
fn hostile() {
    type Prepare = fn(&Path);
    let files: [(&str, Prepare, Option<&str>); 12] = [
        (
            "a named pipe",
            |file| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    file,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .expect("a pipe");
            },
            Some("it is a named pipe"),
        ),
        (
            "a device",
            |file| {
                let zero = rustix::fs::makedev(1, 5);
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    file,
                    rustix::fs::FileType::CharacterDevice,
                    rustix::fs::Mode::RUSR,
                    zero,
                )
                .expect("a device");
            },
            Some("it is a device"),
        ),
        ("a link to the passwords", |file| symlink("/etc/shadow", file).expect("a link"), Some("not JSON5")),
        (
            "a gigabyte",
            |file| std::fs::File::create(file).and_then(|file| file.set_len(1 << 30)).expect("a file"),
            Some("it is longer than"),
        ),
        (
            "deep nesting",
            |file| std::fs::write(file, "[".repeat(500_000)).expect("a file"),
            Some("nested too deep"),
        ),
        (
            "NUL bytes",
            |file| std::fs::write(file, "{gateway:{bind:'lan'}}\0\0").expect("a file"),
            Some("not JSON5"),
        ),
        ("a directory", |file| std::fs::create_dir(file).expect("a directory"), Some("it is a directory")),
        (
            "no permission",
            |file| {
                std::fs::write(file, configuration("lan")).expect("a file");
                std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("to chmod");
            },
            Some("may not read it"),
        ),
        ("none", |_| {}, None),
        (
            "no UTF-8",
            |file| std::fs::write(file, b"{gateway:{bind:'\xff\xfe'}}").expect("a file"),
            Some("it is not UTF-8"),
        ),
        (
            "huge numbers",
            |file| std::fs::write(file, "{gateway:{port:1e999999999,bind:-1e400}}").expect("a file"),
            None,
        ),
        (
            "keys that stand twice",
            |file| std::fs::write(file, "{gateway:{bind:'lan'},gateway:{bind:'tailnet'}}").expect("a file"),
            None,
        ),
    ];
    for (what, prepare, why) in files {
        let home = Home::new();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).expect("to chmod");
        prepare(&home.file());
        let mut story = Story::begin();
        story.netns.ip(&format!("addr add {TAILNET}/32 dev eth0"));
        let costume = if what == "no permission" { home.gateway().uid(65_534) } else { home.gateway() };
        let _gateway = story.listen(Listen::at(TAILNET).by(costume));
        trace(&mut story);
        let verdict = story.refused(Client::nonblocking("127.0.0.1")).line.verdict.clone();
        assert_eq!(verdict.cause, Cause::WrongAddress, "{what}");
        let told = format!("{what}: {:?}", verdict.claims);
        match why {
            Some(why) => {
                let [claim] = &verdict.claims[..] else { panic!("{told}") };
                assert_eq!((claim.what.as_str(), claim.value.as_deref()), ("file", None), "{told}");
                assert!(claim.note.as_deref().is_some_and(|note| note.contains(why)), "{told}");
            }
            None => assert!(verdict.claims.iter().all(|claim| claim.value.is_some()), "{told}"),
        }
        if what == "keys that stand twice" {
            assert_eq!(bind_of(&verdict.claims).value.as_deref(), Some("tailnet"), "{told}");
        }
        let log = story.end();
        assert!(!log.text().contains("root:"), "{what}: {}", log.text());
    }
}
