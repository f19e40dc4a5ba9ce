//! Flows that the kernel had before the programs came: kube-proxy's, say.
//!
//! Their packets are left to the kernel until the agent takes their entries away, which it does once they
//! end. While it reads what connections the kernel has, the programs note every flow that they see, so that
//! none begins behind its back.

use crate::addr::Be16;
use crate::decide::{FamilyTables, Packet, Tables};
use crate::family::{Endpoints, Family};
use crate::frame::Frame;
use crate::maps::{Legacy, config_flags, flow_direction, flow_state, frontend_flags};
use crate::outcome::Outcome;
use crate::wire::tcp::{TcpHeader, flags};
use crate::wire::{protocol, udp};

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    /// Whether the packet is left to the kernel, which has its flow. A SYN behind the client's FIN is not:
    /// it begins a flow of ours. Any other SYN is the kernel's to judge, or else spoofed ones would break
    /// its connections.
    #[inline(always)]
    pub(super) fn is_legacy(&self) -> bool {
        let header = &self.header;
        if header.fragment || header.malformed || header.exceeds(self.frame.length()) {
            return false;
        }
        let segment = match header.protocol {
            protocol::TCP => match self.segment() {
                Some(segment) => segment,
                None => return false,
            },
            protocol::UDP if header.payload_length >= udp::LENGTH => TcpHeader::default(),
            _ => return false,
        };
        let Some((source_port, destination_port)) = udp::ports(self.frame, header.payload) else {
            return false;
        };
        let ends = Endpoints {
            source: header.source,
            destination: header.destination,
            source_port,
            destination_port,
        };
        let key = A::flow_key(&ends, header.protocol, flow_direction::FORWARD);
        let adopts = self.adopts(destination_port);
        let closing = u32::from(flow_state::CLIENT_FIN);
        let stays = FamilyTables::<A>::with_legacy(self.tables, &key, |legacy| {
            let begins = segment.is_opening() && legacy.state & closing != 0;
            if segment.has(flags::FIN) {
                legacy.state |= closing;
            } else if begins && adopts {
                legacy.state = 0;
            }
            !begins || adopts
        });
        match stays {
            Some(true) => {}
            Some(false) => {
                FamilyTables::<A>::remove_legacy(self.tables, &key);
                return false;
            }
            // What another node leads here is ours: it would not be found again behind the kernel.
            None if adopts && !(segment.is_opening() && self.is_from_peer()) => {
                let legacy = Legacy {
                    since: self.tables.now_seconds(),
                    state: 0,
                };
                FamilyTables::<A>::insert_legacy(self.tables, &key, &legacy);
            }
            None => return false,
        }
        self.tables.count(Outcome::Legacy);
        true
    }

    /// Whether there is a frontend of which the agent still reads what connections the kernel has.
    #[inline(always)]
    fn adopts(&self, port: Be16) -> bool {
        let key = A::frontend_key(self.header.destination, port, self.header.protocol);
        FamilyTables::<A>::frontend(self.tables, &key).is_some_and(|frontend| {
            self.config.flags & config_flags::ADOPT != 0
                || frontend.flags & frontend_flags::ADOPT != 0
        })
    }
}
