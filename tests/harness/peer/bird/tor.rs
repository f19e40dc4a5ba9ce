//! BIRD 2 behind the trait of all makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};

use super::Bird;
use crate::netns::Netns;
use crate::peer::{NeighborConfig, Reach, Route, Router, RouterConfig, Session, daemon};
use crate::wait;

/// A running BIRD with a protocol for every neighbour.
#[derive(Debug)]
pub struct Tor(Bird);

impl Tor {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(netns: &Netns, dir: &Path, config: &RouterConfig) -> Result<Self> {
        let bird = Bird::start(netns, dir, &text(config))?;
        let limit = std::time::Duration::from_secs(5);
        wait::until("its sockets", limit, || daemon::listens(netns, config))?;
        Ok(Self(bird))
    }
}

/// The protocol of a neighbour; names begin with a letter.
fn name(neighbor: &NeighborConfig) -> String {
    format!("n{}", neighbor.address).replace(['.', ':'], "_")
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

const fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "master4",
        Family::V6 => "master6",
    }
}

fn text(config: &RouterConfig) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{}}\n",
        config.id
    );
    for neighbor in &config.neighbors {
        // It parses no number that it then could not speak of.
        let who = match neighbor.wide_asn {
            true => format!("as {}", neighbor.asn),
            false => "external".to_owned(),
        };
        let _ = write!(
            text,
            "protocol bgp {} {{
  local {} as {};
  neighbor {} {};
  hold time {};
  passive {};
  connect delay time 1; connect retry time 1; error wait time 1, 1;
  enable as4 {};
  graceful restart {};
",
            name(neighbor),
            neighbor.local,
            neighbor.local_asn,
            neighbor.address,
            who,
            neighbor.hold_time,
            on(!neighbor.dials),
            on(neighbor.wide_asn),
            if neighbor.helps_restart {
                "aware"
            } else {
                "off"
            },
        );
        if let Some(password) = &neighbor.password {
            let _ = writeln!(text, "  password \"{password}\";");
        }
        match neighbor.reach {
            Reach::Link => text += "  direct;\n",
            Reach::Proven => text += "  direct; ttl security on;\n",
            Reach::Hops(hops) => {
                let _ = writeln!(text, "  multihop {hops};");
            }
        }
        let export = if neighbor.is_told { "all" } else { "none" };
        for family in &neighbor.families {
            let _ = writeln!(
                text,
                "  {} {{ import all; export {export}; }};",
                word(*family)
            );
        }
        text += "}\n";
    }
    text
}

const fn on(it: bool) -> &'static str {
    if it { "on" } else { "off" }
}

impl Router for Tor {
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session> {
        let shown = self.0.show(&format!("protocols all {}", name(neighbor)))?;
        let field = |key: &str| {
            let mut lines = shown.lines().map(str::trim);
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        // Received, rejected, filtered, ignored, accepted; one line a family.
        let imports = shown
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Import updates:"));
        let received =
            imports.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(Session {
            is_established: field("BGP state:") == Some("Established"),
            updates: received.sum(),
            remark: [field("BGP state:"), field("Last error:")]
                .map(Option::unwrap_or_default)
                .join(" "),
        })
    }

    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        let (table, name) = (table(family), name(neighbor));
        let shown = self
            .0
            .show(&format!("route all table {table} protocol {name}"))?;
        let mut routes = BTreeMap::new();
        let mut prefix = None;
        for line in shown.lines() {
            // `PREFIX unicast [protocol since] …`, or the same without the prefix for another path.
            let head = line
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<IpNet>().ok());
            if let Some(head) = head.filter(|_| !line.starts_with(char::is_whitespace)) {
                prefix = Some(head);
                routes.insert(head, Route::default());
            } else if let Some(route) = prefix.and_then(|prefix| routes.get_mut(&prefix)) {
                attribute(route, line.trim()).with_context(|| line.to_owned())?;
            }
        }
        Ok(routes)
    }

    fn route_count(&self, neighbor: &NeighborConfig, family: Family) -> Result<usize> {
        let (table, name) = (table(family), name(neighbor));
        let shown = self
            .0
            .show(&format!("route count table {table} protocol {name}"))?;
        let mut lines = shown.lines();
        let line = lines.find(|line| line.contains(" routes for "));
        let count = line.and_then(|line| line.split_whitespace().next());
        Ok(count.with_context(|| shown.clone())?.parse()?)
    }

    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()> {
        let command = format!("reload in {}", name(neighbor));
        self.0.command(&command).map(drop)
    }
}

/// Takes a line such as `BGP.as_path: 65002`.
fn attribute(route: &mut Route, line: &str) -> Result<()> {
    let Some((key, value)) = line.split_once(':') else {
        return Ok(());
    };
    let value = value.trim();
    match key {
        "BGP.as_path" => {
            let path = value.split_whitespace().map(str::parse);
            route.as_path = path.collect::<Result<_, _>>()?;
        }
        "BGP.next_hop" => {
            let addresses = value.split_whitespace().map(str::parse);
            route.next_hop = crate::peer::global(addresses.collect::<Result<Vec<_>, _>>()?);
        }
        "BGP.med" => route.med = Some(value.parse()?),
        "BGP.local_pref" => route.local_pref = Some(value.parse()?),
        "BGP.community" | "BGP.large_community" => route.communities.extend(groups(value)?),
        _ => {}
    }
    Ok(())
}

/// Reads `(65002,7) (65535,65281)` and `(65002, 1, 2)`.
fn groups(text: &str) -> Result<BTreeSet<Community>> {
    let groups = text
        .split(')')
        .map(|group| group.trim().trim_start_matches('('));
    groups
        .filter(|group| !group.is_empty())
        .map(|group| crate::peer::community(&group.replace(", ", ":").replace(',', ":")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_in_parentheses_are_communities() {
        let read = groups("(65002,7) (65535,65281)").unwrap();
        assert_eq!(
            read,
            BTreeSet::from([
                Community::Standard(65002 << 16 | 7),
                Community::Standard(0xffff_ff01)
            ])
        );
        assert_eq!(
            groups("(4200000000, 3, 4)").unwrap(),
            BTreeSet::from([Community::Large(4_200_000_000, 3, 4)])
        );
    }
}
