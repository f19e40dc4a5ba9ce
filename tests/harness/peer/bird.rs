//! BIRD 2 as the top-of-rack router: takes routes from every node, spreads
//! traffic over equal ones. [`Tor`] is the same behind the trait of all makes.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns::Netns;
use crate::process::Process;
use crate::wait;

mod tor;

pub use tor::Tor;

/// The AS of a router that [`tor_config`] describes.
pub const TOR_ASN: u32 = 64512;
/// The AS of its neighbours.
pub const NODE_ASN: u32 = 64513;
/// The hold time it asks for: the shortest the protocol allows.
pub const HOLD_TIME: Duration = Duration::from_secs(3);

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    control: PathBuf,
}

/// A session of the router's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Name of the protocol in the configuration.
    pub name: String,
    /// `Established`, `Active`, …; empty while the protocol has nothing to say.
    pub state: String,
}

/// A neighbour of the router's.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// Name of the protocol; letters, digits and underscores.
    pub name: String,
    /// The router's address.
    pub local: IpAddr,
    /// The neighbour's address.
    pub remote: IpAddr,
}

impl Bird {
    /// Starts BIRD in a namespace; its files go to `dir`.
    ///
    /// # Errors
    /// When BIRD is not installed, refuses the configuration, or does not answer within five seconds.
    pub fn start(netns: &Netns, dir: &Path, config: &str) -> Result<Self> {
        let (file, control) = (dir.join("bird.conf"), dir.join("bird.ctl"));
        fs::write(&file, config)?;
        let mut command = Command::new("bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&control);
        command.arg("-P").arg(dir.join("bird.pid"));
        let log = dir.join("bird.log");
        let mut bird = Self {
            process: Process::start(netns, &mut command, &log)?,
            control,
        };
        wait::until("BIRD", Duration::from_secs(5), || {
            if bird.process.ended()?.is_some() {
                bail!("BIRD ended: {}", fs::read_to_string(&log)?);
            }
            bird.show("status")
        })?;
        Ok(bird)
    }

    /// What `show …` prints.
    ///
    /// # Errors
    /// When BIRD does not answer or does not understand.
    pub fn show(&self, what: &str) -> Result<String> {
        let mut command = Command::new("birdc");
        command
            .arg("-r")
            .arg("-s")
            .arg(&self.control)
            .arg("show")
            .args(what.split(' '));
        let output = command.output().context("start birdc")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || text.contains("syntax error") {
            bail!(
                "birdc show {what}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(text)
    }

    /// Does something else than showing, such as `reload in …`.
    ///
    /// # Errors
    /// When BIRD does not answer or does not understand.
    pub fn command(&self, command: &str) -> Result<String> {
        let mut birdc = Command::new("birdc");
        birdc.arg("-s").arg(&self.control).args(command.split(' '));
        super::output(&mut birdc)
    }

    /// The state of every BGP session, by name.
    ///
    /// # Errors
    /// When BIRD does not answer.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        // Columns: name, protocol, table, state, since, info.
        let text = self.show("protocols")?;
        let rows = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let bgp = rows.filter(|row| row.get(1) == Some(&"BGP"));
        let mut sessions: Vec<_> = bgp
            .map(|row| Session {
                name: row.first().copied().unwrap_or_default().to_owned(),
                state: row.get(5).copied().unwrap_or_default().to_owned(),
            })
            .collect();
        sessions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sessions)
    }

    /// Lets it run on when this process ends.
    pub fn keep(self) {
        self.process.keep();
    }
}

/// A router with the neighbours that puts equal routes side by side into the kernel.
pub fn tor_config(router_id: &str, neighbors: &[Neighbor]) -> String {
    let hold = HOLD_TIME.as_secs();
    let mut config = format!(
        "log stderr all;
router id {router_id};
debug protocols {{ states, events }};
protocol device {{}}
protocol kernel kernel4 {{ merge paths on; ipv4 {{ import none; export all; }}; }}
protocol kernel kernel6 {{ merge paths on; ipv6 {{ import none; export all; }}; }}
template bgp node {{
  local as {TOR_ASN};
  passive yes;
  hold time {hold};
  error wait time 1, 3;
}}
"
    );
    for Neighbor {
        name,
        local,
        remote,
    } in neighbors
    {
        let channel = if remote.is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = writeln!(
            config,
            "protocol bgp {name} from node {{
  local {local};
  neighbor {remote} as {NODE_ASN};
  {channel} {{ import all; export none; }};
}}"
        );
    }
    config
}
