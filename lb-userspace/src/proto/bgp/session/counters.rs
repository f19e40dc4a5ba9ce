//! What a session counts, over all its connections.

use crate::proto::bgp::attribute::Verdict;
use crate::proto::bgp::update::Received;

/// What a session counts, over all its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Times that the session reached Established.
    pub established: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// UPDATEs received.
    pub updates_received: u64,
    /// Prefixes that the peer announced, all of them refused.
    pub received_refused: u64,
    /// UPDATEs whose routes counted as withdrawn (RFC 7606 §2).
    pub treated_as_withdraw: u64,
    /// UPDATEs with an attribute that counted as absent (RFC 7606 §2).
    pub attributes_discarded: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: u64,
    /// NOTIFICATIONs received.
    pub notifications_received: u64,
}

impl Counters {
    pub(super) fn update(&mut self, update: &Received) {
        let announced = u64::try_from(update.announced.len()).unwrap_or(u64::MAX);
        self.updates_received += 1;
        self.received_refused = self.received_refused.saturating_add(announced);
        match update.verdict {
            Verdict::Accept => {}
            Verdict::DiscardAttribute => self.attributes_discarded += 1,
            Verdict::TreatAsWithdraw => self.treated_as_withdraw += 1,
        }
    }
}
