//! Why a packet for a VIP was not served: numbered, append-only.

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet for a VIP was dropped, or left to the kernel.
        ///
        /// The number indexes the counters and never changes its meaning; the name is what people see.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[$doc])+ $variant = $number,)+
        }

        impl DropReason {
            /// Every reason, by number.
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

reasons! {
    /// Lengths or version make no sense.
    Malformed = 0, "malformed";
    /// An IP fragment.
    Fragment = 1, "fragment";
    /// An IPv6 extension header, or a protocol that is not balanced.
    UnknownProtocol = 2, "unknown_protocol";
    /// No frontend has the TCP port, and policy says to be silent.
    UnservedPort = 3, "unserved_port";
    /// The frontend has no backend.
    NoBackend = 4, "no_backend";
    /// A peer sent the packet on to this node, which has neither its flow nor a backend for it.
    NotOwner = 5, "not_owner";
    /// The node on which the backend runs cannot be reached.
    NodeUnreachable = 6, "node_unreachable";
    /// The TTL or hop limit would reach zero.
    TtlExpired = 7, "ttl_expired";
    /// Another flow holds the reverse entry that the new flow needs.
    ReverseTaken = 8, "reverse_taken";
    /// A flow table had no room for a new flow.
    TableFull = 9, "table_full";
    /// A TCP RST of a flow nobody knows.
    UnknownFlow = 10, "unknown_flow";
    /// A reply was due but the budget for replies is spent.
    ReplyLimited = 11, "reply_limited";
    /// The frame could not be resized or rewritten.
    NotRewritable = 12, "not_rewritable";
    /// Too hard for the programs: left to a kernel that knows the VIP.
    PassedToKernel = 13, "passed_to_kernel";
    /// The flow stays half-open because the table of established flows is full; nothing was dropped.
    EstablishedFull = 14, "established_full";
    /// No frontend has the UDP port, and policy says to be silent or no port unreachable may answer.
    UnservedUdp = 15, "unserved_udp";
    /// It does not fit through the tunnel to the node that is to have it, and no ICMP error may say so.
    TooBig = 16, "too_big";
    /// This node has no address of the family in which the other node is reached.
    NoTunnel = 17, "no_tunnel";
    /// The program that goes on where the first one ends is not there.
    NotResumed = 18, "not_resumed";
    /// Nobody on the list knows the flow; the peers are asked, and the sender tries again.
    Located = 19, "located";
    /// The flow stays where it may be evicted because the table of answered UDP flows is full; nothing was
    /// dropped.
    UdpFull = 20, "udp_full";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
        }
    }

    #[test]
    fn names_are_lower_case_words_and_unique() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert!(
                reason
                    .name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            let later = &DropReason::ALL[position + 1..];
            assert!(later.iter().all(|other| other.name() != reason.name()));
        }
    }
}
