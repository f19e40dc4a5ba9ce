//! ExaBGP, told and asked through its API: commands in one file, events in JSON
//! in another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};
use serde_json::Value;

use super::daemon::{self, Daemon};
use super::{NeighborConfig, Reach, Route, Router, RouterConfig, Session, global, number};
use crate::netns::Netns;

/// What a wide AS number looks like to who does not know such (RFC 6793).
const AS_TRANS: u32 = 23456;

/// A running ExaBGP.
#[derive(Debug)]
pub struct ExaBgp {
    events: PathBuf,
    commands: PathBuf,
    _daemon: Daemon,
}

/// What the events so far add up to, for one neighbour.
#[derive(Debug, Default)]
struct Heard {
    is_established: bool,
    updates: u64,
    remark: String,
    routes: BTreeMap<IpNet, Route>,
}

impl ExaBgp {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(netns: &Netns, dir: &Path, config: &RouterConfig) -> Result<Self> {
        let path = |name: &str| dir.join(format!("exabgp.{name}"));
        let (file, api) = (path("conf"), path("api"));
        let (events, commands) = (path("events"), path("commands"));
        for it in [&events, &commands] {
            File::create(it)?;
        }
        // dd writes whatever comes as it comes.
        let script = format!(
            "#!/bin/sh\ntail --pid=$$ -n +1 -f {} &\nexec dd of={} bs=64k status=none\n",
            commands.display(),
            events.display()
        );
        fs::write(&api, script)?;
        fs::set_permissions(&api, Permissions::from_mode(0o700))?;
        fs::write(&file, text(config, &api))?;
        let mut command = Command::new("env");
        // The command line of its own talks through pipes in /run that all of them share.
        command.args([
            "exabgp.api.cli=false",
            "exabgp.api.ack=false",
            "exabgp.daemon.user=root",
        ]);
        command
            .args(["exabgp.log.destination=stdout", "exabgp"])
            .arg(&file);
        let mut daemon = Daemon::start(netns, dir, "exabgp", &mut command)?;
        daemon.await_ready(|| daemon::listens(netns, config))?;
        Ok(Self {
            events,
            commands,
            _daemon: daemon,
        })
    }

    fn heard(&self, neighbor: &NeighborConfig) -> Result<Heard> {
        let address = neighbor.address.to_string();
        let mut heard = Heard::default();
        for line in fs::read_to_string(&self.events)?.lines() {
            // Not all it writes is JSON, such as its events of type `refresh`.
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if event["neighbor"]["address"]["peer"] == address.as_str() {
                heard.take(&event)?;
            }
        }
        Ok(heard)
    }

    fn tell(&self, commands: &str) -> Result<()> {
        let mut file = File::options().append(true).open(&self.commands)?;
        Ok(file.write_all(commands.as_bytes())?)
    }
}

impl Heard {
    fn take(&mut self, event: &Value) -> Result<()> {
        let neighbor = &event["neighbor"];
        match event["type"].as_str() {
            Some("state") => {
                self.is_established = neighbor["state"] == "up";
                if !self.is_established {
                    self.routes.clear();
                }
                self.remark = format!("{} {}", neighbor["state"], neighbor["reason"]);
            }
            Some("notification") => {
                self.remark = neighbor["message"]["notification"].to_string();
            }
            Some("update") => self.update(&neighbor["message"]["update"])?,
            _ => {}
        }
        Ok(())
    }

    fn update(&mut self, update: &Value) -> Result<()> {
        self.updates += 1;
        for (_, prefixes) in update["withdraw"].as_object().into_iter().flatten() {
            for prefix in prefixes.as_array().into_iter().flatten() {
                self.routes.remove(&nlri(prefix)?);
            }
        }
        for (_, by_next_hop) in update["announce"].as_object().into_iter().flatten() {
            for (next_hop, prefixes) in by_next_hop.as_object().into_iter().flatten() {
                let next_hop = global([next_hop.parse::<IpAddr>()?]);
                let route = route(&update["attribute"], next_hop);
                for prefix in prefixes.as_array().into_iter().flatten() {
                    let known = self.routes.entry(nlri(prefix)?).or_default();
                    // Of two next hops the link-local one is told last.
                    let next_hop = next_hop.or(known.next_hop);
                    *known = Route {
                        next_hop,
                        ..route.clone()
                    };
                }
            }
        }
        Ok(())
    }
}

