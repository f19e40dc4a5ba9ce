//! Annotations: MetalLB's, and the table of Torline's own.

use ipnet::IpNet;
use lb_common::addr::Mac;

use super::Problems;
use crate::k8s::object::Kind;
use crate::model::cluster::{Labels, Placement};
use crate::model::peer_options::{Connect, PeerRole, RestartProfile};

/// Prefix of Torline's annotations.
pub const PREFIX: &str = "torline.io/";

/// One of Torline's annotations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Annotation {
    /// Kind of object it is for.
    pub kind: Kind,
    /// Name after the prefix.
    pub name: &'static str,
    /// What it may say.
    pub value: Syntax,
    /// What it does, for the reference.
    pub description: &'static str,
    /// Whether this version acts on it.
    pub effective: bool,
}

/// What an annotation may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syntax {
    /// A MAC address.
    Mac,
    /// A whole number between these, inclusive.
    Number(u32, u32),
    /// A power of two between these, inclusive.
    PowerOfTwo(u32, u32),
    /// An IP prefix.
    Network,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// All of Torline's annotations.
pub const TABLE: [Annotation; 20] = [
    Annotation {
        kind: Kind::Node,
        name: "mac",
        value: Syntax::Mac,
        description: "MAC address of the node's compute port, where neighbour discovery is not to \
                      be relied on.",
        effective: true,
    },
    Annotation {
        kind: Kind::Node,
        name: "weight",
        value: Syntax::Number(1, 100),
        description: "Share of new connections that the node's pods get, relative to others.",
        effective: true,
    },
    Annotation {
        kind: Kind::Node,
        name: "drain",
        value: Syntax::Word(&["true", "false"]),
        description: "Whether the node's BGP routes are to go away: with GRACEFUL_SHUTDOWN first, \
                      then altogether.",
        effective: true,
    },
    Annotation {
        kind: Kind::Service,
        name: "table-length",
        value: Syntax::PowerOfTwo(1, 65_536),
        description: "Number of slots of the Service's tables, equal on every node.",
        effective: true,
    },
    Annotation {
        kind: Kind::Service,
        name: "unserved-ports",
        value: Syntax::Word(&["reject", "drop"]),
        description: "What happens to packets for a port that nobody serves.",
        effective: false,
    },
    Annotation {
        kind: Kind::Service,
        name: "forwarding",
        value: Syntax::Word(&["l2", "geneve"]),
        description: "How packets get to the node of the chosen pod: over the segment and not beyond \
                      it, or through tunnels. Without it, nodes that share a segment use it.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "bfd-strict",
        value: Syntax::Word(&["true", "false"]),
        description: "Whether the session waits until BFD is up.",
        effective: true,
    },
    Annotation {
        kind: Kind::L2Advertisement,
        name: "placement",
        value: Syntax::Word(Placement::WORDS),
        description: "Which node answers for an address: `sticky` leaves it where it is as long as that \
                      node can have it, `balanced` gives every node as many as any other. Without it, \
                      the order of MetalLB.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "restart-profile",
        value: Syntax::Word(RestartProfile::WORDS),
        description: "How long the peer is asked to keep our routes while the agent restarts: \
                      `graceful` 120 s, for peers with BFD; `brief` 15 s and then 300 s as a last \
                      resort; `last-resort` 300 s as a last resort only.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "connect",
        value: Syntax::Word(Connect::WORDS),
        description: "Who makes the connection: this node, the peer, or whoever is first.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "listen-port",
        value: Syntax::Number(1, 65_535),
        description: "Where connections from the peer are accepted; 179 unless given.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "ttl-security",
        value: Syntax::Number(1, 254),
        description: "Most hops to the peer: packets from farther off are dropped (RFC 5082).",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "role",
        value: Syntax::Word(PeerRole::WORDS),
        description: "What this node is to the peer (RFC 9234).",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "drain-wait",
        value: Syntax::Number(0, 3_600),
        description: "Seconds between GRACEFUL_SHUTDOWN and withdrawal on a drain; 5 unless given.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "listen-range",
        value: Syntax::Network,
        description: "In place of spec.peerAddress: the peers are whoever connects from this prefix, each \
                      with a session of its own.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "listen-limit",
        value: Syntax::Number(1, 1_000),
        description: "How many peers of a listen-range there may be at a time; 100 unless given.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpPeer,
        name: "delay-open",
        value: Syntax::Number(1, 240),
        description: "Seconds that a new connection waits for the peer's OPEN before ours is sent \
                      (DelayOpen of RFC 4271).",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpAdvertisement,
        name: "med",
        value: Syntax::Number(0, u32::MAX),
        description: "MULTI_EXIT_DISC of the routes.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpAdvertisement,
        name: "prepend",
        value: Syntax::Number(1, 32),
        description: "How often our AS stands in AS_PATH beyond once, to external peers.",
        effective: true,
    },
    Annotation {
        kind: Kind::BgpAdvertisement,
        name: "link-bandwidth",
        value: Syntax::Number(1, u32::MAX),
        description: "Bytes a second behind each endpoint: with externalTrafficPolicy Local, routers \
                      that weigh paths by the link bandwidth community (RFC 10005) then spread by \
                      endpoints and not by nodes.",
        effective: true,
    },
];

