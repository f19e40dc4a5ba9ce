//! `torline vswitch`, `torline peer` and `torline compute`: virtual switches
//! and their BGP peers.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::{Args, Subcommand};
use serde_json::json;

use super::status::{lines, or_dash, table};
use super::{DEFAULT_SOCKET, Refused, ask, print, tell};
use crate::model::virtual_switch::{
    PeerRequest, SwitchAnswer, SwitchChange, SwitchPeer, SwitchRefusal, SwitchReport,
    SwitchRequest, SwitchesReport,
};
use crate::plan::switch::{check, check_asn};

/// Names another socket than the usual one.
const SOCKET_VARIABLE: &str = "TORLINE_SOCKET";

/// The agent's socket, where nobody says which.
pub(super) fn default_socket() -> PathBuf {
    env::var_os(SOCKET_VARIABLE).map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

#[derive(Args, Debug)]
pub(super) struct Output {
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    /// The agent's socket; TORLINE_SOCKET names another than /run/torline/torline.sock, too.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Output {
    fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(default_socket)
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Vswitch {
    /// List the virtual switches of this node.
    #[command(after_help = "Examples:\n  torline vswitch list\n  torline vswitch list --json")]
    List(Output),
    /// Show one of them.
    #[command(after_help = "Examples:\n  torline vswitch show vSwitch1")]
    Show {
        /// Its name, in any case.
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Peer {
    /// Make or change a BGP peer on a virtual switch.
    #[command(after_help = "Examples:
  torline peer set 10.126.77.125 --switch vSwitch1 --peer-asn 64512 --self-asn 64513 --hold-time 15
  torline peer set 10.126.77.125 --switch vSwitch1 --peer-asn 64512 --self-asn 64513 --dry-run")]
    Set(SetPeer),
    /// List the BGP peers of all virtual switches, or of one.
    #[command(after_help = "Examples:
  torline peer list
  torline peer list --switch vSwitch1 --json")]
    List {
        /// Name of the switch, in any case.
        #[arg(long, value_name = "NAME")]
        switch: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show a BGP peer of a virtual switch.
    #[command(after_help = "Examples:\n  torline peer show 10.126.77.125")]
    Show {
        /// Its address.
        address: IpAddr,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a BGP peer from a virtual switch; its session ends.
    #[command(after_help = "Examples:\n  torline peer remove 10.126.77.125 --switch vSwitch1")]
    Remove {
        /// Its address.
        address: IpAddr,
        /// Name of the switch, in any case.
        #[arg(long, value_name = "NAME")]
        switch: String,
        #[command(flatten)]
        trial: Trial,
    },
}

#[derive(Args, Debug)]
pub(super) struct SetPeer {
    /// Address of the router.
    address: IpAddr,
    /// Name of the switch, in any case.
    #[arg(long, value_name = "NAME")]
    switch: String,
    /// AS of the router: 1 to 65534, or 131072 to 4294967294.
    #[arg(long, value_name = "ASN", value_parser = |text: &str| parse_asn(text, false))]
    peer_asn: u32,
    /// Our AS, likewise.
    #[arg(long, value_name = "ASN", value_parser = |text: &str| parse_asn(text, true))]
    self_asn: u32,
    /// Hold time to propose: 0 for none, or 3 to 65535; 90 unless given.
    #[arg(long, value_name = "SECONDS")]
    hold_time: Option<u16>,
    /// The router is in no subnet of the switch, but several hops away.
    #[arg(long)]
    multi_hop: bool,
    #[command(flatten)]
    trial: Trial,
}

#[derive(Subcommand, Debug)]
pub(super) enum Compute {
    /// Enable a port for Services; a virtual switch is made if there is none on it.
    #[command(after_help = "Examples:
  torline compute enable --port Port2
  torline compute enable --port Port2 --interface eth1")]
    Enable {
        /// What the device calls the port, in any case.
        #[arg(long, value_name = "ALIAS")]
        port: String,
        /// What the kernel calls it, where no interface is called like the port.
        #[arg(long, value_name = "IF")]
        interface: Option<String>,
        #[command(flatten)]
        trial: Trial,
    },
    /// Undo that; a virtual switch that was made by it goes.
    #[command(after_help = "Examples:\n  torline compute disable --port Port2")]
    Disable {
        /// What the device calls the port, in any case.
        #[arg(long, value_name = "ALIAS")]
        port: String,
        #[command(flatten)]
        trial: Trial,
    },
}

#[derive(Args, Debug)]
pub(super) struct Trial {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

fn parse_asn(text: &str, is_self: bool) -> Result<u32, String> {
    // What is no number, or too large for any AS, is told the ranges too.
    let asn = text.parse().unwrap_or(u64::MAX);
    let asn = match check_asn(asn, is_self) {
        Ok(()) => u32::try_from(asn).ok(),
        Err(_) => None,
    };
    asn.ok_or_else(|| "want 1 to 65534, or 131072 to 4294967294".to_owned())
}

/// What the agent said to a change.
pub(super) enum Asked {
    /// It was made.
    Done(SwitchAnswer),
    /// It was not.
    Refused(SwitchRefusal),
}

/// Checks a change, and asks the agent to make it.
pub(super) fn change(socket: &Path, wanted: SwitchChange, what_if: bool) -> anyhow::Result<Asked> {
    if let Err(refusal) = check(&wanted) {
        return Ok(Asked::Refused(refusal));
    }
    let request = SwitchRequest {
        change: wanted,
        what_if,
    };
    Ok(match tell(socket, "/v1/vswitches", &request)? {
        Ok(answer) => Asked::Done(answer),
        Err(refusal) => Asked::Refused(refusal),
    })
}

/// What the agent says of the switches.
pub(super) fn report(socket: &Path) -> anyhow::Result<SwitchesReport> {
    ask(socket, "/v1/vswitches")
}

/// The switch of a name, in any case.
pub(super) fn find<'a>(
    report: &'a SwitchesReport,
    name: &str,
) -> Result<&'a SwitchReport, SwitchRefusal> {
    let mut switches = report.switches.iter();
    let found = switches.find(|switch| switch.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| SwitchRefusal::NoSwitch {
        switch: name.to_owned(),
        known: report.switches.iter().map(|it| it.name.clone()).collect(),
    })
}

fn refused(refusal: &SwitchRefusal) -> anyhow::Error {
    Refused(refusal.describe("--multi-hop")).into()
}

/// Runs `torline vswitch`.
pub(super) fn vswitch(command: &Vswitch) -> anyhow::Result<()> {
    match command {
        Vswitch::List(output) => {
            let report = report(&output.socket())?;
            print(&if output.json {
                serde_json::to_string(&report)? + "\n"
            } else {
                render_switches(&report)
            })
        }
        Vswitch::Show { name, output } => {
            let report = report(&output.socket())?;
            let switch = find(&report, name).map_err(|refusal| refused(&refusal))?;
            print(&if output.json {
                serde_json::to_string(switch)? + "\n"
            } else {
                render_switch(switch)
            })
        }
    }
}

/// Runs `torline peer`.
pub(super) fn peer(command: Peer) -> anyhow::Result<()> {
    match command {
        Peer::Set(set) => {
            let request = PeerRequest {
                switch: set.switch,
                address: set.address,
                peer_asn: set.peer_asn,
                self_asn: set.self_asn,
                hold_time_seconds: set.hold_time,
                multi_hop: set.multi_hop,
            };
            attempt(SwitchChange::SetPeer(request), &set.trial)
        }
        Peer::Remove {
            address,
            switch,
            trial,
        } => attempt(SwitchChange::RemovePeer { switch, address }, &trial),
        Peer::List { switch, output } => {
            let report = report(&output.socket())?;
            let switches = match &switch {
                Some(name) => {
                    std::slice::from_ref(find(&report, name).map_err(|refusal| refused(&refusal))?)
                }
                None => &report.switches,
            };
            let peers = peers(switches);
            print(&if output.json {
                let peers: Vec<_> = peers
                    .iter()
                    .map(|(name, peer)| as_json(name, peer))
                    .collect();
                serde_json::to_string(&peers)? + "\n"
            } else {
                render_peers(&peers)
            })
        }
        Peer::Show { address, output } => {
            let report = report(&output.socket())?;
            let peers = peers(&report.switches);
            let found = peers.iter().find(|(_, peer)| peer.address == address);
            let Some((switch, peer)) = found else {
                return Err(Refused(format!("no virtual switch has a BGP peer {address}")).into());
            };
            print(&if output.json {
                as_json(switch, peer).to_string() + "\n"
            } else {
                render_peer(switch, peer)
            })
        }
    }
}

/// Runs `torline compute`.
pub(super) fn compute(command: Compute) -> anyhow::Result<()> {
    match command {
        Compute::Enable {
            port,
            interface,
            trial,
        } => attempt(SwitchChange::EnableCompute { port, interface }, &trial),
        Compute::Disable { port, trial } => attempt(SwitchChange::DisableCompute { port }, &trial),
    }
}

fn attempt(wanted: SwitchChange, trial: &Trial) -> anyhow::Result<()> {
    let answer = match change(&trial.output.socket(), wanted, trial.dry_run)? {
        Asked::Done(answer) => answer,
        Asked::Refused(refusal) => return Err(refused(&refusal)),
    };
    if trial.output.json {
        return print(&(serde_json::to_string(&answer)? + "\n"));
    }
    for warning in &answer.warnings {
        use std::io::Write as _;
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "torline: warning: {warning}");
    }
    let would = if trial.dry_run { "would be: " } else { "" };
    let lines = answer.done.iter().map(|done| format!("{would}{done}\n"));
    let lines: String = lines.collect();
    print(if lines.is_empty() {
        "nothing to do\n"
    } else {
        &lines
    })
}

fn peers(switches: &[SwitchReport]) -> Vec<(&str, &SwitchPeer)> {
    let of_switch = |switch: &'_ SwitchReport| switch.peers.len();
    let mut all = Vec::with_capacity(switches.iter().map(of_switch).sum());
    for switch in switches {
        all.extend(switch.peers.iter().map(|peer| (switch.name.as_str(), peer)));
    }
    all
}

fn as_json(switch: &str, peer: &SwitchPeer) -> serde_json::Value {
    let mut value = json!(peer);
    value["switch"] = json!(switch);
    value
}

fn render_switches(report: &SwitchesReport) -> String {
    if report.switches.is_empty() {
        return "no virtual switches: compute is enabled on no port\n".to_owned();
    }
    let mut table = table(["SWITCH", "PORTS", "ENABLED FOR", "POOLS", "PEERS"]);
    for switch in &report.switches {
        let ports = switch.ports.iter();
        let ports = ports.map(|port| format!("{} ({})", port.alias, port.interface));
        let words: Vec<_> = switch.enabled_for.words().collect();
        table.add_row([
            switch.name.clone(),
            ports.collect::<Vec<_>>().join(", "),
            or_dash(&words.join(", ")),
            or_dash(&switch.pools.join(", ")),
            switch.peers.len().to_string(),
        ]);
    }
    lines(&table, "")
}

fn render_switch(switch: &SwitchReport) -> String {
    let yes = |truth| if truth { "yes" } else { "no" };
    let mut text = format!("{}\n", switch.name);
    let words: Vec<_> = switch.enabled_for.words().collect();
    // Writing to a string cannot fail.
    for port in &switch.ports {
        let _ = writeln!(text, "  port         {} ({})", port.alias, port.interface);
    }
    let _ = writeln!(text, "  enabled for  {}", or_dash(&words.join(", ")));
    let _ = writeln!(text, "  pools        {}", or_dash(&switch.pools.join(", ")));
    let _ = writeln!(
        text,
        "  SR-IOV       {} (possible: {})",
        yes(switch.iov_enabled),
        yes(switch.accelerates)
    );
    let _ = writeln!(text, "  host vNIC    {}", switch.host_vnic);
    let peers: Vec<_> = switch
        .peers
        .iter()
        .map(|peer| (switch.name.as_str(), peer))
        .collect();
    if !peers.is_empty() {
        let _ = write!(text, "\n{}", render_peers(&peers));
    }
    text
}

fn render_peers(peers: &[(&str, &SwitchPeer)]) -> String {
    if peers.is_empty() {
        return "no BGP peers on virtual switches\n".to_owned();
    }
    let mut table = table(["ADDRESS", "SWITCH", "PEER AS", "OUR AS", "HOLD", "STATE"]);
    for (switch, peer) in peers {
        table.add_row([
            peer.address.to_string(),
            (*switch).to_owned(),
            or_dash(&peer.peer_asn.map(|asn| asn.to_string()).unwrap_or_default()),
            peer.self_asn.to_string(),
            format!("{}s", peer.hold_time_seconds),
            or_dash(peer.state.as_deref().unwrap_or_default()),
        ]);
    }
    lines(&table, "")
}

fn render_peer(switch: &str, peer: &SwitchPeer) -> String {
    let asn = peer.peer_asn.map(|asn| asn.to_string()).unwrap_or_default();
    format!(
        "{}\n  switch      {switch}\n  peer AS     {}\n  our AS      {}\n  hold time   {}s\n  \
         multi-hop   {}\n  state       {}\n  BGPPeer     {}\n",
        peer.address,
        or_dash(&asn),
        peer.self_asn,
        peer.hold_time_seconds,
        if peer.multi_hop { "yes" } else { "no" },
        or_dash(peer.state.as_deref().unwrap_or_default()),
        peer.object,
    )
}
