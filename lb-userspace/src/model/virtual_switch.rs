//! Virtual switches: what they are, what the agent tells of them, and what it
//! is asked to change.
//!
//! The requests and answers are the JSON of the admin API; `plan::switch` decides them.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A switch made on one port or several.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VirtualSwitch {
    /// Its ports, in the order of the object.
    pub ports: Vec<SwitchPort>,
    /// What it is enabled for.
    pub enabled_for: Purposes,
    /// Made by `torline compute enable`, which may take it away again.
    pub is_managed: bool,
}

/// A port of a switch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SwitchPort {
    /// What the device calls it: `Port2`.
    pub alias: String,
    /// What the kernel calls it.
    pub interface: String,
}

/// What a switch is enabled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Purposes {
    /// Service traffic.
    pub compute: bool,
    /// Traffic between the nodes of a device.
    pub storage: bool,
    /// The device's own interfaces.
    pub management: bool,
}

impl Purposes {
    /// The words of the object for what holds.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (self.compute, "compute"),
            (self.storage, "storage"),
            (self.management, "mgmt"),
        ]
        .into_iter()
        .filter_map(|(holds, word)| holds.then_some(word))
    }
}

/// What people call the switch of an object: `vswitch1`, as object names are written, is `vSwitch1`.
pub fn shown_name(object: &str) -> String {
    match object.strip_prefix("vswitch") {
        Some(rest) => format!("vSwitch{rest}"),
        None => object.to_owned(),
    }
}

/// The switches of a node: the JSON of `GET /v1/vswitches`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SwitchesReport {
    /// Name of the node.
    pub node: String,
    /// The switches by name.
    pub switches: Vec<SwitchReport>,
}

/// A switch, as its node has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SwitchReport {
    /// Name, as people write it: `vSwitch1`.
    pub name: String,
    /// Its ports.
    pub ports: Vec<SwitchPort>,
    /// What it is enabled for.
    pub enabled_for: Purposes,
    /// Every port has virtual functions (SR-IOV).
    pub iov_enabled: bool,
    /// Every port could have some.
    pub accelerates: bool,
    /// UUID of the node's virtual interface on it.
    pub host_vnic: String,
    /// IPAddressPools that are labelled with it.
    pub pools: Vec<String>,
    /// Its BGP peers by address.
    pub peers: Vec<SwitchPeer>,
}

/// A BGP peer of a switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwitchPeer {
    /// The BGPPeer.
    pub object: String,
    /// Address.
    pub address: IpAddr,
    /// Its AS; absent where the peer says it.
    pub peer_asn: Option<u32>,
    /// Our AS.
    pub self_asn: u32,
    /// Hold time in force, as proposed; 0 is none.
    pub hold_time_seconds: u64,
    /// It may be several hops away.
    pub multi_hop: bool,
    /// State of the session; absent while there is none.
    pub state: Option<String>,
}

/// A change that somebody asks for: the JSON of `POST /v1/vswitches`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwitchRequest {
    /// What is to be done.
    #[serde(flatten)]
    pub change: SwitchChange,
    /// Only say what would be.
    #[serde(default)]
    pub what_if: bool,
}

/// What is to be done to a switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SwitchChange {
    /// Make a peer, or change it.
    SetPeer(PeerRequest),
    /// Remove a peer.
    RemovePeer {
        /// Name of the switch, in any case.
        switch: String,
        /// Address of the peer.
        address: IpAddr,
    },
    /// Enable a port for compute; the switch is made if there is none on it.
    EnableCompute {
        /// Alias of the port, in any case.
        port: String,
        /// What the kernel calls it, where the alias does not tell.
        interface: Option<String>,
    },
    /// Undo that.
    DisableCompute {
        /// Alias of the port, in any case.
        port: String,
    },
}

