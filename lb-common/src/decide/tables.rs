//! What the decision needs of the maps.

use crate::addr::AddrWords;
use crate::drop::DropReason;
use crate::family::{Family, V4, V6};
use crate::flow::FlowTable;
use crate::limit::{self, Rate};
use crate::maps::{
    Backend, Config, Event, Exception, Flow, Frontend, FrontendStats, Legacy, MacKey, Node, Slot,
    Tour, Vip,
};
use crate::outcome::Outcome;

/// The maps of one address family.
pub trait FamilyTables<A: Family> {
    /// What a (VIP, port, protocol) leads to.
    fn frontend(&self, key: &A::FrontendKey) -> Option<Frontend>;
    /// What this node does for an address.
    fn vip(&self, address: &A::Address) -> Option<Vip>;
    /// Reads or changes a flow entry in place.
    fn with_flow<R>(
        &self,
        table: FlowTable,
        key: &A::FlowKey,
        access: impl FnOnce(&mut Flow) -> R,
    ) -> Option<R>;
    /// Writes a flow entry; false if the table has no room.
    fn insert_flow(&self, table: FlowTable, key: &A::FlowKey, flow: &Flow) -> bool;
    /// Removes a flow entry, if there is one.
    fn remove_flow(&self, table: FlowTable, key: &A::FlowKey);
    /// Reads or changes an exception in place.
    fn with_exception<R>(
        &self,
        key: &A::FlowKey,
        access: impl FnOnce(&mut Exception) -> R,
    ) -> Option<R>;
    /// Removes an exception, if there is one.
    fn remove_exception(&self, key: &A::FlowKey);
    /// Reads or changes in place what is known of a flow that is the kernel's.
    fn with_legacy<R>(&self, key: &A::FlowKey, access: impl FnOnce(&mut Legacy) -> R) -> Option<R>;
    /// Notes a flow that is the kernel's, if there is room.
    fn insert_legacy(&self, key: &A::FlowKey, legacy: &Legacy);
    /// Forgets a flow that was the kernel's, if it was.
    fn remove_legacy(&self, key: &A::FlowKey);
    /// Index in the backends of what other nodes call by address and port.
    fn backend_index(&self, key: &A::BackendKey) -> Option<u32>;
}

/// The maps.
pub trait Tables: FamilyTables<V4> + FamilyTables<V6> {
    /// The configuration.
    fn config(&self) -> Option<&Config>;
    /// A slot.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// A backend, in use or not.
    fn backend(&self, index: u32) -> Option<&Backend>;
    /// A node.
    fn node(&self, number: u32) -> Option<&Node>;
    /// Whether a MAC is a peer's.
    fn is_peer(&self, mac: &MacKey) -> bool;
    /// The node with a tunnel address.
    fn peer_at(&self, address: &AddrWords) -> Option<u32>;
    /// `CLOCK_MONOTONIC`, nanoseconds.
    fn now(&self) -> u64;
    /// Counts a packet that was not served, or served with a reservation.
    fn count_drop(&self, reason: DropReason);
    /// Adds to the counters of a frontend.
    fn count_frontend(&self, id: u32, more: &FrontendStats);
    /// Counts what happened to a flow or a packet.
    fn count(&self, outcome: Outcome);
    /// Reads or changes the tour of the packet at hand.
    fn with_tour<R>(&self, access: impl FnOnce(&mut Tour) -> R) -> Option<R>;
    /// Tells the agent; false if there is no room.
    fn emit(&self, event: Event) -> bool;
    /// Reads or changes when this CPU's next event of a bucket is due.
    fn with_event_due<R>(&self, bucket: u32, access: impl FnOnce(&mut u64) -> R) -> Option<R>;
    /// Reads or changes when this CPU's next own reply is due.
    fn with_reply_due<R>(&self, access: impl FnOnce(&mut u64) -> R) -> Option<R>;

    /// `CLOCK_MONOTONIC`, seconds.
    #[inline(always)]
    fn now_seconds(&self) -> u32 {
        (self.now() / 1_000_000_000) as u32
    }

    /// Whether one more reply of our own is within the budget.
    #[inline(always)]
    fn admit_reply(&self) -> bool {
        let now = self.now();
        self.with_reply_due(|due| take(limit::REPLIES, due, now)) == Some(true)
    }

    /// Whether one more event of a bucket is within the budget.
    #[inline(always)]
    fn admit_event(&self, bucket: u32) -> bool {
        let now = self.now();
        self.with_event_due(bucket, |due| take(limit::EVENTS, due, now)) == Some(true)
    }
}

#[inline(always)]
fn take(rate: Rate, due: &mut u64, now: u64) -> bool {
    match rate.admit(*due, now) {
        Some(next) => {
            *due = next;
            true
        }
        None => false,
    }
}
