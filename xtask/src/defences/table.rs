//! What tracer has against what can go wrong, what proves it, and how to take it away.

use super::{
    Chapter, Defence, Edit,
    Without::{Edits, Nothing},
};

/// One change.
const fn edit(file: &'static str, find: &'static str, put: &'static str) -> Edit {
    Edit { file, find, put }
}

const ESCAPE: &str = "tracer/src/escape.rs";
const PROCESS: &str = "tracer/src/process.rs";
const CLAIMS: &str = "tracer/src/process/claims.rs";
const JSON5: &str = "tracer/src/claims/json5.rs";
const OPENCLAW: &str = "tracer/src/claims/openclaw.rs";
const SESSION: &str = "tracer/src/session.rs";
const SNAPSHOT: &str = "tracer/src/kernel/snapshot.rs";
const PREFLIGHT: &str = "tracer/src/kernel/preflight.rs";
const LOAD: &str = "tracer/src/kernel/load.rs";
const CORRELATE: &str = "tracer/src/correlate/mod.rs";
const JUDGE: &str = "tracer/src/correlate/judge.rs";
const JOIN: &str = "tracer/src/correlate/join.rs";
const FOLD: &str = "tracer/src/correlate/fold.rs";
const SERVERS: &str = "tracer/src/correlate/servers.rs";
const NAMESPACES: &str = "tracer/src/correlate/namespaces.rs";
const LISTENERS: &str = "tracer/src/correlate/listeners.rs";
const BINDS: &str = "tracer/src/correlate/binds.rs";
const BOOK: &str = "tracer/src/correlate/claims.rs";
const HINTS: &str = "tracer/src/correlate/hints/mod.rs";
const WIRE: &str = "tracer-ebpf/src/lib.rs";
const EMIT: &str = "tracer-ebpf/src/emit.rs";

pub const CHAPTERS: &[Chapter] = &[
    Chapter { title: "Hostile input", defences: HOSTILE },
    Chapter { title: "Hostile configuration files", defences: CONFIGURATIONS },
    Chapter { title: "Faults", defences: FAULTS },
    Chapter { title: "Bounds of the kernel side", defences: KERNEL_SIDE },
    Chapter { title: "Bounds of the user side", defences: USER_SIDE },
    Chapter { title: "Privilege", defences: PRIVILEGE },
];

