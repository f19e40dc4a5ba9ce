//! Which cmdlets there are, and what they take.

/// A cmdlet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cmdlet {
    /// Lists the virtual switches.
    GetExternalVirtualSwitch,
    /// Makes or changes a BGP peer.
    SetBgpPeer,
    /// Lists the BGP peers of a switch.
    GetBgpPeers,
    /// Removes a BGP peer.
    RemoveBgpPeer,
}

/// A parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// Its name, without the dash.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// It has to be given.
    pub is_mandatory: bool,
    /// What it is for.
    pub description: &'static str,
}

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Nothing, or a truth value after a colon.
    Nothing,
    /// Text.
    Text,
    /// An address.
    Address,
    /// An AS number.
    Asn,
    /// Seconds.
    Seconds,
}

impl Takes {
    /// The type, as PowerShell calls it; nothing for a switch.
    pub const fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Text => Some("String"),
            Self::Address => Some("IPAddress"),
            Self::Asn => Some("UInt32"),
            Self::Seconds => Some("UInt16"),
        }
    }
}

/// Address of the peer.
pub const PEER_ADDRESS: &str = "PeerAddress";
/// AS of the peer.
pub const PEER_ASN: &str = "PeerAsn";
/// AS of this side.
pub const SELF_ASN: &str = "SelfAsn";
/// The switch.
pub const SWITCH_NAME: &str = "SwitchName";
/// Hold time.
pub const HOLD_TIME: &str = "HoldTimeInSeconds";
/// The peer is not in a subnet of the switch.
pub const MULTI_HOP: &str = "MultiHop";
/// Output as JSON.
pub const AS_JSON: &str = "AsJson";
/// Only say what would be done.
pub const WHAT_IF: &str = "WhatIf";
/// Say what is done.
pub const VERBOSE: &str = "Verbose";

const fn mandatory(name: &'static str, takes: Takes, description: &'static str) -> Parameter {
    Parameter {
        name,
        takes,
        is_mandatory: true,
        description,
    }
}

const fn optional(name: &'static str, takes: Takes, description: &'static str) -> Parameter {
    Parameter {
        name,
        takes,
        is_mandatory: false,
        description,
    }
}

const ADDRESS: Parameter = mandatory(
    PEER_ADDRESS,
    Takes::Address,
    "Address of the router that MetalLB connects to. It is not the address of the port that compute is \
     enabled on, but one in the same subnet.",
);
const SWITCH: Parameter = mandatory(
    SWITCH_NAME,
    Takes::Text,
    "Name of the virtual switch, as Get-HcsExternalVirtualSwitch shows it.",
);
const JSON: Parameter = optional(AS_JSON, Takes::Nothing, "Print JSON instead.");
const SAY: Parameter = optional(VERBOSE, Takes::Nothing, "Say what is done.");
const TRY: Parameter = optional(
    WHAT_IF,
    Takes::Nothing,
    "Only say what would be done; nothing is changed.",
);

const SET: [Parameter; 8] = [
    ADDRESS,
    mandatory(
        PEER_ASN,
        Takes::Asn,
        "AS number of the router: 1 to 65534, or 131072 to 4294967294.",
    ),
    mandatory(
        SELF_ASN,
        Takes::Asn,
        "AS number of MetalLB: 1 to 65534, or 131072 to 4294967294.",
    ),
    SWITCH,
    optional(
        HOLD_TIME,
        Takes::Seconds,
        "Hold time to propose: 0 for none, or 3 to 65535. 90 unless given.",
    ),
    optional(
        MULTI_HOP,
        Takes::Nothing,
        "The router is in no subnet of the switch, but several hops away.",
    ),
    TRY,
    SAY,
];

impl Cmdlet {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::GetExternalVirtualSwitch,
        Self::SetBgpPeer,
        Self::GetBgpPeers,
        Self::RemoveBgpPeer,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetExternalVirtualSwitch => "Get-HcsExternalVirtualSwitch",
            Self::SetBgpPeer => "Set-HcsBGPPeer",
            Self::GetBgpPeers => "Get-HcsBGPPeers",
            Self::RemoveBgpPeer => "Remove-HcsBGPPeer",
        }
    }

    /// The cmdlet of a name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|cmdlet| cmdlet.name().eq_ignore_ascii_case(name))
    }

    /// What it does, in a sentence.
    pub const fn synopsis(self) -> &'static str {
        match self {
            Self::GetExternalVirtualSwitch => "Lists the external virtual switches of this device.",
            Self::SetBgpPeer => "Makes or changes a BGP peer on a virtual switch.",
            Self::GetBgpPeers => "Lists the BGP peers of a virtual switch.",
            Self::RemoveBgpPeer => "Removes a BGP peer from a virtual switch; its session ends.",
        }
    }

    /// What it takes.
    pub const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::GetExternalVirtualSwitch => &[JSON, SAY],
            Self::SetBgpPeer => &SET,
            Self::GetBgpPeers => &[SWITCH, JSON, SAY],
            Self::RemoveBgpPeer => &[ADDRESS, SWITCH, TRY, SAY],
        }
    }

    /// A line to type.
    pub const fn example(self) -> &'static str {
        match self {
            Self::GetExternalVirtualSwitch => "Get-HcsExternalVirtualSwitch",
            Self::SetBgpPeer => {
                "Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 \
                 -SwitchName vSwitch1 -HoldTimeInSeconds 15"
            }
            Self::GetBgpPeers => "Get-HcsBGPPeers -SwitchName vSwitch1",
            Self::RemoveBgpPeer => {
                "Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmdlets_are_found_by_name_in_any_case() {
        for cmdlet in Cmdlet::ALL {
            assert_eq!(Cmdlet::by_name(&cmdlet.name().to_lowercase()), Some(cmdlet));
        }
        assert_eq!(Cmdlet::by_name("Get-HcsBGPPeer"), None);
    }
}