/// A peer as it is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerRequest {
    /// Name of the switch, in any case.
    pub switch: String,
    /// Address.
    pub address: IpAddr,
    /// Its AS.
    pub peer_asn: u32,
    /// Our AS.
    pub self_asn: u32,
    /// Hold time to propose in seconds; absent means the default.
    pub hold_time_seconds: Option<u16>,
    /// It may be several hops away.
    pub multi_hop: bool,
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SwitchAnswer {
    /// What was changed, or would be: `BGPPeer hcs-vswitch1-192.0.2.1 written`.
    pub done: Vec<String>,
    /// What the asker should know.
    pub warnings: Vec<SwitchWarning>,
}

/// What the asker should know of a change that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum SwitchWarning {
    /// The switch carries no Services.
    #[error(
        "{switch} is not enabled for compute; to enable it: torline compute enable --port {port}"
    )]
    NoCompute {
        /// The switch.
        switch: String,
        /// Its first port.
        port: String,
    },
    /// The change is written, but the agent has not read it.
    #[error("the change is written, but was not read back within {seconds} s; see torline status")]
    NotReadBack {
        /// How long it was waited for.
        seconds: u64,
    },
}

/// Why a change is refused; nothing was changed then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum SwitchRefusal {
    /// No AS number that a peer of a switch may have.
    #[error("{asn} is no ASN that can be used: want 1 to 65534, or 131072 to 4294967294")]
    Asn {
        /// The number.
        asn: u64,
        /// It is ours, not the peer's.
        is_self: bool,
    },
    /// No hold time of RFC 4271.
    #[error("a hold time of {seconds} seconds cannot be used: want 0 (none), or 3 to 65535")]
    HoldTime {
        /// The number.
        seconds: u64,
    },
    /// No address that a peer can have.
    #[error("{address} is no address of a peer: want a unicast address")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// There is no such switch.
    #[error("there is no virtual switch {switch}{}", listing(.known, "; there are: ", "; compute is enabled on no port"))]
    NoSwitch {
        /// What was asked for.
        switch: String,
        /// The names of those there are.
        known: Vec<String>,
    },
    /// The switch has no such peer.
    #[error("{switch} has no BGP peer {address}{}", listing(.known, "; it has: ", ""))]
    NoPeer {
        /// The switch.
        switch: String,
        /// The address.
        address: IpAddr,
        /// The addresses of those it has.
        known: Vec<String>,
    },
    /// The address is one of this node's.
    #[error(
        "{address} is an address of this device itself ({owner}); PeerAddress is the address of the router \
         that MetalLB should connect to, not that of the port that compute is enabled on"
    )]
    OwnAddress {
        /// The address.
        address: IpAddr,
        /// The interface or node that has it.
        owner: String,
    },
    /// Another BGPPeer has the address.
    #[error("{address} is a BGP peer already, {}; remove it there first", place(.switch.as_deref(), .object))]
    Taken {
        /// The address.
        address: IpAddr,
        /// The switch that has it, if one has.
        switch: Option<String>,
        /// The BGPPeer.
        object: String,
    },
    /// The peer is in none of the switch's networks.
    #[error("{address} is in no subnet of {switch}{}; check the address, or say that it is a router \
             several hops away: {{multi_hop}}", listing(.subnets, ", which has ", ", whose ports have no addresses"))]
    OutsideSubnets {
        /// The address.
        address: IpAddr,
        /// The switch.
        switch: String,
        /// The switch's networks.
        subnets: Vec<String>,
    },
    /// The port is on no switch, and what the kernel calls it is not known.
    #[error("{port} is the name of no interface here; say which it is: --interface IF")]
    NoPort {
        /// The alias.
        port: String,
    },
    /// The interface is on another switch under another alias.
    #[error("{interface} is {alias} of {switch} already")]
    InterfaceTaken {
        /// The interface.
        interface: String,
        /// Its alias.
        alias: String,
        /// The switch.
        switch: String,
    },
    /// The switch that would go has peers.
    #[error("{switch} has BGP peers: {}; remove them first", .peers.join(", "))]
    HasPeers {
        /// The switch.
        switch: String,
        /// The addresses of its peers.
        peers: Vec<String>,
    },
    /// The source cannot be changed.
    #[error("{message}")]
    Source {
        /// What keeps it from it.
        message: String,
    },
}

