//! What became of flows and of packets that took the long way: numbered,
//! append-only.

macro_rules! outcomes {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Something that happened, and is counted.
        ///
        /// The number indexes the counters and never changes its meaning; the name is what people see.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[$doc])+ $variant = $number,)+
        }

        impl Outcome {
            /// Every outcome, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, in lower-case words joined by `_`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

outcomes! {
    /// A client's ACK made a half-open flow an established one.
    Promoted = 0, "promoted";
    /// A packet was led by its slot through a tunnel to the owner's node.
    Tunnelled = 1, "tunnelled";
    /// A packet that a peer had sent here went on to the node that this table names.
    SentOn = 2, "sent_on";
    /// A packet went to the node that an exception names.
    Excepted = 3, "excepted";
    /// A packet began to follow its slot's former owners.
    ChainBegun = 4, "chain_begun";
    /// A packet on a chain was passed on to the next owner.
    ChainPassed = 5, "chain_passed";
    /// A packet on a chain found its flow here.
    ChainHit = 6, "chain_hit";
    /// Nobody on a list knew the flow.
    ChainEnded = 7, "chain_ended";
    /// Nobody on a list knew the flow, and its packet went back to be the first of a new one.
    Returned = 8, "returned";
    /// The agent was asked to find a flow.
    LocateWanted = 9, "locate_wanted";
    /// The agent was not asked, since the budget was spent or the ring buffer full.
    EventLost = 10, "event_lost";
    /// A flow got another candidate of its slot, since its client meets the first one in another flow.
    CandidateSkipped = 11, "candidate_skipped";
    /// A client's reset was not where the pod expects the next segment, and changed nothing.
    ResetDoubted = 12, "reset_doubted";
    /// A packet did not fit through a tunnel, and its sender was told what does.
    TooBigAnswered = 13, "too_big_answered";
    /// A SYN-ACK offered a larger MSS than fits through a tunnel, and left with a smaller one.
    MssClamped = 14, "mss_clamped";
    /// A packet was left to the kernel, which had its flow before the programs came.
    Legacy = 15, "legacy";
    /// A flow got another port of its client's, since the client's own meets the pods of its slot in others.
    PortTranslated = 16, "port_translated";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_and_names_are_unique() {
        for (position, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, position);
            let later = &Outcome::ALL[position + 1..];
            assert!(later.iter().all(|other| other.name() != outcome.name()));
        }
    }
}
