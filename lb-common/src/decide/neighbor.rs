//! ARP and neighbour discovery for the VIPs that this node answers for.
//!
//! It does so as long as its agent lives, or has not been away for too long.

use crate::addr::{Be16, Be32};
use crate::decide::{FamilyTables, Packet, Reply, ReplyKind, Tables, Verdict, is_fenced, own_mac};
use crate::family::{V4, V6, Version};
use crate::frame::Frame;
use crate::maps::{Config, MacKey, vip_flags};
use crate::wire::eth::{self, EthHeader};
use crate::wire::tcp::TcpHeader;
use crate::wire::{arp, ipv6, ndp};

/// Where answers to duplicate address probes go: the group address of `ff02::1`.
const ALL_NODES: MacKey = MacKey {
    head: Be32::new(0x3333_0000),
    tail: Be16::new(1),
    zero: 0,
};

/// Answers an ARP request, a probe (RFC 5227) too.
#[inline(always)]
pub(super) fn answer_arp<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    config: &Config,
    ethernet: &EthHeader,
) -> Verdict {
    let mac = own_mac(config);
    if ethernet.destination != eth::BROADCAST && ethernet.destination != mac {
        return Verdict::Pass;
    }
    let Some(request) = arp::Request::read(frame, ethernet.payload) else {
        return Verdict::Pass;
    };
    // A request for one's own address is an announcement, not a question.
    if request.sender_address == request.target_address || eth::is_group(&ethernet.source) {
        return Verdict::Pass;
    }
    match FamilyTables::<V4>::vip(tables, &request.target_address) {
        Some(vip) if vip.flags & vip_flags::ANSWER_NEIGHBORS != 0 && !is_fenced(config, tables) => {
            Verdict::Reply(Reply {
                destination: ethernet.source,
                source: mac,
                network: ethernet.payload,
                version: Version::V4,
                transport: 0,
                kind: ReplyKind::Arp,
                segment: TcpHeader::default(),
                mtu: 0,
            })
        }
        _ => Verdict::Pass,
    }
}

impl<F: Frame + ?Sized, T: Tables> Packet<'_, F, T, V6> {
    /// The answer to a neighbour solicitation; `None` if it is none, or not for us to answer.
    #[inline(always)]
    pub(super) fn answer_solicitation(&self) -> Option<Verdict> {
        let destination = &self.ethernet.destination;
        if !eth::is_group(destination) && *destination != self.own_mac() {
            return None;
        }
        let target = ndp::read_solicitation(self.frame, &self.header)?;
        if self.header.exceeds(self.frame.length()) || eth::is_group(&self.ethernet.source) {
            return None;
        }
        let vip = FamilyTables::<V6>::vip(self.tables, &target)?;
        if vip.flags & vip_flags::ANSWER_NEIGHBORS == 0 || is_fenced(self.config, self.tables) {
            return None;
        }
        let probe = self.header.source == ipv6::UNSPECIFIED;
        Some(Verdict::Reply(Reply {
            destination: if probe {
                ALL_NODES
            } else {
                self.ethernet.source
            },
            source: self.own_mac(),
            network: self.header.offset,
            version: Version::V6,
            transport: self.header.payload,
            kind: ReplyKind::Advertisement,
            segment: TcpHeader::default(),
            mtu: 0,
        }))
    }
}
