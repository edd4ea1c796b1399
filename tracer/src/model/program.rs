//! Which program a process runs: the file name of its executable, and of the script where that is an interpreter.

use super::path::file_name;
use super::process::Arguments;
use super::text::Text;

/// Programs that run another file, with the options that take a word of their own.
const INTERPRETERS: [(&str, &[&str]); 13] = [
    ("node", &["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"]),
    ("nodejs", &["-r", "--require", "--import"]),
    ("bun", &["-r", "--preload", "--cwd"]),
    ("deno", &["--config", "-c", "--import-map"]),
    ("ruby", &["-r", "-I", "-C"]),
    ("perl", &["-I"]),
    ("php", &["-c", "-d", "-z", "-S", "-t"]),
    ("lua", &["-l"]),
    ("tclsh", &["-encoding"]),
    ("dotnet", &["--additionalprobingpath", "--depsfile", "--runtimeconfig"]),
    ("java", &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules"]),
    ("python", &["-W", "-X", "--check-hash-based-pycs"]),
    ("pypy", &["-W", "-X"]),
];

/// Shells: their script is a file, never the text behind `-c`.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "ash", "ksh"];

/// Programs that start another and wait for it, or become it: none of them is a server.
const LAUNCHERS: [&str; 32] = [
    "sudo",
    "su",
    "doas",
    "runuser",
    "gosu",
    "su-exec",
    "setpriv",
    "env",
    "timeout",
    "nice",
    "ionice",
    "nohup",
    "setsid",
    "stdbuf",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "s6-supervise",
    "s6-svscan",
    "runsv",
    "npm",
    "npx",
    "pnpm",
    "yarn",
    "ip",
    "nsenter",
    "unshare",
    "systemd-run",
    "chroot",
    "strace",
    "script",
];

/// Programs that pass connections on to another process: known by what they forward, never by where they run.
const FORWARDERS: [&str; 11] = [
    "docker-proxy",
    "rootlessport",
    "rootlesskit",
    "conmon",
    "pasta",
    "pasta.avx2",
    "slirp4netns",
    "kubectl",
    "socat",
    "socat1",
    "ssh",
];

/// Programs that show or edit files whose names may be a server's.
const READERS: [&str; 14] = [
    "tail",
    "less",
    "more",
    "cat",
    "grep",
    "vi",
    "vim",
    "nvim",
    "nano",
    "emacs",
    "code",
    "watch",
    "curl",
    "journalctl",
];

/// What stands for the script of a process that serves one session: see [`script`].
pub const SESSION: &[u8] = b"session";

/// What stands for the script of a process whose arguments make it take one connection and close its listener: see
/// [`script`]. No pattern that a user gives is part of it.
pub const ONCE: &[u8] = b"\0";

/// Whether a program of this file name starts others, and is not a server itself.
pub fn is_launcher(program: &[u8], arguments: &[&[u8]]) -> bool {
    let is_named = |names: &[&str]| names.iter().any(|name| name.as_bytes() == program);
    is_named(&LAUNCHERS)
        || is_named(&SHELLS) && script(program, arguments).is_none()
        || matches!(script(program, arguments), Some(script) if is_package_manager(script.as_bytes()))
}

/// `node /usr/bin/npm run start`: a package manager that is a script.
fn is_package_manager(script: &[u8]) -> bool {
    [&b"npm"[..], b"npx", b"pnpm", b"yarn", b"npm-cli.js", b"npx-cli.js", b"yarn.js", b"pnpm.cjs"]
        .contains(&script)
}

/// Whether a program of this file name passes connections on.
pub fn is_forwarder(program: &[u8]) -> bool {
    FORWARDERS.iter().any(|name| name.as_bytes() == program)
}

/// Whether a program of this file name shows or edits files, or is a client.
pub fn is_reader(program: &[u8]) -> bool {
    READERS.iter().any(|name| name.as_bytes() == program)
}

/// Whether a program of this file name runs another file.
pub fn is_interpreter(program: &[u8]) -> bool {
    SHELLS.iter().any(|name| name.as_bytes() == program) || interpreter(program).is_some()
}

/// The interpreter that a program is, whatever its version: `python3.11`, `ruby3.1` and `php8.2` are what they are called
/// without it.
fn interpreter(program: &[u8]) -> Option<&'static (&'static str, &'static [&'static str])> {
    INTERPRETERS.iter().find(|(name, _)| {
        let version = program.strip_prefix(name.as_bytes());
        version.is_some_and(|version| version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'))
    })
}

/// Whether two file names are of one program: `python3` is a link to `python3.11`.
fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    one == other
        || interpreter(one).zip(interpreter(other)).is_some_and(|((one, _), (other, _))| one == other)
}

