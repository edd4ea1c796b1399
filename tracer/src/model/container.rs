//! The container that a process runs in, as its cgroup path names it: the innermost one, where containers
//! are nested.
//!
//! A path proves nothing. A process that may make directories in a part of the cgroup tree (of root; of a user
//! whose service manager has `user@UID.service`; of a container that has a cgroup tree of its own) can name
//! one like a container, and rootless runtimes do exactly that below `user.slice`: the path alone does not
//! distinguish them from an imitation. What can be checked is form: an id is 64 hexadecimal digits, a pod's uid a
//! UUID (32 digits for a static pod), a machine's name letters, digits, `.`, `_` and `-`. No other text is
//! returned, so that none must be escaped. Nor does a path distinguish a container from a virtual machine
//! whose manager registers it as `machine-NAME.scope`, libvirt's apart.
//!
//! Paths are relative to the reader's cgroup namespace: other containers show as `/../docker-ID.scope`
//! (`..` names nothing here), and everything in the reader's own container as `/`, which is none.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::path::without_deleted;

/// The container that a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub runtime: Option<String>,
    pub name: Option<String>,
    pub pod_uid: Option<String>,
}

/// Digits of an id in docker, containerd's CRI, CRI-O and podman.
const ID: usize = 64;

/// Digits of an id that people read and that every runtime's commands take.
const SHORT_ID: usize = 12;

/// Longest name of a machine (HOST_NAME_MAX), and of LXC's with the project that LXD puts before it.
const NAME_MAX: usize = 128;

/// What stands before the id in a directory of one container: `docker-ID.scope`, `crio-ID`. The monitors,
/// `libpod-conmon-ID` and `crio-conmon-ID`, run outside of their container.
const PREFIXES: [(&[u8], &str); 6] = [
    (b"docker", "docker"),
    (b"cri-containerd", "containerd"),
    (b"nerdctl", "containerd"),
    (b"crio", "cri-o"),
    (b"libpod", "podman"),
    // --cgroups=split, as quadlets have it.
    (b"libpod-payload", "podman"),
];

const NSPAWN: &str = "systemd-nspawn";

/// The container of the process whose `/proc/PID/cgroup` holds `contents`.
///
/// With cgroup v1 there is a path for each hierarchy, and not every runtime makes a directory in every one
/// (docker leaves `0::` at its own service's, systemd-nspawn uses `name=systemd`): the path that names most
/// containers within each other counts, the first such if there are several. The kernel lists v1's
/// controllers, which are not handed to users, before `0::`, which may be.
pub fn from_cgroup(contents: &[u8]) -> Option<Container> {
    let mut found: Vec<Found> = Vec::new();
    let mut supervised = usize::MAX;
    let mut last: &[u8] = b"";
    for line in contents.split(|&byte| byte == b'\n') {
        // HIERARCHY:CONTROLLERS:PATH. The path may hold colons; a newline it cannot (cgroup_mkdir()).
        let Some(path) = line.splitn(3, |&byte| byte == b':').nth(2) else { continue };
        if path != last {
            last = path;
            found.extend(innermost(path, &mut supervised));
        }
    }
    // Only systemd's own hierarchy distinguishes nspawn from its payload.
    found.retain(|found| found.runtime != Some(NSPAWN) || found.depth < supervised);
    // Of equals, `max_by_key` would take the last.
    found.into_iter().rev().max_by_key(|found| found.depth).map(Found::into_container)
}

/// `container 9f3c1a2b7d10`: by its name where it has one, else by the id's first digits.
pub fn label(container: &Container) -> String {
    match &container.name {
        Some(name) => format!("container {name}"),
        None => format!("container {}", container.id.chars().take(SHORT_ID).collect::<String>()),
    }
}

/// The same with the pod that it belongs to.
pub fn label_with_pod(container: &Container) -> String {
    match &container.pod_uid {
        Some(uid) => format!("{}, pod {uid}", label(container)),
        None => label(container),
    }
}

/// A container that a path names.
struct Found<'a> {
    who: Who<'a>,
    runtime: Option<&'static str>,
    pod_uid: Option<&'a [u8]>,
    /// Containers that the path names, this one included.
    depth: usize,
}

