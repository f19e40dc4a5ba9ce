//! FRR: zebra and bgpd, asked through `vtysh` over sockets of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lb_userspace::model::cluster::Family;
use nix::unistd::{User, chown};
use serde_json::{Deserializer, Value};

use super::daemon::{self, Daemon};
use super::{
    NeighborConfig, Reach, Route, Router, RouterConfig, Session, community, global, json, number,
    output,
};
use crate::netns::Netns;

/// The daemon; OpenBGPD has one of the same name elsewhere.
pub const BGPD: &str = "/usr/lib/frr/bgpd";
const ZEBRA: &str = "/usr/lib/frr/zebra";
/// What FRR insists on running as.
const USER: &str = "frr";

/// A running FRR.
#[derive(Debug)]
pub struct Frr {
    dir: PathBuf,
    _daemons: [Daemon; 2],
}

impl Frr {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(netns: &Netns, dir: &Path, config: &RouterConfig) -> Result<Self> {
        // Its user must get at its files, and at them alone.
        fs::set_permissions(dir, Permissions::from_mode(0o711))?;
        let dir = dir.join("frr");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir)?;
        let file = dir.join("bgpd.conf");
        fs::write(&file, text(config))?;
        let user = User::from_name(USER)?.context("there is no user `frr`")?;
        for path in [&dir, &file] {
            chown(path, Some(user.uid), Some(user.gid))?;
        }

        let start = |name: &str, mut command: Command| {
            command.args(["-u", USER, "-g", USER, "-P", "0", "--log", "stdout"]);
            command.arg("--vty_socket").arg(&dir);
            command.arg("-z").arg(dir.join("zserv.api"));
            command.arg("-i").arg(dir.join(format!("{name}.pid")));
            Daemon::start(netns, &dir, name, &mut command)
        };
        let mut zebra = start("zebra", {
            let mut command = Command::new(ZEBRA);
            command.args(["-f", "/dev/null"]);
            command
        })?;
        zebra.await_ready(|| ensure_exists(&dir.join("zserv.api")))?;
        let mut bgpd = start("bgpd", {
            let mut command = Command::new(BGPD);
            command.arg("-f").arg(&file);
            command
        })?;
        bgpd.await_ready(|| {
            // Refused until zebra has told bgpd of the addresses.
            let shown = output(vtysh(&dir).args(["-c", "show bgp summary json"]))?;
            ensure!(!shown.contains("\"Idle\""), "{shown}");
            daemon::listens(netns, config)
        })?;
        let said = fs::read_to_string(dir.join("bgpd.log"))?;
        ensure!(!said.contains("Unknown command"), "{said}");
        Ok(Self {
            dir,
            _daemons: [bgpd, zebra],
        })
    }

    fn neighbor(&self, neighbor: &NeighborConfig) -> Result<Value> {
        let address = neighbor.address.to_string();
        let show = format!("show bgp neighbors {address} json");
        Ok(json(vtysh(&self.dir).args(["-c", &show]))?[&address].take())
    }
}

fn ensure_exists(path: &Path) -> Result<()> {
    ensure!(path.exists(), "{} is not there", path.display());
    Ok(())
}

fn vtysh(dir: &Path) -> Command {
    let mut command = Command::new("vtysh");
    command.arg("--vty_socket").arg(dir);
    command
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4 unicast",
        Family::V6 => "ipv6 unicast",
    }
}