impl SwitchRefusal {
    /// The text, with what the option is called that the asker may use.
    pub fn describe(&self, multi_hop: &str) -> String {
        self.to_string().replace("{multi_hop}", multi_hop)
    }
}

/// The items after `intro`, or what to say of none.
fn listing(items: &[String], intro: &str, none: &str) -> String {
    if items.is_empty() {
        none.to_owned()
    } else {
        format!("{intro}{}", items.join(", "))
    }
}

fn place(switch: Option<&str>, object: &str) -> String {
    match switch {
        Some(switch) => format!("on {switch}"),
        None => format!("on no switch (BGPPeer {object})"),
    }
}

/// A change of an object in the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Make or change a BGPPeer.
    PutPeer {
        /// Its name.
        name: String,
        /// What the peer is to be; `switch` is the name that is shown.
        peer: PeerRequest,
        /// What the object says: not for peers within an AS.
        ebgp_multi_hop: bool,
    },
    /// Delete a BGPPeer.
    DeletePeer {
        /// Its name.
        name: String,
    },
    /// Make or change a BGPAdvertisement.
    PutAdvertisement {
        /// Its name.
        name: String,
        /// The switch, as shown.
        switch: String,
        /// BGPPeers it is for; never empty.
        peers: Vec<String>,
        /// It is about the pools labelled with the switch; else about all.
        of_switch: bool,
    },
    /// Delete a BGPAdvertisement.
    DeleteAdvertisement {
        /// Its name.
        name: String,
    },
    /// Make or change a VirtualSwitch.
    PutSwitch {
        /// Its name.
        name: String,
        /// What it is to be.
        switch: VirtualSwitch,
    },
    /// Delete a VirtualSwitch.
    DeleteSwitch {
        /// Its name.
        name: String,
    },
}

impl Edit {
    /// Kind and name of the object.
    pub fn object(&self) -> (&'static str, &str) {
        match self {
            Self::PutPeer { name, .. } | Self::DeletePeer { name } => ("BGPPeer", name),
            Self::PutAdvertisement { name, .. } | Self::DeleteAdvertisement { name } => {
                ("BGPAdvertisement", name)
            }
            Self::PutSwitch { name, .. } | Self::DeleteSwitch { name } => ("VirtualSwitch", name),
        }
    }

    /// Whether the object is to go.
    pub const fn is_deletion(&self) -> bool {
        matches!(
            self,
            Self::DeletePeer { .. } | Self::DeleteAdvertisement { .. } | Self::DeleteSwitch { .. }
        )
    }
}

impl std::fmt::Display for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = self.object();
        let what = if self.is_deletion() {
            "deleted"
        } else {
            "written"
        };
        write!(f, "{kind} {name} {what}")
    }
}

impl PeerRequest {
    /// Hold time to propose, if it is said.
    pub fn hold_time(&self) -> Option<Duration> {
        self.hold_time_seconds
            .map(|seconds| Duration::from_secs(seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_shown_by_the_name_that_people_write() {
        assert_eq!(shown_name("vswitch1"), "vSwitch1");
        assert_eq!(shown_name("uplink"), "uplink");
    }

    #[test]
    fn a_request_is_one_flat_object() {
        let request = SwitchRequest {
            change: SwitchChange::DisableCompute {
                port: "Port2".to_owned(),
            },
            what_if: true,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"change":"disable_compute","port":"Port2","what_if":true}"#
        );
        assert_eq!(
            serde_json::from_str::<SwitchRequest>(&text).unwrap(),
            request
        );
    }
}