enum Who<'a> {
    Id(&'a str),
    /// A name that is the id as well.
    Name(Cow<'a, str>),
}

impl Found<'_> {
    fn into_container(self) -> Container {
        let (id, name) = match self.who {
            Who::Id(id) => (id.to_owned(), None),
            Who::Name(name) => (name.to_string(), Some(name.into_owned())),
        };
        let dashed =
            |uid: &[u8]| uid.iter().map(|&byte| if byte == b'_' { '-' } else { char::from(byte) }).collect();
        Container { id, runtime: self.runtime.map(str::to_owned), name, pod_uid: self.pod_uid.map(dashed) }
    }
}

/// The last container on the way down a path. Where that ends at a nspawn that stands beside its container,
/// `supervised` becomes the depth of that container.
fn innermost<'a>(path: &'a [u8], supervised: &mut usize) -> Option<Found<'a>> {
    let path = without_deleted(path);
    let mut found = None;
    let mut pod_uid = None;
    let mut depth = 0;
    let mut parent: &[u8] = b"";
    let mut directories = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(directory) = directories.next() {
        let mut name = directory;
        // A runtime configured to leave cgroups to systemd under a driver that does not: SLICE:PREFIX:ID.
        let mut parts = directory.splitn(3, |&byte| byte == b':');
        let slice = parts.next().unwrap_or_default();
        pod_uid = pod(slice).or(pod_uid);
        let mut which = None;
        if let (Some(prefix), Some(rest)) = (parts.next(), parts.next()) {
            which = id(rest).zip(runtime_of(prefix)).map(|(id, runtime)| (Who::Id(id), Some(runtime)));
            name = b"";
        }
        if let Some((who, runtime)) = which.or_else(|| container(name, parent)) {
            if runtime == Some(NSPAWN) && directories.peek() == Some(&b"supervisor".as_slice()) {
                *supervised = depth + 1;
            } else {
                depth += 1;
                found = Some(Found { who, runtime, pod_uid, depth });
            }
        }
        parent = directory;
    }
    found
}

/// The container that a directory is made for, and by which runtime.
fn container<'a>(name: &'a [u8], parent: &[u8]) -> Option<(Who<'a>, Option<&'static str>)> {
    // Below kubepods the id alone is the name, whichever the runtime.
    if let Some(id) = id(name) {
        return Some((Who::Id(id), (parent == b"docker").then_some("docker")));
    }
    let stem = name.strip_suffix(b".scope").unwrap_or(name);
    if let Some(dash) = stem.len().checked_sub(ID + 1)
        && stem[dash] == b'-'
        && let Some(id) = id(&stem[dash + 1..])
    {
        return runtime_of(&stem[..dash]).map(|runtime| (Who::Id(id), Some(runtime)));
    }
    if let Some(instance) = name.strip_prefix(b"systemd-nspawn@") {
        let machine = machine(instance.strip_suffix(b".service")?)?;
        return Some((Who::Name(machine.into()), Some(NSPAWN)));
    }
    if let Some(machine_name) = name.strip_prefix(b"machine-").and_then(|rest| rest.strip_suffix(b".scope")) {
        let machine = machine(machine_name)?;
        return match libvirt_driver(&machine) {
            None => Some((Who::Name(machine.into()), Some(NSPAWN))),
            Some("lxc") => Some((Who::Name(machine.into()), None)),
            // A virtual machine.
            Some(_) => None,
        };
    }
    // Of LXC 4, of 3.1, and before. `lxc.monitor` is outside of the container.
    let lxc = match name.strip_prefix(b"lxc.payload.") {
        None if matches!(parent, b"lxc.payload" | b"lxc") => name,
        None => return None,
        Some(rest) => rest,
    };
    Some((Who::Name(plain_name(lxc)?.into()), Some("lxc")))
}

fn runtime_of(prefix: &[u8]) -> Option<&'static str> {
    PREFIXES.iter().find(|(name, _)| *name == prefix).map(|(_, runtime)| *runtime)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The whole of it is an id.
fn id(bytes: &[u8]) -> Option<&str> {
    if bytes.len() != ID || !bytes.iter().copied().all(is_digit) {
        return None;
    }
    str::from_utf8(bytes).ok()
}

