//! What the kernel reports of the eBPF programs on this host, and the emptiest of programs to compare them with.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
    sys::{Stats, enable_stats},
};
use aya_obj::{
    btf::{Btf, BtfKind},
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::maps;

/// Run times are counted until this is dropped; `kernel.bpf_stats_enabled` stays as it is.
pub struct RunTimes(
    #[expect(dead_code, reason = "the kernel counts for as long as the descriptor is open")] OwnedFd,
);

impl RunTimes {
    pub fn count() -> Result<Self> {
        enable_stats(Stats::RunTime).map(Self).context("cannot have the kernel count run times (Linux 5.8)")
    }
}

/// What a program has cost so far, while [`RunTimes`] are counted.
#[derive(Clone, Debug)]
pub struct Cost {
    pub name: String,
    /// In nanoseconds.
    pub time: u64,
    pub runs: u64,
    /// Times that the kernel skipped it because it interrupted itself on a CPU.
    pub skipped: u64,
}

/// What a process holds in the kernel, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
}

impl Held {
    /// What a process holds by its descriptors (`prog_id`, `map_id`, `link_id` in proc_pid_fdinfo(5)).
    pub fn by(process: u32) -> Result<Self> {
        let directory = format!("/proc/{process}/fdinfo");
        let mut held = Self::default();
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read `{directory}`"))? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let id = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok())
            };
            // A link names its program, too.
            match (id("link_id:"), id("map_id:"), id("prog_id:")) {
                (Some(link), _, program) => {
                    held.links.insert(link);
                    held.programs.extend(program);
                }
                (None, Some(map), _) => {
                    held.maps.insert(map);
                }
                (None, None, program) => held.programs.extend(program),
            }
        }
        Ok(held)
    }

    /// What of it there still is.
    pub fn left(&self) -> Self {
        // What goes away meanwhile is left out.
        let programs = loaded();
        let maps = loaded_maps().flatten().map(|map| map.id()).collect();
        let links = loaded_links().flatten().map(|link| link.id()).collect();
        let both = |one: &BTreeSet<u32>, other: &BTreeSet<u32>| one & other;
        Self {
            programs: both(&self.programs, &programs),
            maps: both(&self.maps, &maps),
            links: both(&self.links, &links),
        }
    }

    pub fn is_empty(&self) -> bool {
        let Self { programs, maps, links } = self;
        programs.is_empty() && maps.is_empty() && links.is_empty()
    }
}

/// The programs of the host, by id.
pub fn loaded() -> BTreeSet<u32> {
    loaded_programs().flatten().map(|program| program.id()).collect()
}

/// The processes whose end a tracer's kernel side records.
pub fn followed_by(process: u32) -> Result<BTreeSet<u32>> {
    Ok(maps::by_process(process, "FOLLOWED").keys().flatten().collect())
}

/// What each program that a process holds has cost.
pub fn costs_of(process: u32) -> Result<Vec<Cost>> {
    Held::by(process)?.programs.into_iter().map(|id| cost(open(id)?.as_fd())).collect()
}

fn cost(program: BorrowedFd<'_>) -> Result<Cost> {
    // SAFETY: plain integers, for which zero is a value.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = program.as_raw_fd().cast_unsigned();
    attr.info.info_len = u32::try_from(size_of::<bpf_prog_info>())?;
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.context("cannot ask for a program")?;
    let name = info.name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte.cast_unsigned());
    Ok(Cost {
        name: String::from_utf8_lossy(&name.collect::<Vec<_>>()).into_owned(),
        time: info.run_time_ns,
        runs: info.run_cnt,
        skipped: info.recursion_misses,
    })
}

/// A program by its id.
fn open(id: u32) -> Result<OwnedFd> {
    // SAFETY: plain integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: the call reads `attr` alone.
    unsafe { bpf_open(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) }
        .with_context(|| format!("cannot open the program {id}"))
}

/// `BPF_ALU64 | BPF_MOV | BPF_K` and `BPF_JMP | BPF_EXIT` (Documentation/bpf/standardization/instruction-set.rst).
const SET_TO_CONSTANT: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// A program on `inet_sock_set_state` that does nothing: what any other costs at least. Detached when dropped.
pub struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub fn attach() -> Result<Self> {
        let types = Btf::from_sys_fs().context("cannot read the kernel's types")?;
        let tracepoint = types.id_by_type_name_kind("btf_trace_inet_sock_set_state", BtfKind::Typedef)?;
        let (program, link) = attach_empty(bpf_attach_type::BPF_TRACE_RAW_TP, tracepoint)
            .context("cannot attach an empty program")?;
        Ok(Self { program, _link: link })
    }

    pub fn cost(&self) -> Result<Cost> {
        cost(self.program.as_fd())
    }
}

/// Whether the kernel takes fexit programs.
pub fn takes_fexit() -> bool {
    let types = Btf::from_sys_fs().expect("the kernel's types");
    let function =
        types.id_by_type_name_kind("inet_bind", BtfKind::Func).expect("a function of every kernel");
    // Before 5.11 programs count against the limit of locked memory, with those of every tracer of this user.
    let limit = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let attached = attach_empty(bpf_attach_type::BPF_TRACE_FEXIT, function);
    let _ = setrlimit(Resource::Memlock, limit);
    attached.is_ok()
}

/// Loads a tracing program that does nothing and attaches it; gives the program and the link.
fn attach_empty(kind: bpf_attach_type, target: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let instruction = |code: u8| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: 0,
    };
    let program = [instruction(SET_TO_CONSTANT), instruction(EXIT)];
    let license = c"GPL";
    // SAFETY: plain integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the union's member for this command.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = kind as u32;
    load.attach_btf_id = target;
    load.insns = program.as_ptr() as u64;
    load.insn_cnt = u32::try_from(program.len()).expect("a short program");
    load.license = license.as_ptr() as u64;
    for (slot, byte) in load.prog_name.iter_mut().zip(*b"empty") {
        *slot = byte.cast_signed();
    }
    // SAFETY: the program and its licence outlive the call, which only reads them.
    let program = unsafe { bpf_open(bpf_cmd::BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: plain integers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    // SAFETY: a program whose target is named by type takes no name here.
    let link = unsafe { bpf_open(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }?;
    Ok((program, link))
}

/// A call that opens a descriptor.
///
/// # Safety
/// As of [`bpf`].
unsafe fn bpf_open(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: a new descriptor that has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// Every address in `attr` must be valid for what the command does with it.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the caller's.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The memory that a process has resident, in KiB (`VmRSS`, proc_pid_status(5)).
pub fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{path}`"))?
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("`{path}` has no `VmRSS`"))
}