/// The script that an interpreter runs: its file name, `-m` and the module, java's archive or main class; `None`: the
/// program is not an interpreter, or runs none.
///
/// A process of sshd that serves a session has written its title over its arguments, `sshd: ann@pts/0`: it is another server
/// than the one that listens, whose title has `[listener]` in it. A socat or nc for one connection is another one than a server.
pub fn script(program: &[u8], arguments: &[&[u8]]) -> Option<Text> {
    if takes_one_connection(program, arguments) {
        return Some(Text::new(ONCE));
    }
    if program == b"sshd" {
        let title = arguments.first().copied().unwrap_or_default();
        let is_listener = title.windows(10).any(|part| part == b"[listener]");
        return (title.starts_with(b"sshd: ") && !is_listener).then(|| Text::new(SESSION));
    }
    let is_shell = SHELLS.iter().any(|name| name.as_bytes() == program);
    let with_value: &[&str] = if is_shell { &["-o", "-O"] } else { interpreter(program)?.1 };
    let is_python = interpreter(program).is_some_and(|(name, _)| ["python", "pypy"].contains(name));
    let mut words = arguments.iter().skip(1).copied();
    while let Some(word) = words.next() {
        match word {
            b"-m" if is_python => {
                return words.next().map(|module| text(b"-m ", module));
            }
            b"-jar" => return words.next().map(|archive| text(b"", file_name(archive))),
            b"-m" | b"--module" if program == b"java" => return words.next().map(|module| text(b"", module)),
            // The program is text, not a file.
            b"-c" | b"-e" | b"--eval" | b"-p" | b"--print" | b"-r"
                if !with_value.contains(&str::from_utf8(word).unwrap_or_default()) =>
            {
                return None;
            }
            b"-f" | b"--file" if program.starts_with(b"php") => {}
            b"run" if program == b"deno" || program == b"bun" => {}
            b"exec" if program == b"dotnet" => {}
            _ if with_value.iter().any(|option| option.as_bytes() == word) => _ = words.next(),
            _ if word.starts_with(b"-") || word.is_empty() => {}
            _ => return Some(text(b"", file_name(word))),
        }
    }
    None
}