impl Syntax {
    /// Whether it may say this.
    pub fn accepts(self, text: &str) -> bool {
        let number = || text.parse::<u32>().ok();
        match self {
            Self::Mac => text.parse::<Mac>().is_ok(),
            Self::Number(low, high) => number().is_some_and(|n| (low..=high).contains(&n)),
            Self::PowerOfTwo(low, high) => {
                number().is_some_and(|n| n.is_power_of_two() && (low..=high).contains(&n))
            }
            Self::Network => text.parse::<IpNet>().is_ok(),
            Self::Word(words) => words.contains(&text),
        }
    }
}

impl std::fmt::Display for Syntax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mac => f.write_str("a MAC address like 02:00:5e:10:00:01"),
            Self::Number(low, high) => write!(f, "a number from {low} to {high}"),
            Self::PowerOfTwo(low, high) => write!(f, "a power of two from {low} to {high}"),
            Self::Network => f.write_str("a prefix like 192.0.2.0/24"),
            Self::Word(words) => f.write_str(&words.join(" or ")),
        }
    }
}

/// Notes annotations of ours that nobody knows, that say something wrong, or that have no effect.
pub(super) fn check(kind: Kind, annotations: &Labels, problems: &mut Problems) {
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let field = format!("metadata.annotations[{key}]");
        match TABLE.iter().find(|a| a.kind == kind && a.name == name) {
            None => {
                let known: Vec<_> = TABLE
                    .iter()
                    .filter(|a| a.kind == kind)
                    .map(|a| format!("{PREFIX}{}", a.name))
                    .collect();
                let known = if known.is_empty() {
                    format!("a {kind} has none")
                } else {
                    format!("a {kind} may have {}", known.join(", "))
                };
                problems.note(field, format!("unknown annotation; {known}"));
            }
            Some(annotation) if !annotation.value.accepts(value) => {
                problems.note(field, format!("ignored: want {}", annotation.value));
            }
            Some(annotation) if !annotation.effective => {
                problems.note(field, "has no effect in this version");
            }
            Some(_) => {}
        }
    }
}

/// The value of an annotation of ours that says nothing wrong.
pub(super) fn ours<'a>(kind: Kind, name: &str, annotations: &'a Labels) -> Option<&'a str> {
    let annotation = TABLE.iter().find(|a| a.kind == kind && a.name == name)?;
    let value = annotations.get(&format!("{PREFIX}{name}"))?;
    annotation.value.accepts(value).then_some(value)
}

/// The value of an annotation of MetalLB's; the present prefix wins over the old one.
pub(super) fn metallb<'a>(name: &str, annotations: &'a Labels) -> Option<&'a str> {
    ["metallb.io", "metallb.universe.tf"]
        .iter()
        .find_map(|prefix| annotations.get(&format!("{prefix}/{name}")))
        .map(String::as_str)
}

#[cfg(test)]
mod reference;