/// The uid of the pod that a directory is made for: `podUID`, or `kubepods-burstable-podUID.slice` with
/// the dashes of the uid as underscores.
fn pod(name: &[u8]) -> Option<&[u8]> {
    let uid = match name.strip_suffix(b".slice") {
        None => name.strip_prefix(b"pod")?,
        Some(stem) => {
            let length = [36, 32].into_iter().find(|length| {
                stem.len().checked_sub(*length).is_some_and(|start| stem[..start].ends_with(b"-pod"))
            })?;
            let (slice, uid) = stem.split_at(stem.len() - length);
            // Below a cgroup root of the kubelet's own: kubelet-kubepods-podUID.slice.
            let is_kubernetes =
                slice.starts_with(b"kubepods-") || slice.windows(10).any(|part| part == b"-kubepods-");
            is_kubernetes.then_some(uid)?
        }
    };
    is_uid(uid).then_some(uid)
}

/// A UUID; of a static pod a digest of 32 digits.
fn is_uid(uid: &[u8]) -> bool {
    let mut bytes = uid.iter().copied().enumerate();
    match uid.len() {
        36 => bytes.all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => is_digit(byte),
        }),
        32 => bytes.all(|(_, byte)| is_digit(byte)),
        _ => false,
    }
}

/// The name of a machine in a unit's name, where systemd writes `-` as `\x2d`.
fn machine(escaped: &[u8]) -> Option<String> {
    if escaped.len() > 4 * NAME_MAX {
        return None;
    }
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        if let Some([high, low, after @ ..]) = rest.strip_prefix(b"\\x") {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            name.push(digit(*high)? << 4 | digit(*low)?);
            rest = after;
        } else {
            name.push(*first);
            rest = tail;
        }
    }
    plain_name(&name).map(str::to_owned)
}

/// A name of letters, digits, `.`, `_` and `-` that does not begin with one of the last three.
fn plain_name(name: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > NAME_MAX || !name.first()?.is_ascii_alphanumeric() || !name.iter().all(is_plain) {
        return None;
    }
    str::from_utf8(name).ok()
}