/// Whether its arguments make a program close its listener with the first connection: socat without `fork`, nc without `-k`.
/// Traditional nc has no such option.
fn takes_one_connection(program: &[u8], arguments: &[&[u8]]) -> bool {
    let words: Vec<String> =
        arguments.iter().skip(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    match program {
        b"socat" | b"socat1" => words.iter().any(|word| is_socat_listener_without_fork(&word.to_lowercase())),
        b"nc" | b"nc.openbsd" | b"ncat" => {
            let has = |letter: char, long: &str| {
                words.iter().any(|word| {
                    let is_short = word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
                    is_short || word == long
                })
            };
            has('l', "--listen") && !has('k', "--keep-open")
        }
        _ => false,
    }
}

/// `tcp-listen:80,reuseaddr`, in lower case.
fn is_socat_listener_without_fork(word: &str) -> bool {
    let mut options = word.split(',');
    let keyword = options.next().and_then(|address| address.split_once(':')).map(|(keyword, _)| keyword);
    let kind = keyword.and_then(|keyword| keyword.strip_suffix("-listen").or(keyword.strip_suffix("-l")));
    let is_listener = kind.is_some_and(|kind| ["tcp", "tcp4", "tcp6", "openssl", "ssl"].contains(&kind));
    is_listener && !options.any(|option| option == "fork" || option.starts_with("fork="))
}

/// Longest command line of which the arguments are compared: as much as the kernel side reads of a start.
const ARGUMENTS_MAX: usize = 1_024;

/// What a command line shows of a process: the script that it runs, and its arguments. A title that the process has written
/// over them, such as `nginx: master process`, does not begin with the program's name.
pub fn read(program: &[u8], line: &[u8]) -> (Option<Text>, Option<Arguments>) {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let script = script(program, &words);
    let whole = line.strip_suffix(&[0]).filter(|line| line.len() < ARGUMENTS_MAX);
    let is_its_own = words.first().is_some_and(|first| is_same_name(file_name(first), program))
        || script.as_ref().is_some_and(|script| ![SESSION, ONCE].contains(&script.as_bytes()));
    let arguments = whole.filter(|_| is_its_own).map(|_| Arguments::of(&words[..words.len() - 1]));
    (script, arguments)
}

fn text(before: &[u8], word: &[u8]) -> Text {
    Text::new(&[before, word].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        script(file_name(words[0]), &words).map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
    }

    #[test]
    fn the_script_is_the_file_that_an_interpreter_runs() {
        for (line, script) in [
            ("/usr/bin/node --inspect -r dotenv dist/index.js gateway", Some("index.js")),
            ("/usr/bin/python3.11 -u -m http.server 8000", Some("-m http.server")),
            ("python3 -W ignore /srv/app/manage.py runserver", Some("manage.py")),
            ("python3 -c print(1) server.py", None),
            ("java -Xmx1g -cp a.jar:b.jar com.example.Main 80", Some("com.example.Main")),
            ("java -jar /opt/kafka/kafka.jar", Some("kafka.jar")),
            ("/bin/sh /usr/local/bin/start.sh", Some("start.sh")),
            ("bash -c exec server", None),
            ("nginx -g daemon", None),
            ("deno run --allow-net server.ts", Some("server.ts")),
            ("/usr/bin/ruby3.1 -I lib bin/web.rb", Some("web.rb")),
            ("/usr/bin/php8.2 artisan serve --port=8000", Some("artisan")),
            ("php8.2 -S 0.0.0.0:8000 -t public router.php", Some("router.php")),
            ("php -S 0.0.0.0:8000", None),
            ("php -f server.php", Some("server.php")),
            ("perl5.36.0 daemon.pl", Some("daemon.pl")),
            ("dotnet exec --depsfile a.json Server.dll", Some("Server.dll")),
            ("pypy3.9 -m aiohttp.web", Some("-m aiohttp.web")),
            ("pythonista server.py", None),
            ("phpmyadmin server.php", None),
            ("node", None),
            ("", None),
        ] {
            assert_eq!(of(line).as_deref(), script, "{line}");
        }
    }

    /// A link, or another version's name, is its own; a title is not.
    #[test]
    fn arguments_are_read_where_they_are_the_processes_own() {
        for (program, line, is_read) in [
            ("python3.11", "python3\0-c\0print()\0", true),
            ("ruby3.1", "/usr/bin/ruby\0-e\0sleep\0", true),
            ("php8.2", "php\0artisan\0serve\0", true),
            ("nginx", "/usr/sbin/nginx\0-t\0", true),
            ("postgres", "postgres: checkpointer \0", false),
            ("node", "a title\0", false),
        ] {
            assert_eq!(read(program.as_bytes(), line.as_bytes()).1.is_some(), is_read, "{line}");
        }
    }

    #[test]
    fn a_session_of_sshd_is_not_the_server() {
        let of = |title: &str| script(b"sshd", &[title.as_bytes()]).is_some();
        assert!(of("sshd: ann@pts/0") && of("sshd: root@notty"));
        assert!(!of("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups") && !of("/usr/sbin/sshd"));
    }

    #[test]
    fn what_starts_another_program_is_a_launcher() {
        let is = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            is_launcher(file_name(words[0]), &words)
        };
        for line in
            ["sh -c server", "sudo -u ann server", "ip netns exec a server", "node /usr/bin/npm run start"]
        {
            assert!(is(line), "{line}");
        }
        for line in ["server", "sh server.sh", "node server.js", "python3 -m http.server"] {
            assert!(!is(line), "{line}");
        }
    }
}