fn nlri(value: &Value) -> Result<IpNet> {
    let prefix = value["nlri"].as_str().context("no prefix")?;
    Ok(prefix.parse()?)
}

fn route(attributes: &Value, next_hop: Option<IpAddr>) -> Route {
    let numbers = |value: &Value| -> Vec<u32> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(number)
            .collect()
    };
    let mut route = Route {
        next_hop,
        as_path: numbers(&attributes["as-path"]),
        med: number(&attributes["med"]),
        local_pref: number(&attributes["local-preference"]),
        ..Route::default()
    };
    for kind in ["community", "large-community"] {
        for value in attributes[kind].as_array().into_iter().flatten() {
            match numbers(value).as_slice() {
                [high, low] => route
                    .communities
                    .insert(Community::Standard(high << 16 | low)),
                [admin, one, two] => route
                    .communities
                    .insert(Community::Large(*admin, *one, *two)),
                _ => false,
            };
        }
    }
    route
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4 unicast",
        Family::V6 => "ipv6 unicast",
    }
}

fn text(config: &RouterConfig, api: &Path) -> String {
    let mut text = format!("process api {{ run {}; encoder json; }}\n", api.display());
    for neighbor in &config.neighbors {
        // It looks for the wide number only where it speaks of such itself.
        let is_hidden = !neighbor.wide_asn && neighbor.asn > u16::MAX.into();
        let _ = write!(
            text,
            "neighbor {} {{
  router-id {};
  local-address {};
  local-as {};
  peer-as {};
  hold-time {};
  listen {};
  capability {{ asn4 {}; route-refresh enable; graceful-restart {}; }}
  api {{ processes [ api ]; neighbor-changes; receive {{ parsed; update; notification; }} }}
",
            neighbor.address,
            config.id,
            neighbor.local,
            neighbor.local_asn,
            if is_hidden { AS_TRANS } else { neighbor.asn },
            neighbor.hold_time,
            super::PORT,
            if neighbor.wide_asn {
                "enable"
            } else {
                "disable"
            },
            if neighbor.helps_restart {
                "120"
            } else {
                "disable"
            },
        );
        if !neighbor.dials {
            text += "  passive true;\n";
        }
        if let Some(password) = &neighbor.password {
            let _ = writeln!(text, "  md5-password \"{password}\";");
        }
        match neighbor.reach {
            Reach::Link => {}
            Reach::Proven => text += "  outgoing-ttl 255;\n  incoming-ttl 255;\n",
            Reach::Hops(hops) => {
                let _ = writeln!(text, "  outgoing-ttl {hops};");
            }
        }
        let families: Vec<_> = neighbor.families.iter().map(|it| word(*it)).collect();
        let _ = writeln!(text, "  family {{ {}; }}\n}}", families.join("; "));
    }
    text
}

impl Router for ExaBgp {
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session> {
        let heard = self.heard(neighbor)?;
        Ok(Session {
            is_established: heard.is_established,
            updates: heard.updates,
            remark: heard.remark,
        })
    }

    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        let mut routes = self.heard(neighbor)?.routes;
        routes.retain(|prefix, _| Family::of(prefix.addr()) == family);
        Ok(routes)
    }

    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()> {
        let mut commands = String::new();
        for family in &neighbor.families {
            let _ = writeln!(
                commands,
                "neighbor {} announce route-refresh {}",
                neighbor.address,
                word(*family)
            );
        }
        self.tell(&commands)
    }

    fn inject(&self, neighbor: &NeighborConfig, routes: &[(IpNet, IpAddr)]) -> Result<()> {
        let mut commands = String::new();
        for (prefix, next_hop) in routes {
            let _ = writeln!(
                commands,
                "neighbor {} announce route {prefix} next-hop {next_hop}",
                neighbor.address
            );
        }
        self.tell(&commands)
    }
}
