//! Looks at the machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit};

use super::check::{Agent, Facts, Port, Xdp};
use crate::model::status::Status;
use crate::net::{kernel_vips, netlink};

/// Port of BGP.
const BGP: u16 = 179;

/// State of a socket that listens, in /proc/net/tcp.
const LISTEN: &str = "0A";

/// Looks; `root` is where /proc and /sys are.
pub(super) fn look(
    root: &Path,
    interface: Option<&str>,
    pin: &Path,
    status: Option<&Status>,
) -> anyhow::Result<Facts> {
    let port = match interface {
        Some(name) => port(root, name, pin)?,
        None => None,
    };
    let text = |path: &str| read(root, path);
    let number = |path: &str| text(path).and_then(|text| text.parse().ok());
    let small = |path: &str| number(path).and_then(|number: u64| u8::try_from(number).ok());
    let of_port =
        interface.and_then(|name| small(&format!("proc/sys/net/ipv4/conf/{name}/rp_filter")));
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).ok();
    Ok(Facts {
        kernel: text("proc/sys/kernel/osrelease").unwrap_or_default(),
        has_btf: root.join("sys/kernel/btf/vmlinux").exists(),
        has_bpffs: has_bpffs(&text("proc/self/mounts").unwrap_or_default(), pin),
        is_root: nix::unistd::geteuid().is_root(),
        agent: status.map(agent),
        interface: interface.map(str::to_owned),
        port,
        forwards_v4: number("proc/sys/net/ipv4/ip_forward").map(|on| on != 0),
        forwards_v6: number("proc/sys/net/ipv6/conf/all/forwarding").map(|on| on != 0),
        rp_filter: small("proc/sys/net/ipv4/conf/all/rp_filter").max(of_port),
        kube_proxy: kernel_vips::are_served(),
        ipvs: root.join("sys/class/net/kube-ipvs0").exists(),
        arp_ignore: small("proc/sys/net/ipv4/conf/all/arp_ignore"),
        bgp_listeners: listeners(root),
        clock_source: text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        open_files: open_files.map(|(soft, _)| soft),
        inotify_instances: number("proc/sys/fs/inotify/max_user_instances"),
    })
}

fn read(root: &Path, path: &str) -> Option<String> {
    Some(fs::read_to_string(root.join(path)).ok()?.trim().to_owned())
}

fn agent(status: &Status) -> Agent {
    let without_bfd = status
        .sessions
        .iter()
        .filter(|session| session.bfd.is_none());
    Agent {
        version: status.version.clone(),
        in_sync: status.in_sync,
        findings: status.findings.len(),
        nodes: status.nodes.len() + 1,
        sessions: status.sessions.len(),
        without_bfd: without_bfd.count(),
    }
}

fn port(root: &Path, name: &str, pin: &Path) -> anyhow::Result<Option<Port>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let link = runtime.block_on(async {
        let (netlink, _changes) = netlink::connect()?;
        netlink.link(name).await
    })?;
    let Some(link) = link else {
        return Ok(None);
    };
    let driver = fs::read_link(root.join("sys/class/net").join(name).join("device/driver"));
    let driver = driver.ok().and_then(|path| {
        let name = path.file_name()?;
        Some(name.to_string_lossy().into_owned())
    });
    let said = Command::new("ethtool")
        .arg("-k")
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let said = said.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let said_driver = driver.or_else(|| {
        let output = Command::new("ethtool").arg("-i").arg(name).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("driver: "))?;
        Some(line.to_owned())
    });
    Ok(Some(Port {
        is_up: link.is_up,
        is_ethernet: link.mac.is_some(),
        mtu: link.mtu,
        driver: said_driver,
        // Where maps and links are pinned there is a program of ours, and an interface carries one.
        xdp: link.xdp.map(|xdp| Xdp {
            id: xdp.id,
            is_generic: xdp.is_generic,
            is_ours: fs::read_dir(pin).is_ok_and(|mut entries| entries.next().is_some()),
        }),
        lro: feature(&said, "large-receive-offload"),
        vlan_offload: feature(&said, "rx-vlan-offload"),
    }))
}

/// Whether ethtool says that a feature is on.
fn feature(said: &str, name: &str) -> Option<bool> {
    let mut lines = said.lines().filter_map(|line| line.trim().split_once(": "));
    let (_, value) = lines.find(|(feature, _)| *feature == name)?;
    Some(value.starts_with("on"))
}

/// Whether a BPF file system is mounted at a path or above it.
fn has_bpffs(mounts: &str, pin: &Path) -> bool {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let bpf = mounts.filter(|(_, kind)| *kind == "bpf");
    bpf.into_iter().any(|(place, _)| pin.starts_with(place))
}

/// Names of the processes that listen on the port of BGP.
fn listeners(root: &Path) -> Vec<String> {
    let tables = ["proc/net/tcp", "proc/net/tcp6"].map(|path| read(root, path));
    let sockets: Vec<_> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(listening))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<_> = fs::read_dir(root.join("proc"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let files = fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
            targets.any(|target| {
                sockets
                    .iter()
                    .any(|socket| target.as_os_str() == socket.as_str())
            })
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        names.push("somebody that only root may see".to_owned());
    }
    names
}

/// The inode of a socket of /proc/net/tcp that listens on the port of BGP.
fn listening(line: &str) -> Option<&str> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    let is_bgp = u16::from_str_radix(port, 16).ok()? == BGP;
    let listens = *words.get(3)? == LISTEN;
    words.get(9).copied().filter(|_| is_bgp && listens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_port_179_is_told_from_connections_and_other_ports() {
        const TAIL: &str = "00000000:00000000 00:00000000 00000000     0        0 4711 1";
        for (line, inode) in [
            (
                format!("0: 00000000:00B3 00000000:0000 0A {TAIL}"),
                Some("4711"),
            ),
            (format!("1: 0100007F:00B3 0100007F:9C40 01 {TAIL}"), None),
            (format!("2: 00000000:0016 00000000:0000 0A {TAIL}"), None),
            ("  sl  local_address rem_address   st".to_owned(), None),
        ] {
            assert_eq!(listening(&line), inode, "{line}");
        }
    }

    #[test]
    fn ethtool_is_understood() {
        let said =
            "Features for eth0:\nlarge-receive-offload: off [fixed]\n  rx-vlan-offload: on\n";
        assert_eq!(feature(said, "large-receive-offload"), Some(false));
        assert_eq!(feature(said, "rx-vlan-offload"), Some(true));
        assert_eq!(feature("", "rx-vlan-offload"), None);
    }

    #[test]
    fn a_bpf_file_system_serves_the_paths_below_it() {
        let mounts = "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert!(has_bpffs(mounts, Path::new("/sys/fs/bpf/torline")));
        assert!(!has_bpffs(mounts, Path::new("/run/torline")));
        assert!(!has_bpffs("", Path::new("/sys/fs/bpf/torline")));
    }

    #[test]
    fn files_are_read_from_the_tree_that_is_given() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.1.2\n");
        write("proc/sys/net/ipv4/ip_forward", "0\n");
        write("proc/sys/net/ipv4/conf/all/rp_filter", "1\n");
        write("sys/kernel/btf/vmlinux", "");
        let facts = look(root.path(), None, Path::new("/sys/fs/bpf/torline"), None).unwrap();
        assert_eq!(facts.kernel, "6.1.2");
        assert_eq!((facts.forwards_v4, facts.forwards_v6), (Some(false), None));
        assert_eq!(facts.rp_filter, Some(1));
        assert!(facts.has_btf && !facts.has_bpffs);
        assert_eq!(facts.bgp_listeners, [""; 0]);
    }
}