/// The driver in a machine's name as libvirt forms it: `qemu-1-debian`.
fn libvirt_driver(machine: &str) -> Option<&str> {
    let (driver, rest) = machine.split_once('-')?;
    let (number, _) = rest.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && matches!(driver, "qemu" | "lxc" | "ch" | "xen")).then_some(driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
    const B: &str = "1f1d6e2d4940ddac13abd421a2617992bf89f0e0f9a902ed58278c5f843e9ae7";
    const UID: &str = "6b1c0d0e-5a00-11e9-b385-42010a80018d";
    const STATIC: &str = "c704ef4c297ab11032b83ce52cbfc87b";

    /// Of one line of cgroup v2; `A`, `B`, `UID` (dashed) and `U_I_D` (underscored) stand for what they name.
    fn of(path: &str) -> Option<Container> {
        from_cgroup(format!("0::{}\n", filled(path)).as_bytes())
    }

    fn filled(path: &str) -> String {
        path.replace("{A}", A)
            .replace("{B}", B)
            .replace("{UID}", UID)
            .replace("{U_I_D}", &UID.replace('-', "_"))
            .replace("{STATIC}", STATIC)
    }

    fn some(id: &str, runtime: Option<&str>, pod_uid: Option<&str>) -> Option<Container> {
        Some(Container {
            id: id.to_owned(),
            runtime: runtime.map(str::to_owned),
            name: None,
            pod_uid: pod_uid.map(str::to_owned),
        })
    }

    fn named(name: &str, runtime: Option<&str>) -> Option<Container> {
        let runtime = runtime.map(str::to_owned);
        Some(Container { id: name.to_owned(), runtime, name: Some(name.to_owned()), pod_uid: None })
    }

    #[test]
    fn docker() {
        for path in [
            "/docker/{A}",
            "/system.slice/docker-{A}.scope",
            "/docker/{A}/init.scope",
            "/system.slice/docker-{A}.scope/system.slice/nginx.service",
            "/myparent.slice/docker-{A}.scope",
            // Rootless.
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
            // Its cgroup has been removed, and the process is still running.
            "/system.slice/docker-{A}.scope (deleted)",
            // With --cgroup-parent, docker within docker.
            "/docker/{B}/docker/{A}",
            "/docker/{B}/system.slice/docker-{A}.scope",
        ] {
            assert_eq!(of(path), some(A, Some("docker"), None), "{path}");
        }
    }

    #[test]
    fn containerd_on_its_own() {
        assert_eq!(of("/system.slice/nerdctl-{A}.scope"), some(A, Some("containerd"), None));
    }

    #[test]
    fn the_id_alone_identifies_no_runtime() {
        for path in ["/{A}", "/actions_job/{A}", "/default/{A}", "/../{A}", "/ecs/3b9c2d/{A}"] {
            assert_eq!(of(path), some(A, None, None), "{path}");
        }
    }

    #[test]
    fn kubernetes() {
        for (path, runtime, pod) in [
            ("/kubepods/besteffort/pod{UID}/{A}", None, UID),
            ("/kubepods/pod{UID}/{A}", None, UID),
            ("/kubepods/burstable/pod{STATIC}/{A}", None, STATIC),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_I_D}.slice/cri-containerd-{A}.scope",
                Some("containerd"),
                UID,
            ),
            ("/kubepods.slice/kubepods-pod{U_I_D}.slice/cri-containerd-{A}.scope", Some("containerd"), UID),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{A}.scope",
                Some("containerd"),
                STATIC,
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice/docker-{A}.scope",
                Some("docker"),
                UID,
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice/crio-{A}.scope/container",
                Some("cri-o"),
                UID,
            ),
            ("/kubepods/besteffort/pod{UID}/crio-{A}", Some("cri-o"), UID),
            // containerd under systemd without SystemdCgroup = true.
            (
                "/system.slice/containerd.service/kubepods-burstable-pod{U_I_D}.slice:cri-containerd:{A}",
                Some("containerd"),
                UID,
            ),
            // kind: a node is a docker container.
            (
                "/system.slice/docker-{B}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                 kubelet-kubepods-burstable-pod{U_I_D}.slice/cri-containerd-{A}.scope",
                Some("containerd"),
                UID,
            ),
            ("/docker/{B}/kubelet/kubepods/besteffort/pod{UID}/{A}", None, UID),
            // docker within a pod is still of the pod.
            ("/kubepods/pod{UID}/{B}/docker/{A}", Some("docker"), UID),
            // From within another cgroup namespace.
            ("/../../kubepods-besteffort-pod{U_I_D}.slice/docker-{A}.scope", Some("docker"), UID),
            ("/../../pod{UID}/{A}", None, UID),
            ("/../cri-containerd-{A}.scope", Some("containerd"), ""),
        ] {
            assert_eq!(of(path), some(A, runtime, (!pod.is_empty()).then_some(pod)), "{path}");
        }
    }

    #[test]
    fn podman() {
        for path in [
            "/machine.slice/libpod-{A}.scope",
            "/machine.slice/libpod-{A}.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            "/libpod_parent/libpod-{A}",
            "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service/libpod-payload-{A}",
            "/../libpod-{A}.scope/container",
        ] {
            assert_eq!(of(path), some(A, Some("podman"), None), "{path}");
        }
    }

    #[test]
    fn machines() {
        for path in [
            "/machine.slice/systemd-nspawn@web-1.service/payload/system.slice/getty.service",
            "/machine.slice/systemd-nspawn@web-1.service",
            "/machine.slice/machine-web\\x2d1.scope/payload/init.scope",
            "/machine.slice/machine-web\\x2d1.scope",
        ] {
            assert_eq!(of(path), named("web-1", Some("systemd-nspawn")), "{path}");
        }
        let nested = "/machine.slice/systemd-nspawn@a.service/payload/machine.slice/systemd-nspawn@b.service";
        assert_eq!(of(&format!("{nested}/payload")), named("b", Some("systemd-nspawn")));
        assert_eq!(of(&format!("{nested}/supervisor")), named("a", Some("systemd-nspawn")));
        // docker within a machine, a machine within docker.
        let inner = "/machine.slice/systemd-nspawn@a.service/payload/system.slice/docker-{A}.scope";
        assert_eq!(of(inner), some(A, Some("docker"), None));
        let inner = "/docker/{A}/machine.slice/systemd-nspawn@a.service/payload/init.scope";
        assert_eq!(of(inner), named("a", Some("systemd-nspawn")));
        // libvirt's containers, which are not LXC's.
        assert_eq!(
            of("/machine.slice/machine-lxc\\x2d12345\\x2ddemo.scope/libvirt"),
            named("lxc-12345-demo", None)
        );
    }

    #[test]
    fn lxc() {
        for path in [
            "/lxc.payload.openwrt",
            "/lxc.payload.openwrt/system.slice/sshd.service",
            "/lxc.payload/openwrt",
            "/lxc/openwrt/ns/init.scope",
            "/docker/{A}/lxc.payload.openwrt",
        ] {
            assert_eq!(of(path), named("openwrt", Some("lxc")), "{path}");
        }
        assert_eq!(
            of("/lxc.payload.snapcraft_some-container"),
            named("snapcraft_some-container", Some("lxc"))
        );
        assert_eq!(of("/lxc.payload.web/system.slice/docker-{A}.scope"), some(A, Some("docker"), None));
    }

    #[test]
    fn what_stands_beside_a_container_is_not_in_it() {
        for path in [
            "/",
            "/init.scope",
            "/system.slice/containerd.service",
            "/system.slice/docker.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/process_api/1506a808f2d845f5b04a199a7a6ab00f",
            "/system.slice/crio-conmon-{A}.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice/crio-conmon-{A}.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice",
            "/kubepods/besteffort/pod{UID}/crio-conmon-{A}",
            "/machine.slice/libpod-conmon-{A}.scope",
            "/libpod_parent/conmon",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service/runtime",
            "/machine.slice/systemd-nspawn@web.service/supervisor",
            "/machine.slice/machine-qemu\\x2d1\\x2ddebian.scope/libvirt/emulator",
            "/lxc.monitor.web",
            "/lxc.monitor/web",
            "/lxc.payload",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        // Within a container, it is in that one.
        assert_eq!(of("/docker/{A}/machine.slice/libpod-conmon-{B}.scope"), some(A, Some("docker"), None));
    }

    #[test]
    fn an_imitation_lacks_the_form() {
        let short = &A[..63];
        let long = format!("{A}0");
        let upper = A.to_uppercase();
        for path in [
            format!("/docker/{short}"),
            format!("/docker/{long}"),
            format!("/docker/{upper}"),
            format!("/docker/{}", &A[..12]),
            format!("/docker-{A}x.scope"),
            format!("/docker-{A}.scope.scope"),
            format!("/xdocker-{A}.scope"),
            format!("/-{A}.scope"),
            format!("/:docker:{short}"),
            format!("/x:containerd-shim:{A}"),
            format!("/docker/{A}\u{202e}"),
            "/docker/".to_owned(),
            "/lxc.payload.".to_owned(),
            "/lxc.payload.a\x1b[31m".to_owned(),
            "/lxc/..".to_owned(),
            format!("/lxc.payload.{}", "a".repeat(NAME_MAX + 1)),
            "/machine.slice/systemd-nspawn@.service".to_owned(),
            "/machine.slice/systemd-nspawn@a\\x1b[31m.service".to_owned(),
            "/machine.slice/machine-a\\x.scope".to_owned(),
            "/machine.slice/machine-a\\x2.scope".to_owned(),
            "/machine.slice/machine-a\\x+1.scope".to_owned(),
            "/machine.slice/machine-a\\x2fb.scope".to_owned(),
        ] {
            assert_eq!(of(&path), None, "{path}");
        }
        // Without a valid uid it is not a pod; its container is still a container.
        for pod in ["pod", "podx", "pod6b1c0d0e", "pod6b1c0d0e-5a00-11e9-b385-42010a80018dd"] {
            assert_eq!(of(&format!("/kubepods/{pod}/{A}")), some(A, None, None), "{pod}");
        }
        assert_eq!(of("/other-pod{U_I_D}.slice/docker-{A}.scope"), some(A, Some("docker"), None));
    }

    #[test]
    fn version_1_and_hybrid() {
        // docker's daemon leaves 0:: where it is itself.
        let hybrid = filled(
            "12:net_cls,net_prio:/docker/{A}\n11:rdma:/\n10:pids:/docker/{A}\n1:name=systemd:/docker/{A}\n\
             0::/system.slice/containerd.service\n",
        );
        assert_eq!(from_cgroup(hybrid.as_bytes()), some(A, Some("docker"), None));
        // Only one hierarchy has it, and it is not the first.
        let one = filled("9:name=systemd:/\n8:pids:/docker/{A}\n4:memory:/process_api/1506a808\n0::/\n");
        assert_eq!(from_cgroup(one.as_bytes()), some(A, Some("docker"), None));
        // The inner runtime uses one hierarchy only.
        let nested = filled(
            "3:pids:/docker/{A}\n2:cpu,cpuacct:/docker/{A}/docker/{B}\n1:name=systemd:/docker/{A}\n0::/\n",
        );
        assert_eq!(from_cgroup(nested.as_bytes()), some(B, Some("docker"), None));
        // What users may write to comes second.
        let imitated =
            filled("2:pids:/docker/{A}\n0::/user.slice/user-1000.slice/user@1000.service/docker/{B}\n");
        assert_eq!(from_cgroup(imitated.as_bytes()), some(A, Some("docker"), None));
        // Where the controllers do not distinguish nspawn from its payload, systemd's hierarchy does.
        let unit = "2:pids:/machine.slice/systemd-nspawn@web.service\n1:name=systemd:/machine.slice/systemd-nspawn@web.service";
        assert_eq!(from_cgroup(format!("{unit}/payload\n").as_bytes()), named("web", Some("systemd-nspawn")));
        assert_eq!(from_cgroup(format!("{unit}/supervisor\n").as_bytes()), None);
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for contents in
            ["", "\n\n", "0", "0:", "0::", "0:::", "0::/docker", "::", "docker/{A}", "0:/docker/{A}"]
        {
            assert_eq!(from_cgroup(filled(contents).as_bytes()), None, "{contents}");
        }
        assert_eq!(from_cgroup(filled("0::/docker/{A}").as_bytes()), some(A, Some("docker"), None));
        assert_eq!(
            from_cgroup(format!("\u{ff}\n0::/\u{ff}/docker/{A}/:/\n").as_bytes()),
            some(A, Some("docker"), None)
        );
        assert_eq!(from_cgroup(format!("0::{}\n", "/a".repeat(8_000)).as_bytes()), None);
    }

    #[test]
    fn people_read_a_short_id_or_the_name() {
        let label_of = |path| of(path).as_ref().map(label_with_pod).unwrap();
        assert_eq!(label_of("/docker/{A}"), "container 9ec39b91f3d7");
        assert_eq!(label_of("/kubepods/pod{UID}/{A}"), format!("container 9ec39b91f3d7, pod {UID}"));
        assert_eq!(label_of("/lxc.payload.openwrt-gateway"), "container openwrt-gateway");
    }

    fn is_plain_text(text: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(is_plain)
    }

    fn check(contents: &[u8]) -> Result<(), proptest::test_runner::TestCaseError> {
        if let Some(Container { id, runtime, name, pod_uid }) = from_cgroup(contents) {
            proptest::prop_assert!(is_plain_text(&id), "{id:?}");
            proptest::prop_assert!(name.as_deref().is_none_or(is_plain_text), "{name:?}");
            proptest::prop_assert!(pod_uid.as_deref().is_none_or(is_plain_text), "{pod_uid:?}");
            proptest::prop_assert!(runtime.as_deref().is_none_or(is_plain_text), "{runtime:?}");
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_are(bytes: Vec<u8>) {
            check(&bytes)?;
        }

        /// Out of the pieces that mean something, cut and joined at random.
        #[test]
        fn whatever_the_pieces_are(pieces in proptest::collection::vec((0..PIECES.len(), 0..70_usize), 0..30)) {
            let mut contents = b"0::/".to_vec();
            for (index, length) in pieces {
                let piece = PIECES[index];
                contents.extend_from_slice(&piece[..piece.len().min(length.max(1))]);
            }
            check(&contents)?;
        }
    }

    const PIECES: [&[u8]; 24] = [
        b"/",
        b"/",
        b":",
        b"-",
        b"\n0::/",
        b"9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d",
        b"6b1c0d0e_5a00_11e9_b385_42010a80018d",
        b"docker",
        b"docker-",
        b"cri-containerd",
        b"libpod-conmon-",
        b"kubepods-pod",
        b"/pod",
        b".slice",
        b".scope",
        b".service",
        b"/systemd-nspawn@",
        b"/machine-",
        b"lxc-1-",
        b"/lxc.payload.",
        b"/supervisor",
        b"\\x2d",
        b"\\x1b\xff\xe2\x80\xae",
        b" (deleted)",
    ];
}
