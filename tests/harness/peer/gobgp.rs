//! GoBGP, asked through `gobgp` over a socket of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};
use serde_json::Value;

use super::daemon::{self, Daemon};
use super::{NeighborConfig, Reach, Route, Router, RouterConfig, Session, json, number, output};
use crate::netns::Netns;

/// `session_state` of a session that waits before it takes connections, and of one that is up.
const IDLE: u64 = 1;
const ESTABLISHED: u64 = 6;

/// A running gobgpd.
#[derive(Debug)]
pub struct GoBgp {
    socket: PathBuf,
    _daemon: Daemon,
}

impl GoBgp {
    /// Starts it; returns when it takes connections, which it does not during its first five seconds.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(netns: &Netns, dir: &Path, config: &RouterConfig) -> Result<Self> {
        let (file, socket) = (dir.join("gobgpd.toml"), dir.join("gobgp.sock"));
        fs::write(&file, text(config))?;
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("gobgpd");
        command
            .args(["-t", "toml", "--pprof-disable", "-f"])
            .arg(&file);
        command.arg(format!("--api-hosts=unix://{}", socket.display()));
        let mut daemon = Daemon::start(netns, dir, "gobgpd", &mut command)?;
        daemon.await_ready(|| {
            let neighbors = json(gobgp(&socket).args(["neighbor", "-j"]))?;
            let neighbors = neighbors.as_array().context("no neighbours")?;
            ensure!(
                neighbors.len() == config.neighbors.len(),
                "neighbours are missing"
            );
            let is_idle = |it: &Value| {
                it["state"]["session_state"]
                    .as_u64()
                    .is_none_or(|s| s == IDLE)
            };
            ensure!(!neighbors.iter().any(is_idle), "a neighbour is idle");
            daemon::listens(netns, config)
        })?;
        Ok(Self {
            socket,
            _daemon: daemon,
        })
    }

    fn neighbor(&self, neighbor: &NeighborConfig) -> Result<Value> {
        let address = neighbor.address.to_string();
        json(gobgp(&self.socket).args(["neighbor", &address, "-j"]))
    }
}

fn gobgp(socket: &Path) -> Command {
    let mut command = Command::new("gobgp");
    command.arg(format!("--target=unix://{}", socket.display()));
    command
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn text(config: &RouterConfig) -> String {
    let locals: Vec<_> = config
        .locals()
        .iter()
        .map(|it| format!("\"{it}\""))
        .collect();
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nlocal-address-list = [{}]\n",
        config.asn,
        config.id,
        locals.join(", ")
    );
    for neighbor in &config.neighbors {
        let _ = write!(
            text,
            "[[neighbors]]
[neighbors.config]
neighbor-address = \"{}\"
peer-as = {}
local-as = {}
",
            neighbor.address, neighbor.asn, neighbor.local_asn
        );
        if let Some(password) = &neighbor.password {
            let _ = writeln!(text, "auth-password = \"{password}\"");
        }
        let _ = write!(
            text,
            "[neighbors.transport.config]
local-address = \"{}\"
passive-mode = {}
[neighbors.timers.config]
hold-time = {}
keepalive-interval = {}
connect-retry = 1
",
            neighbor.local,
            !neighbor.dials,
            neighbor.hold_time,
            neighbor.hold_time / 3
        );
        match neighbor.reach {
            Reach::Link => {}
            Reach::Proven => {
                text += "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n";
            }
            Reach::Hops(hops) => {
                let _ = write!(
                    text,
                    "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {hops}\n"
                );
            }
        }
        if neighbor.helps_restart {
            text += "[neighbors.graceful-restart.config]\nenabled = true\nhelper-only = true\n\
                     restart-time = 120\n";
        }
        for family in &neighbor.families {
            let _ = write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}-unicast\"\n",
                word(*family)
            );
            if neighbor.helps_restart {
                text += "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n";
            }
        }
    }
    text
}

impl Router for GoBgp {
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session> {
        let shown = self.neighbor(neighbor)?;
        let state = &shown["state"];
        Ok(Session {
            is_established: state["session_state"] == ESTABLISHED,
            updates: state["messages"]["received"]["update"]
                .as_u64()
                .unwrap_or(0),
            remark: state.to_string(),
        })
    }

    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        let address = neighbor.address.to_string();
        let args = ["neighbor", &address, "adj-in", "-a", word(family), "-j"];
        let shown = json(gobgp(&self.socket).args(args))?;
        let mut routes = BTreeMap::new();
        for (prefix, paths) in shown.as_object().into_iter().flatten() {
            routes.insert(prefix.parse()?, route(&paths[0])?);
        }
        Ok(routes)
    }

    fn route_count(&self, neighbor: &NeighborConfig, family: Family) -> Result<usize> {
        let shown = self.neighbor(neighbor)?;
        let afi = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        let of_family = |it: &&Value| it["state"]["family"]["afi"] == afi;
        let states = shown["afi_safis"].as_array().into_iter().flatten();
        let received = states
            .filter(of_family)
            .find_map(|it| it["state"]["received"].as_u64());
        Ok(usize::try_from(received.unwrap_or(0))?)
    }

    /// Asks nobody: GoBGP 3.10 goes through its Adj-RIB-In instead.
    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()> {
        let address = neighbor.address.to_string();
        output(gobgp(&self.socket).args(["neighbor", &address, "softresetin"])).map(drop)
    }
}

/// Attributes come by their type codes.
fn route(path: &Value) -> Result<Route> {
    let mut route = Route::default();
    let numbers = |value: &Value| -> Vec<u32> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(number)
            .collect()
    };
    for attribute in path["attrs"].as_array().into_iter().flatten() {
        match attribute["type"].as_u64() {
            Some(2) => route.as_path = numbers(&attribute["as_paths"][0]["asns"]),
            Some(3 | 14) => {
                let next_hop = attribute["nexthop"].as_str().context("no next hop")?;
                route.next_hop = Some(next_hop.parse::<IpAddr>()?);
            }
            Some(4) => route.med = number(&attribute["metric"]),
            Some(5) => route.local_pref = number(&attribute["value"]),
            Some(8) => {
                let values = numbers(&attribute["communities"]);
                route
                    .communities
                    .extend(values.into_iter().map(Community::Standard));
            }
            Some(32) => {
                for value in attribute["value"].as_array().into_iter().flatten() {
                    let part = |key: &str| number(&value[key]).unwrap_or_default();
                    let large =
                        Community::Large(part("ASN"), part("LocalData1"), part("LocalData2"));
                    route.communities.insert(large);
                }
            }
            _ => {}
        }
    }
    Ok(route)
}