const HOSTILE: &[Defence] = &[
    Defence {
        when: "a name has escape sequences",
        then: "shows controls as `\\x1b`, in JSON too: nothing of it reaches a terminal",
        tests: &[
            "live clients::a_hostile_name_is_escaped_in_json",
            "live clients::a_hostile_name_is_escaped_in_colour",
            "lib escape::tests::nothing_unsafe_is_left",
        ],
        without: Edits(&[edit(ESCAPE, "character.is_control()\n        ||", "false ||")]),
    },
    Defence {
        when: "a name has newlines",
        then: "shows them as `\\n`",
        tests: &["live hostile::a_path"],
        without: Edits(&[edit(ESCAPE, r#"'\n' => out.push_str("\\n"),"#, r"'\n' => out.push('\n'),")]),
    },
    Defence {
        when: "a name turns the text around",
        then: "shows what Unicode reorders or hides by as `\\u{202e}`",
        tests: &[
            "live clients::a_hostile_name_is_escaped_in_json",
            "live hostile::names_of_a_namespace_and_a_device",
        ],
        without: Edits(&[edit(ESCAPE, r" | '\u{2028}'..='\u{202e}'", "")]),
    },
    Defence {
        when: "a name is not UTF-8",
        then: "shows each such byte as `\\xff`, so that no two names look the same",
        tests: &["live clients::a_hostile_name_is_escaped_in_json", "live hostile::a_path"],
        without: Edits(&[edit(ESCAPE, "for byte in chunk.invalid()", "for byte in &chunk.invalid()[..0]")]),
    },
    Defence {
        when: "the path of a program is hostile",
        then: "escapes it like a name",
        tests: &["live hostile::a_path"],
        without: Edits(&[edit(
            PROCESS,
            "Some(escape(path))",
            "Some(String::from_utf8_lossy(path).into_owned())",
        )]),
    },
    Defence {
        when: "the name of a namespace is hostile",
        then: "escapes it",
        tests: &["live hostile::names_of_a_namespace_and_a_device"],
        without: Edits(&[edit(
            "tracer/src/kernel/netns.rs",
            "crate::escape::escape(name.as_bytes())",
            "String::from_utf8_lossy(name.as_bytes()).into_owned()",
        )]),
    },
    Defence {
        when: "the name of a device is hostile",
        then: "escapes it",
        tests: &["live hostile::names_of_a_namespace_and_a_device"],
        without: Edits(&[edit(
            "tracer/src/kernel/routes.rs",
            "crate::escape::escape(&bytes[..end])",
            "String::from_utf8_lossy(&bytes[..end]).into_owned()",
        )]),
    },
    Defence {
        when: "a process has 100 KB of arguments",
        then: "reads one page of them, whatever stands behind it",
        tests: &["live hostile::arguments_are_read_to_a_bound"],
        without: Edits(&[edit(
            PROCESS,
            "let mut arguments = [0; PATH];",
            "let mut arguments = [0; 64 * PATH];",
        )]),
    },
    Defence {
        when: "a control group is made to look like a container",
        then: "takes 64 hexadecimal digits for an id, and nothing that has more or less",
        tests: &["live hostile::a_control_group_that_imitates_a_container"],
        without: Edits(&[edit(
            "tracer/src/container.rs",
            "bytes.len() != ID || !bytes.iter().copied().all(is_digit)",
            "bytes.len() < ID - 1",
        )]),
    },
    Defence {
        when: "a control group has the name of a machine, and more",
        then: "takes letters, digits, `.`, `_` and `-` for a name",
        tests: &["live hostile::a_control_group_that_imitates_a_container"],
        without: Edits(&[edit(
            "tracer/src/container.rs",
            " || !name.iter().all(is_plain)",
            " || is_plain(&0)",
        )]),
    },
    Defence {
        when: "a process exits between the event and the look-up",
        then: "tells of it what the kernel side noted when its connect began; what only `/proc` knows is null",
        tests: &["live hostile::one_that_ended_is_not_looked_up"],
        without: Edits(&[edit(
            "tracer/src/decode.rs",
            "comm: (!name.is_empty()).then(|| escape(name)),",
            "comm: std::fs::read(format!(\"/proc/{}/comm\", task.pid)).ok().map(|_| escape(name)),",
        )]),
    },
    Defence {
        when: "its number is another process's by then",
        then: "looks nothing up of one that started at another time",
        tests: &["live hostile::one_with_the_number_of_another"],
        without: Edits(&[edit(
            PROCESS,
            "handle.stat().is_some_and(|stat| stat.start == start_boottime / TICK)",
            "handle.stat().is_some()",
        )]),
    },
    Defence {
        when: "there is no `/proc`",
        then: "says so, with the cure, and exits with code 3",
        tests: &["live hostile::no_proc"],
        without: Edits(&[
            edit(PREFLIGHT, "kernel(), proc(), btf()", "kernel(), btf()"),
            edit("tracer/src/status.rs", "preflight::proc()", "None::<preflight::Missing>"),
        ]),
    },
    Defence {
        when: "`/proc` vanishes under it",
        then: "goes on with what the kernel side tells, says in each verdict what it cannot see, and is whole again with it",
        tests: &["live hostile::a_proc_that_vanishes"],
        without: Edits(&[edit(
            SESSION,
            "            Err(_) => {\n                self.blind_until",
            "            Err(error) if error.chain().count() > 0 => Err(error),\n            Err(_) => {\n                self.blind_until",
        )]),
    },
    Defence {
        when: "`/proc` lists nobody any more",
        then: "takes that for no news of anybody",
        tests: &["live hostile::a_proc_that_lists_nobody"],
        without: Edits(&[edit(
            SESSION,
            "processes.iter().any(|(pid, _)| *pid == std::process::id())",
            "processes.iter().all(|(pid, _)| *pid != 0)",
        )]),
    },
    Defence {
        when: "`/proc` hides other users' processes",
        then: "announces it as a limit",
        tests: &["live hostile::a_proc_that_hides"],
        without: Edits(&[edit(PREFLIGHT, "if !netns::sees_first_process() {", "if false {")]),
    },
    Defence {
        when: "hundreds of processes call themselves the server",
        then: "forgets the youngest of the namespace that has the most: none in another, and none that was there before",
        tests: &["correlate pretenders_by_the_hundred_hide_no_server"],
        without: Edits(&[edit(
            SERVERS,
            "one.and_then(|(_, pid)| self.candidates.remove(&pid));",
            "if one.is_some() {\n                self.candidates.clear();\n            }",
        )]),
    },
];

const CONFIGURATIONS: &[Defence] = &[
    Defence {
        when: "it is a pipe, a socket, a device, a directory",
        then: "opens plain files only, and says what it is instead",
        tests: &[
            "live configs::hostile::a_named_pipe",
            "live configs::hostile::a_socket",
            "live configs::hostile::a_device",
            "live configs::hostile::a_directory",
            "lib process::claims::tests::what_is_no_plain_file_is_not_opened",
        ],
        without: Edits(&[edit(CLAIMS, "other => return Err(Unreadable::NotAFile(other)),", "_ => {}")]),
    },
    Defence {
        when: "it is a link",
        then: "follows it inside of the process's root, and never out of it",
        tests: &["lib process::claims::tests::a_link_stays_inside_of_the_root"],
        without: Edits(&[edit(
            CLAIMS,
            "Result<(OwnedFd, Stat), Unreadable> {\n    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;",
            "Result<(OwnedFd, Stat), Unreadable> {\n    let within = ResolveFlags::empty();",
        )]),
    },
    Defence {
        when: "it is a link to the passwords",
        then: "tells settings that it knows and nothing else, also of what it cannot understand",
        tests: &["live configs::hostile::a_link_to_the_passwords"],
        without: Edits(&[edit(
            CLAIMS,
            "product.settings(text).map_err(Unreadable::Malformed)",
            "product.settings(text).map_err(|why| Unreadable::Malformed(format!(\"{why}: {text}\")))",
        )]),
    },
    Defence {
        when: "it is a gigabyte",
        then: "reads a megabyte at most",
        tests: &[
            "live configs::hostile::a_gigabyte",
            "lib process::claims::tests::what_is_too_long_or_no_text_is_told_as_such",
        ],
        without: Edits(&[
            edit(CLAIMS, "is_ok_and(|size| size > FILE_MAX as u64)", "is_ok_and(|size| size == u64::MAX)"),
            edit(CLAIMS, "if contents.len() > FILE_MAX {", "if contents.is_empty() {"),
        ]),
    },
    Defence {
        when: "it is nested deep",
        then: "walks it without recursion, 64 levels deep",
        tests: &["live configs::hostile::deep_nesting"],
        without: Edits(&[edit(JSON5, "if open.len() == DEPTH_MAX {", "if open.len() == usize::MAX {")]),
    },
    Defence {
        when: "it has NUL bytes",
        then: "takes nothing behind its end",
        tests: &["live configs::hostile::nul_bytes"],
        without: Edits(&[edit(JSON5, r#"Err(reader.malformed("more behind its end"))"#, "Ok(())")]),
    },
    Defence {
        when: "the process may not read it",
        then: "does not read it for it",
        tests: &[
            "live configs::hostile::no_permission",
            "lib process::claims::tests::a_file_that_the_process_may_not_read_is_not_read_for_it",
        ],
        without: Edits(&[edit(
            CLAIMS,
            "if !reader.may_read(&stat) {",
            "if !reader.may_read(&stat) && false {",
        )]),
    },
    Defence {
        when: "there is none",
        then: "says nothing of it",
        tests: &["live configs::hostile::none"],
        without: Edits(&[edit(CLAIMS, "Errno::NOENT | Errno::NOTDIR => ", "Errno::NOTDIR => ")]),
    },
    Defence {
        when: "it is not UTF-8",
        then: "says so",
        tests: &["live configs::hostile::no_utf8"],
        without: Edits(&[edit(
            CLAIMS,
            "std::str::from_utf8(&contents).map_err(|_| Unreadable::NotText)?",
            "&*String::from_utf8_lossy(&contents).into_owned().leak()",
        )]),
    },
    Defence {
        when: "it has huge numbers",
        then: "takes for a port what is one, and shows the rest as it stands",
        tests: &["live configs::hostile::huge_numbers"],
        without: Edits(&[edit(
            JSON5,
            "number.fract() == 0.0 && (0.0..=65_535.0).contains(&number)",
            "!number.is_nan()",
        )]),
    },
    Defence {
        when: "its keys stand twice",
        then: "takes the last one, as JSON5 does",
        tests: &["live configs::hostile::keys_that_stand_twice"],
        without: Edits(&[
            edit(
                OPENCLAW,
                "*setting = shown(value, *show);",
                "*setting = setting.take().or_else(|| shown(value, *show));",
            ),
            edit(OPENCLAW, "*setting = None;", "{}"),
        ]),
    },
    Defence {
        when: "its file system hangs",
        then: "waits for a second, and goes on",
        tests: &["live configs::hostile::a_file_system_that_hangs"],
        without: Edits(&[edit(CLAIMS, "receiver.recv_timeout(patience)", "receiver.recv()")]),
    },
    Defence {
        when: "its file system goes on hanging",
        then: "has one thread wait there, however many there are to be asked",
        tests: &["live configs::hostile::a_file_system_that_hangs"],
        without: Edits(&[edit(
            CLAIMS,
            "if IS_BUSY.swap(true, Ordering::Acquire) {",
            "if IS_BUSY.swap(true, Ordering::Acquire) && false {",
        )]),
    },
];

const FAULTS: &[Defence] = &[
    Defence {
        when: "it is ended by SIGKILL",
        then: "leaves nothing attached",
        tests: &["live faults::nothing_stays_after_sigkill"],
        without: Nothing("programs, maps and links are held by its descriptors alone, and nothing is pinned"),
    },
    Defence {
        when: "it ends under load",
        then: "says `stop` and leaves nothing attached",
        tests: &["live faults::nothing_stays_after_an_end_under_load"],
        without: Edits(&[
            edit(
                SESSION,
                "        while !self.correlator.is_full() && self.waiting_since().unwrap_or(self.newest) < now {",
                "        while now > Mono::default() {",
            ),
            edit(
                SESSION,
                "                if ring.is_settled() || clock::now() > patience {",
                "                if patience < now {",
            ),
        ]),
    },
    Defence {
        when: "more happens than it can tell",
        then: "leaves signals and time their turn",
        tests: &["live faults::nothing_stays_after_an_end_under_load"],
        without: Edits(&[edit(
            SESSION,
            "tokio::task::yield_now(), if more",
            "std::future::ready(()), if more",
        )]),
    },
    Defence {
        when: "more happens than it can tell, and each look at the host takes longer than what it makes up for",
        then: "takes what comes meanwhile in the next turn",
        tests: &["live faults::nothing_stays_after_an_end_under_load"],
        without: Edits(&[edit(SESSION, "for _ in 0..self.queue.len() {", "while !self.queue.is_empty() {")]),
    },
    Defence {
        when: "it is stopped under load",
        then: "counts what its ring lost meanwhile",
        tests: &[
            "live faults::what_a_stopped_one_loses_is_counted",
            "live clients::what_a_full_ring_loses_is_counted",
        ],
        without: Edits(&[edit(SESSION, "(LostWhere::Ring, ring),", "(LostWhere::Ring, ring * 0),")]),
    },
    Defence {
        when: "a listener opened or closed meanwhile",
        then: "reads the listeners again before the next verdict",
        tests: &[
            "live faults::what_a_stopped_one_loses_is_counted",
            "correlate an_opening_that_was_lost_is_found_again",
        ],
        without: Edits(&[edit(
            CORRELATE,
            "LostWhere::Ring | LostWhere::Decode => true,",
            "LostWhere::Ring | LostWhere::Decode => false,",
        )]),
    },
    Defence {
        when: "a server ended meanwhile",
        then: "looks for it among the processes, and does not take it to start for ever",
        tests: &["correlate a_server_whose_end_was_lost_is_not_starting", "live bounds::followed_processes"],
        without: Edits(&[edit(CORRELATE, "self.servers.looked(look);", "let _ = Servers::looked;")]),
    },
    Defence {
        when: "something was bound meanwhile",
        then: "asks the port itself",
        tests: &["correlate after_a_loss_what_is_bound_is_not_known"],
        without: Edits(&[edit(CORRELATE, "self.binds.lost();", "let _ = Binds::lost;")]),
    },
    Defence {
        when: "the reader of its output closes it",
        then: "ends, with exit code 0",
        tests: &[
            "live ending::a_closed_pipe_is_a_clean_end",
            "live ending::a_closed_pipe_is_a_clean_end_in_text",
            "live ending::a_closed_pipe_ends_one_with_nothing_to_say",
        ],
        without: Edits(&[
            edit(
                SESSION,
                "Err(error) if is_broken_pipe(&error) =>",
                "Err(error) if is_broken_pipe(&error) && false =>",
            ),
            edit(
                SESSION,
                "() = readers.gone() => return Ok(()),",
                "() = readers.gone(), if false => return Ok(()),",
            ),
        ]),
    },
    Defence {
        when: "it has nothing to say to a reader that has gone",
        then: "ends all the same",
        tests: &["live ending::a_closed_pipe_ends_one_with_nothing_to_say"],
        without: Edits(&[edit(
            SESSION,
            "() = readers.gone() => return Ok(()),",
            "() = readers.gone(), if false => return Ok(()),",
        )]),
    },
    Defence {
        when: "its output is full",
        then: "ends with the error and exit code 4",
        tests: &["live faults::a_full_stdout_is_a_failure"],
        without: Edits(&[edit(
            "tracer/src/sink.rs",
            "        self.out.flush()\n",
            "        let _ = self.out.flush();\n        self.out.get_mut().flush()\n",
        )]),
    },
    Defence {
        when: "its reader stops",
        then: "waits for it, while the ring holds thousands of refusals",
        tests: &["live faults::a_reader_that_stops_loses_nothing"],
        without: Edits(&[edit(WIRE, "RING_BYTES: u32 = 2 << 20;", "RING_BYTES: u32 = 64 << 10;")]),
    },
    Defence {
        when: "whoever waits for the end insists",
        then: "ends at once with the second SIGINT, also while nobody reads",
        tests: &["live ending::a_second_sigint_ends_at_once"],
        without: Edits(&[edit(
            SESSION,
            "signal_hook::flag::register_conditional_shutdown(number, exit, Arc::clone(&armed))?;",
            "let _ = exit;",
        )]),
    },
    Defence {
        when: "namespaces come and go by the hundred",
        then: "keeps none of them open: neither does one live longer for it, nor do its descriptors run out",
        tests: &["live namespaces::none_is_kept_alive", "live faults::namespaces_by_the_hundred"],
        without: Edits(&[edit(
            SNAPSHOT,
            "    move_into_link_name_space(file.as_fd()",
            "    std::mem::forget(file.try_clone());\n    move_into_link_name_space(file.as_fd()",
        )]),
    },
    Defence {
        when: "a namespace gets the number of one that has ended",
        then: "tells the two apart by their cookies",
        tests: &[
            "live namespaces::a_reused_number_has_no_history",
            "correlate a_reused_namespace_number_has_no_history",
        ],
        without: Edits(&[edit(
            CORRELATE,
            "cookie != 0 && known != 0 && cookie != known",
            "cookie != 0 && known != 0 && cookie == 0",
        )]),
    },
    Defence {
        when: "the one that has ended was missed by a look",
        then: "remembers its cookie for as long as its history",
        tests: &["correlate a_namespace_that_ended_unseen_leaves_its_number_no_history"],
        without: Edits(&[edit(NAMESPACES, "cookie => _ = past.insert(*netns, cookie),", "_ => {}")]),
    },
    Defence {
        when: "refusals of the one that has ended are like those of the new one",
        then: "counts them apart, and tells no recovery of them",
        tests: &["correlate a_reused_namespace_number_has_no_refusals"],
        without: Edits(&[edit(CORRELATE, "self.folds.forget(netns);", "let _ = Folds::forget;")]),
    },
    Defence {
        when: "listeners come and go while it starts",
        then: "joins the dump with the events beside it: none is missed, and none told twice",
        tests: &["lib correlate::join::tests::what_opens_comes_by_its_event_and_what_closes_was_there"],
        without: Edits(&[edit(
            JOIN,
            "snapshot.listeners.retain(|listener| !opened.contains(listener.key));",
            "let _ = opened;",
        )]),
    },
    Defence {
        when: "a listener closes under a dump",
        then: "takes the dump again",
        tests: &["lib correlate::join::tests::a_dump_that_a_listener_closed_under_is_taken_again"],
        without: Edits(&[edit(JOIN, "closed.time >= snapshot.began &&", "closed.time > snapshot.ended &&")]),
    },
    Defence {
        when: "10,000 listeners are on the port",
        then: "tells each, weighs them all, shows the nearest 16 and how many there are",
        tests: &["live faults::ten_thousand_listeners", "live listeners::more_than_sixteen_are_counted"],
        without: Edits(&[edit(JUDGE, "WEIGHED_MAX: usize = 16;", "WEIGHED_MAX: usize = 20_000;")]),
    },
    Defence {
        when: "the clock steps",
        then: "tells the time that it is then",
        tests: &[
            "lib clock::tests::a_step_is_followed_and_the_time_between_two_readings_is_none",
            "live faults::a_step_of_the_clock",
        ],
        without: Edits(&[edit(
            "tracer/src/clock.rs",
            "if moved { newer } else { self }",
            "if moved { self } else { self }",
        )]),
    },
    Defence {
        when: "the clock has stepped since a process started",
        then: "tells one start for it, in every line",
        tests: &["live faults::a_step_of_the_clock"],
        without: Edits(&[edit(
            PROCESS,
            "CLOCK.get_or_init(clock::read).time_of",
            "CLOCK.get().copied().unwrap_or_else(clock::read).time_of",
        )]),
    },
    Defence {
        when: "the time of a file is kept in whole seconds",
        then: "does not tell which is older, the file or a process that started in the same ones",
        tests: &["hints a_file_is_older_than_its_process_only_where_no_rounding_makes_it_so"],
        without: Edits(&[edit(
            HINTS,
            "if changed.subsec_nanosecond() == 0 { Duration::from_secs(2) } else { TICK }",
            "if changed.subsec_nanosecond() == 0 { TICK } else { TICK }",
        )]),
    },
    Defence {
        when: "a second tracer runs",
        then: "tells the same as the first",
        tests: &["live faults::two_tell_the_same", "live clients::two_tracers_see_the_same"],
        without: Nothing("each has programs and maps of its own"),
    },
    Defence {
        when: "a flood is over",
        then: "is woken by the next record again",
        tests: &["live faults::a_flood_wakes_nobody_and_all_of_it_is_told"],
        without: Nothing(
            "a reader that is woken no more is mended by the next look that is due; \
                          the unit tests of tracer/src/kernel/ring.rs hold each step",
        ),
    },
];

const KERNEL_SIDE: &[Defence] = &[
    Defence {
        when: "more connects are under way than `ATTEMPTS_MAX`",
        then: "counts each that it cannot follow",
        tests: &["live bounds::connects_under_way"],
        without: Edits(&[edit(
            "tracer-ebpf/src/hooks/state.rs",
            "emit::count_alone(lost::ATTEMPTS);",
            "let _ = (emit::count_alone, lost::ATTEMPTS);",
        )]),
    },
    Defence {
        when: "nothing else happens then",
        then: "says so at once, and not with the next record",
        tests: &["live bounds::connects_under_way"],
        without: Edits(&[edit(
            "tracer-ebpf/src/hooks/state.rs",
            "emit::count_alone(lost::ATTEMPTS);",
            "let _ = emit::count_alone;\n        emit::count(lost::ATTEMPTS);",
        )]),
    },
    Defence {
        when: "more sockets are bound than `BOUND_MAX`",
        then: "says of each whether its end will be told, and asks the port for the others",
        tests: &["live bounds::bound_sockets"],
        // The user side follows no more of them either.
        without: Edits(&[
            edit(
                "tracer-ebpf/src/hooks/bind.rs",
                "let followed = result == 0 && emit::follow_socket(sock.address());",
                "let followed = result == 0 && (emit::follow_socket(sock.address()) || true);",
            ),
            edit(BINDS, "port.followed.len() < FOLLOWED_MAX", "port.followed.len() < FOLLOWED_MAX * 16"),
        ]),
    },
    Defence {
        when: "more processes are followed than `FOLLOWED_MAX`",
        then: "counts each whose end it will not tell",
        tests: &["live bounds::followed_processes"],
        without: Edits(&[edit(LOAD, "self.unfollowed_count += 1;", "")]),
    },
    Defence {
        when: "the end of some is not told",
        then: "says so in verdicts that a server's end would explain",
        tests: &[
            "correlate ends_that_are_not_told_put_what_rests_on_them_in_doubt",
            "live bounds::followed_processes",
        ],
        without: Edits(&[edit(JUDGE, " || health.ends_untold && cause > Cause::BoundNotListening", "")]),
    },
    Defence {
        when: "more processes were refused a moment ago than `REFUSED_MAX`",
        then: "forgets the one that was refused longest ago",
        tests: &["live bounds::processes_refused_a_moment_ago"],
        without: Edits(&[edit(
            EMIT,
            "static REFUSED: LruHashMap<u32, u64> = LruHashMap::",
            "static REFUSED: HashMap<u32, u64> = HashMap::",
        )]),
    },
    Defence {
        when: "calls of bind() leave more behind than `BINDING_MAX`",
        then: "forgets the oldest",
        tests: &["live bounds::calls_of_bind"],
        without: Edits(&[edit(
            EMIT,
            "static BINDING: LruHashMap<u64, Binding> = LruHashMap::",
            "static BINDING: HashMap<u64, Binding> = HashMap::",
        )]),
    },
    Defence {
        when: "two resets meet in one of the `RESETS_MAX` places",
        then: "says that it does not know who sent them",
        tests: &["live bounds::resets_that_meet"],
        without: Edits(&[edit(
            EMIT,
            "        Reset::Sent\n    } else {\n        Reset::Unknown\n    }",
            "        Reset::Sent\n    } else {\n        Reset::NotSent\n    }",
        )]),
    },
];

const USER_SIDE: &[Defence] = &[
    Defence {
        when: "more listeners have closed than are remembered",
        then: "says in verdicts that they could change that its memory ends there",
        tests: &[
            "lib correlate::listeners::tests::what_the_bound_drops_is_known_to_be_missing",
            "correlate more_ends_than_are_remembered_put_the_history_in_doubt",
        ],
        without: Edits(&[edit(
            LISTENERS,
            "self.forgotten.insert(gone.listener.port, gone.time);",
            "let _ = gone;",
        )]),
    },
    Defence {
        when: "more kinds of refusals repeat than are told apart",
        then: "tells the count of the one that is silent longest before it forgets it: counts add up",
        tests: &["lib correlate::fold::tests::nothing_grows_without_bound_and_no_count_is_lost"],
        without: Edits(&[edit(
            FOLD,
            "(fold.count > 0).then(|| fold.repeats())",
            "(fold.count == 0).then(|| fold.repeats())",
        )]),
    },
    Defence {
        when: "more destinations are refused than it waits for",
        then: "waits no more for the first",
        tests: &["lib correlate::fold::tests::nothing_grows_without_bound_and_no_count_is_lost"],
        without: Edits(&[edit(FOLD, "oldest.and_then(|key| self.waiting.remove(&key));", "let _ = oldest;")]),
    },
    Defence {
        when: "more namespaces come and go than are remembered",
        then: "remembers those with listeners, and of the others a cookie, or nothing at all",
        tests: &[
            "lib correlate::namespaces::tests::namespaces_that_come_and_go_by_the_thousand_take_no_more_room",
        ],
        without: Edits(&[edit(
            NAMESPACES,
            "if past.len() > NAMESPACES_MAX {",
            "if past.len() > usize::MAX / 2 {",
        )]),
    },
    Defence {
        when: "servers in more namespaces listen elsewhere than are remembered",
        then: "forgets where it looked first",
        tests: &["lib correlate::servers::tests::clients_and_other_ports_take_no_more_room_than_their_bound"],
        without: Edits(&[edit(
            SERVERS,
            "oldest.and_then(|netns| self.other_ports.remove(&netns));",
            "let _ = oldest;",
        )]),
    },
    Defence {
        when: "binds fail on more ports than are remembered",
        then: "forgets those without a bound socket",
        tests: &[
            "lib correlate::binds::tests::binds_that_fail_everywhere_take_no_more_room_than_their_bound",
        ],
        without: Edits(&[edit(BINDS, "self.ports.retain(|_, port| !port.followed.is_empty());", "")]),
    },
    Defence {
        when: "more processes claim something than are remembered",
        then: "forgets whom it asked first",
        tests: &["lib correlate::claims::tests::claims_take_no_more_room_than_their_bound"],
        without: Edits(&[edit(BOOK, "oldest.and_then(|pid| self.claimed.remove(&pid));", "let _ = oldest;")]),
    },
];

const PRIVILEGE: &[Defence] = &[
    Defence {
        when: "its programs are attached",
        then: "gives up what it does not need any more",
        tests: &[
            "live privilege::root_keeps_what_it_needs",
            "live privilege::a_user_with_the_capabilities_sees_all",
        ],
        without: Edits(&[edit(
            SESSION,
            "limits.extend(privilege::reduce(|| kernel.losses().is_ok()));",
            "if ports.is_empty() {\n            limits.extend(privilege::reduce(|| kernel.losses().is_ok()));\n        }",
        )]),
    },
    Defence {
        when: "giving up is refused",
        then: "says what it keeps",
        tests: &["live privilege::what_cannot_be_given_up_is_told"],
        without: Edits(&[edit(
            "tracer/src/kernel/privilege.rs",
            "result.err().map(|errno| refused(step, errno))",
            "result.err().filter(|_| false).map(|errno| refused(step, errno))",
        )]),
    },
    Defence {
        when: "CAP_SYS_ADMIN is missing",
        then: "announces that other namespaces are not seen, and sees its own",
        tests: &[
            "live privilege::without_sys_admin",
            "live privilege::the_first_screen_says_what_is_missing",
        ],
        without: Edits(&[edit(
            PREFLIGHT,
            "if !effective.contains(CapabilitySet::SYS_ADMIN) {",
            "if effective.is_all() {",
        )]),
    },
    Defence {
        when: "CAP_SYS_PTRACE is missing",
        then: "announces that others' processes are not seen, and says so in verdicts that rest on them",
        tests: &[
            "live privilege::without_sys_ptrace",
            "live privilege::the_first_screen_says_what_is_missing",
        ],
        without: Edits(&[edit(
            PREFLIGHT,
            "if !effective.contains(CapabilitySet::SYS_PTRACE) {",
            "if effective.is_all() {",
        )]),
    },
    Defence {
        when: "CAP_DAC_READ_SEARCH is missing",
        then: "announces that the holders of earlier listeners are not seen",
        tests: &[
            "live privilege::without_dac_read_search",
            "live privilege::the_first_screen_says_what_is_missing",
        ],
        without: Edits(&[edit(
            PREFLIGHT,
            "if !effective.contains(CapabilitySet::DAC_READ_SEARCH) {",
            "if effective.is_all() {",
        )]),
    },
    Defence {
        when: "CAP_BPF is missing",
        then: "names it, with the cure, and exits with code 3; `status` works",
        tests: &["live privilege::without_bpf", "live bad_host::no_root"],
        without: Edits(&[edit(PREFLIGHT, "[(CapabilitySet::BPF, \"CAP_BPF\"), ", "[")]),
    },
    Defence {
        when: "CAP_PERFMON is missing",
        then: "names it, with the cure, and exits with code 3; `status` works",
        tests: &["live privilege::without_perfmon", "live bad_host::no_root"],
        without: Edits(&[edit(PREFLIGHT, ", (CapabilitySet::PERFMON, \"CAP_PERFMON\")]", "]")]),
    },
    Defence {
        when: "CAP_SYS_ADMIN stands for both",
        then: "misses nothing",
        tests: &["live privilege::sys_admin_implies_bpf_and_perfmon"],
        without: Edits(&[edit(
            PREFLIGHT,
            "    if effective.contains(CapabilitySet::SYS_ADMIN) {\n        return Vec::new();",
            "    if effective.is_all() {\n        return Vec::new();",
        )]),
    },
];