fn text(config: &RouterConfig) -> String {
    let mut text = format!(
        "router bgp {}
 bgp router-id {}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart
",
        config.asn, config.id
    );
    for neighbor in &config.neighbors {
        let address = neighbor.address;
        let mut say = |what: &str| {
            let _ = writeln!(text, " neighbor {address} {what}");
        };
        say(&format!("remote-as {}", neighbor.asn));
        if neighbor.local_asn != config.asn {
            say(&format!(
                "local-as {} no-prepend replace-as",
                neighbor.local_asn
            ));
        }
        say(&format!("update-source {}", neighbor.local));
        say(&format!(
            "timers {} {}",
            neighbor.hold_time / 3,
            neighbor.hold_time
        ));
        say("timers connect 1");
        if !neighbor.dials {
            say("passive");
        }
        if let Some(password) = &neighbor.password {
            say(&format!("password {password}"));
        }
        match neighbor.reach {
            Reach::Link => {}
            Reach::Proven => say("ttl-security hops 1"),
            Reach::Hops(hops) => say(&format!("ebgp-multihop {hops}")),
        }
        if !neighbor.wide_asn {
            say("dont-capability-negotiate");
        }
        say(match neighbor.helps_restart {
            true => "graceful-restart-helper",
            false => "graceful-restart-disable",
        });
    }
    for family in [Family::V4, Family::V6] {
        let _ = writeln!(text, " address-family {}", word(family));
        for neighbor in &config.neighbors {
            let address = neighbor.address;
            if !neighbor.families.contains(&family) {
                continue;
            }
            let _ = writeln!(text, "  neighbor {address} activate");
            if !neighbor.is_told {
                let _ = writeln!(text, "  neighbor {address} route-map nothing out");
            }
        }
        text += " exit-address-family\n";
    }
    text + "exit\nroute-map nothing deny 1\n"
}

impl Router for Frr {
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session> {
        let shown = self.neighbor(neighbor)?;
        let updates = &shown["messageStats"]["updatesRecv"];
        let said = [
            "bgpState",
            "lastResetDueTo",
            "lastNotificationReason",
            "lastShutdownDescription",
        ];
        let said = said.map(|key| shown[key].as_str().unwrap_or_default());
        Ok(Session {
            is_established: shown["bgpState"] == "Established",
            updates: updates.as_u64().context("no counter of updates")?,
            remark: said.join(" "),
        })
    }

    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        let (address, family) = (neighbor.address, word(family));
        let list = format!("show bgp {family} neighbors {address} routes json");
        let list = json(vtysh(&self.dir).args(["-c", &list]))?;
        // Attributes are told of one prefix at a time.
        let mut details = vtysh(&self.dir);
        let mut prefixes = Vec::new();
        for (prefix, _) in list["routes"].as_object().into_iter().flatten() {
            details.args(["-c", &format!("show bgp {family} {prefix} json")]);
            prefixes.push(prefix.parse()?);
        }
        let mut routes = BTreeMap::new();
        if prefixes.is_empty() {
            return Ok(routes);
        }
        let text = output(&mut details)?;
        let shown = Deserializer::from_str(&text).into_iter::<Value>();
        for (prefix, shown) in prefixes.into_iter().zip(shown) {
            let shown = shown?;
            let paths = shown["paths"].as_array().into_iter().flatten();
            let from = Value::from(address.to_string());
            if let Some(path) = paths
                .into_iter()
                .find(|path| path["peer"]["peerId"] == from)
            {
                routes.insert(prefix, route(path)?);
            }
        }
        Ok(routes)
    }

    fn route_count(&self, neighbor: &NeighborConfig, family: Family) -> Result<usize> {
        let shown = self.neighbor(neighbor)?;
        let family = match family {
            Family::V4 => "ipv4Unicast",
            Family::V6 => "ipv6Unicast",
        };
        let accepted = shown["addressFamilyInfo"][family]["acceptedPrefixCounter"].as_u64();
        Ok(usize::try_from(accepted.unwrap_or(0))?)
    }

    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()> {
        for family in &neighbor.families {
            let clear = format!("clear bgp {} {} soft in", word(*family), neighbor.address);
            output(vtysh(&self.dir).args(["-c", &clear]))?;
        }
        Ok(())
    }
}

fn route(path: &Value) -> Result<Route> {
    let mut next_hops = Vec::<IpAddr>::new();
    for next_hop in path["nexthops"].as_array().into_iter().flatten() {
        next_hops.push(next_hop["ip"].as_str().context("no next hop")?.parse()?);
    }
    let segments = path["aspath"]["segments"].as_array().into_iter().flatten();
    let mut route = Route {
        next_hop: global(next_hops),
        as_path: segments
            .flat_map(|segment| segment["list"].as_array().into_iter().flatten())
            .filter_map(number)
            .collect(),
        med: number(&path["metric"]),
        local_pref: number(&path["locPrf"]),
        ..Route::default()
    };
    for kind in ["community", "largeCommunity"] {
        for value in path[kind]["list"].as_array().into_iter().flatten() {
            let value = value.as_str().context("no community")?;
            route.communities.insert(community(value)?);
        }
    }
    Ok(route)
}
