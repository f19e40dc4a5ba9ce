//! What a VIP gets that no frontend serves.

use crate::decide::{FamilyTables, Packet, ReplyKind, Tables, Verdict};
use crate::drop::DropReason;
use crate::family::{Family, Version};
use crate::frame::Frame;
use crate::maps::{config_flags, vip_flags};
use crate::wire::tcp::{TcpHeader, flags};
use crate::wire::{icmp, protocol, udp};

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    /// Decides about a packet that no frontend serves.
    #[inline(always)]
    pub(super) fn without_frontend(&self) -> Verdict {
        let header = &self.header;
        if self.is_tunnel() {
            return Verdict::Resume;
        }
        let Some(vip) = FamilyTables::<A>::vip(self.tables, &header.destination) else {
            return Verdict::Pass;
        };
        if header.malformed || header.exceeds(self.frame.length()) {
            return self.too_hard(DropReason::Malformed);
        }
        if header.fragment {
            return self.too_hard(DropReason::Fragment);
        }
        match header.protocol {
            protocol::TCP => match self.segment() {
                Some(segment) => self.refuse(&segment, DropReason::UnservedPort),
                None => self.too_hard(DropReason::Malformed),
            },
            protocol::UDP if self.is_datagram() => self.refuse_datagram(DropReason::UnservedUdp),
            protocol::UDP => self.too_hard(DropReason::Malformed),
            _ if vip.flags & vip_flags::ANSWER_ECHO != 0 && self.is_echo_request() => {
                if !self.tables.admit_reply() {
                    return Verdict::Drop(DropReason::ReplyLimited);
                }
                self.reply(ReplyKind::Echo, TcpHeader::default())
            }
            _ => self.too_hard(DropReason::UnknownProtocol),
        }
    }

    /// Whether packet and frame hold a UDP header.
    #[inline(always)]
    fn is_datagram(&self) -> bool {
        self.header.payload_length >= udp::LENGTH
            && udp::ports(self.frame, self.header.payload).is_some()
    }

    #[inline(always)]
    fn is_echo_request(&self) -> bool {
        let header = &self.header;
        match A::VERSION {
            Version::V4 => {
                header.protocol == protocol::ICMP
                    && icmp::is_echo_request(self.frame, header.payload)
            }
            Version::V6 => {
                header.protocol == protocol::ICMPV6
                    && icmp::is_echo_request_v6(self.frame, header.payload)
            }
        }
    }

    /// A packet for a VIP that the programs do not understand.
    #[inline(always)]
    pub(super) fn too_hard(&self, reason: DropReason) -> Verdict {
        if self.config.flags & config_flags::KERNEL_KNOWS_VIPS == 0 {
            return Verdict::Drop(reason);
        }
        self.tables.count_drop(DropReason::PassedToKernel);
        Verdict::Pass
    }

    /// A segment that nobody serves: reset or silence, as configured.
    #[inline(always)]
    fn refuse(&self, segment: &TcpHeader, reason: DropReason) -> Verdict {
        if self.config.flags & config_flags::REJECT_UNSERVED == 0 {
            return Verdict::Drop(reason);
        }
        self.reset(segment, reason)
    }

    /// A datagram that nobody serves: port unreachable or silence, as configured.
    #[inline(always)]
    pub(super) fn refuse_datagram(&self, reason: DropReason) -> Verdict {
        if self.config.flags & config_flags::REJECT_UNSERVED == 0 || !self.is_quotable() {
            return Verdict::Drop(reason);
        }
        if !self.tables.admit_reply() {
            return Verdict::Drop(DropReason::ReplyLimited);
        }
        self.reply(ReplyKind::PortUnreachable, TcpHeader::default())
    }

    /// A reset from the VIP, unless the segment is one itself or the budget is spent.
    #[inline(always)]
    fn reset(&self, segment: &TcpHeader, reason: DropReason) -> Verdict {
        if segment.has(flags::RST) {
            return Verdict::Drop(reason);
        }
        if !self.tables.admit_reply() {
            return Verdict::Drop(DropReason::ReplyLimited);
        }
        let segment = segment.reset(self.header.payload_length);
        self.reply(ReplyKind::Reset, segment)
    }
}
