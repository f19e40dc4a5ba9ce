//! OpenBGPD, asked through `bgpctl` over a socket of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ipnet::IpNet;
use lb_userspace::model::cluster::Family;
use serde_json::Value;

use super::daemon::{self, Daemon};
use super::{
    NeighborConfig, Reach, Route, Router, RouterConfig, Session, community, json, number, output,
};
use crate::netns::Netns;

/// The daemon; FRR has one of the same name elsewhere.
pub const BGPD: &str = "/usr/sbin/bgpd";

/// Gives it a /run of its own, with the directory that it confines itself to.
const START: &str = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/openbgpd && exec \"$@\"";

/// A running OpenBGPD.
#[derive(Debug)]
pub struct OpenBgpd {
    socket: PathBuf,
    _daemon: Daemon,
}

impl OpenBgpd {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(netns: &Netns, dir: &Path, config: &RouterConfig) -> Result<Self> {
        let (file, socket) = (dir.join("bgpd.conf"), dir.join("bgpd.sock"));
        fs::write(&file, text(config, &socket))?;
        // It reads no configuration that others may read, for the passwords in it.
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", START, "sh", BGPD, "-d", "-v", "-f"]);
        let mut daemon = Daemon::start(netns, dir, "bgpd", command.arg(&file))?;
        daemon.await_ready(|| {
            json(bgpctl(&socket).args(["show", "neighbor"]))?;
            daemon::listens(netns, config)
        })?;
        Ok(Self {
            socket,
            _daemon: daemon,
        })
    }

    fn rib(&self, neighbor: &NeighborConfig, family: Family) -> Result<Vec<(IpNet, Value)>> {
        let address = neighbor.address.to_string();
        let args = ["show", "rib", "neighbor", &address, "detail"];
        let mut shown = json(bgpctl(&self.socket).args(args))?;
        let mut rows = Vec::new();
        if let Value::Array(rib) = shown["rib"].take() {
            for row in rib {
                let prefix = row["prefix"].as_str().context("no prefix")?;
                let prefix: IpNet = prefix.parse()?;
                if Family::of(prefix.addr()) == family {
                    rows.push((prefix, row));
                }
            }
        }
        Ok(rows)
    }
}

fn bgpctl(socket: &Path) -> Command {
    let mut command = Command::new("bgpctl");
    command.arg("-j").arg("-s").arg(socket);
    command
}

fn text(config: &RouterConfig, socket: &Path) -> String {
    let mut text = format!("AS {}\nrouter-id {}\n", config.asn, config.id);
    for local in config.locals() {
        let _ = writeln!(text, "listen on {local}");
    }
    let _ = write!(text, "socket \"{}\"\nfib-update no\n", socket.display());
    let mut rules = String::new();
    for neighbor in &config.neighbors {
        let offers = |family| match neighbor.families.contains(&family) {
            true => "unicast",
            false => "none",
        };
        let _ = write!(
            text,
            "neighbor {} {{
	remote-as {}
	local-as {}
	holdtime {}
	holdtime min 3
	announce IPv4 {}
	announce IPv6 {}
	announce as-4byte {}
	announce restart {}
",
            neighbor.address,
            neighbor.asn,
            neighbor.local_asn,
            neighbor.hold_time,
            offers(Family::V4),
            offers(Family::V6),
            yes(neighbor.wide_asn),
            yes(neighbor.helps_restart),
        );
        if !neighbor.dials {
            text += "\tpassive\n";
        }
        // With both, 7.7 takes no signed connection; it makes one.
        if neighbor.password.is_none() || neighbor.dials {
            let _ = writeln!(text, "\tlocal-address {}", neighbor.local);
        }
        if let Some(password) = &neighbor.password {
            let _ = writeln!(text, "\ttcp md5sig password \"{password}\"");
        }
        match neighbor.reach {
            Reach::Link => {}
            Reach::Proven => text += "\tttl-security yes\n",
            Reach::Hops(hops) => {
                let _ = writeln!(text, "\tmultihop {hops}");
            }
        }
        text += "}\n";
        if neighbor.is_told {
            let _ = writeln!(rules, "allow to {}", neighbor.address);
        }
    }
    text + "allow from any\ndeny to any\n" + &rules
}

const fn yes(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}

impl Router for OpenBgpd {
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session> {
        let address = neighbor.address.to_string();
        let shown = json(bgpctl(&self.socket).args(["show", "neighbor", &address]))?;
        let shown = &shown["neighbors"][0];
        let updates = &shown["stats"]["message"]["received"]["updates"];
        let said = [
            "state",
            "last_error_received",
            "last_shutdown_reason",
            "last_error_sent",
        ];
        let said = said.map(|key| shown[key].as_str().unwrap_or_default());
        Ok(Session {
            is_established: shown["state"] == "Established",
            updates: updates.as_u64().context("no counter of updates")?,
            remark: said.join(" "),
        })
    }

    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        let rows = self.rib(neighbor, family)?;
        rows.iter()
            .map(|(prefix, row)| Ok((*prefix, route(row)?)))
            .collect()
    }

    fn route_count(&self, neighbor: &NeighborConfig, family: Family) -> Result<usize> {
        // Thousands of routes take a second as JSON.
        let mut command = Command::new("bgpctl");
        command.arg("-s").arg(&self.socket);
        let address = neighbor.address.to_string();
        let shown = output(command.args(["show", "rib", "neighbor", &address]))?;
        let prefix = |line: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.parse::<IpNet>().ok())
        };
        let prefixes = shown.lines().filter_map(prefix);
        Ok(prefixes
            .filter(|prefix| Family::of(prefix.addr()) == family)
            .count())
    }

    fn dial(&self, neighbor: &NeighborConfig) -> Result<()> {
        let address = neighbor.address.to_string();
        output(bgpctl(&self.socket).args(["neighbor", &address, "clear"])).map(drop)
    }

    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()> {
        let address = neighbor.address.to_string();
        output(bgpctl(&self.socket).args(["neighbor", &address, "refresh"])).map(drop)
    }
}

fn route(row: &Value) -> Result<Route> {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let path = text("aspath").split_whitespace().map(str::parse);
    let mut route = Route {
        next_hop: Some(text("exit_nexthop").parse()?),
        as_path: path.collect::<Result<_, _>>()?,
        med: number(&row["metric"]).filter(|&med| med > 0),
        local_pref: number(&row["localpref"]),
        ..Route::default()
    };
    for kind in ["communities", "large_communities"] {
        for value in row[kind].as_array().into_iter().flatten() {
            let value = value.as_str().context("no community")?;
            route.communities.insert(community(value)?);
        }
    }
    Ok(route)
}
