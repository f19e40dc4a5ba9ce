//! What the agent looks up in its tables for its peers.

use std::net::IpAddr;

use lb_common::maps::Slot;
use lb_common::maps::frontend_flags;

use super::Layout;
use super::Member;
use super::Table;
use crate::model::intent::FrontendName;
use crate::model::shared_map::Change;

impl Layout {
    /// Key of the flow hash, once there is one.
    pub fn flow_key(&self) -> Option<&[u64; 4]> {
        self.config.as_ref().map(|config| &config.flow_key)
    }

    /// The frontends whose tables are not those of the layout before, each with both of them. Tables that are the
    /// same are not looked into.
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<Change<'a, FrontendName, Table>> {
        self.frontends.changes(&before.frontends)
    }
}

impl Table {
    /// What all slots remember; their number is a power of two.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The index of the slot that a flow with this hash has.
    pub fn slot_of(&self, hash: u32) -> u32 {
        hash & self.value.mask
    }

    /// Whether the client's address alone decides which slot a flow has.
    pub fn has_client_affinity(&self) -> bool {
        self.value.flags & frontend_flags::CLIENT_AFFINITY != 0
    }

    /// The backend of that number.
    pub fn member(&self, number: u16) -> Option<&Member> {
        self.members.get(&number)
    }

    /// The backend that other nodes call so, with its index in `BACKENDS`.
    pub fn member_called(&self, addr: IpAddr, port: u16) -> Option<(u32, &Member)> {
        let number = *self.indices.get(&(addr, port))?;
        let index = self.value.backends + u32::from(number);
        Some((index, self.members.get(&number)?))
    }

    /// The backend at an index in `BACKENDS`, with its number.
    pub fn member_at(&self, index: u32) -> Option<(u16, &Member)> {
        let number = u16::try_from(index.checked_sub(self.value.backends)?).ok()?;
        Some((number, self.members.get(&number)?))
    }

    /// The owners of a slot by their addresses and ports, newest first.
    pub fn owners(&self, slot: u32) -> [Option<(IpAddr, u16)>; Slot::DEPTH] {
        let slot = self.slots.get(slot as usize).copied().unwrap_or_default();
        slot.owners().map(|number| {
            let member = self.members.get(&number)?;
            Some((member.addr, member.port))
        })
    }

    /// Whether no slot remembers anybody but today's owner.
    pub fn remembers_nobody(&self) -> bool {
        !self.slots.iter().copied().any(super::history::is_kept)
    }
}

impl Member {
    /// Whether it runs on this node.
    pub fn is_local(&self) -> bool {
        self.value.node == 0
    }

    /// Changes whenever the element is given to another pod.
    pub fn generation(&self) -> u32 {
        self.value.generation
    }
}
