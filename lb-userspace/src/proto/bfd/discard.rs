//! Why a packet is discarded, and how many were.

/// Why a packet is discarded: RFC 5880 §6.8.6 in its order, framed by what the transports demand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Discard {
    /// The UDP payload ends before the mandatory section does.
    Truncated,
    /// Another version than 1.
    Version,
    /// The length field is less than a packet can have.
    ShortLength,
    /// The length field is more than the UDP payload.
    LongLength,
    /// Detect Mult is zero.
    DetectMultiplier,
    /// The multipoint bit is set.
    Multipoint,
    /// My Discriminator is zero.
    MyDiscriminator,
    /// Your Discriminator is not one of ours.
    UnknownDiscriminator,
    /// Your Discriminator is zero in a state in which the peer knows ours.
    MissingDiscriminator,
    /// Your Discriminator is zero and no session is with the sender.
    UnknownPeer,
    /// It came on the other kind of session's port.
    Hops,
    /// It has come farther than it may (RFC 5881 §5, RFC 5883 §2).
    Ttl,
    /// An authentication section, and none is in use.
    Authentication,
    /// The session is administratively down.
    AdminDown,
}

impl Discard {
    /// All reasons, in their order.
    pub const ALL: [Self; 14] = [
        Self::Truncated,
        Self::Version,
        Self::ShortLength,
        Self::LongLength,
        Self::DetectMultiplier,
        Self::Multipoint,
        Self::MyDiscriminator,
        Self::UnknownDiscriminator,
        Self::MissingDiscriminator,
        Self::UnknownPeer,
        Self::Hops,
        Self::Ttl,
        Self::Authentication,
        Self::AdminDown,
    ];

    /// The fixed word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Version => "version",
            Self::ShortLength => "short_length",
            Self::LongLength => "long_length",
            Self::DetectMultiplier => "detect_multiplier",
            Self::Multipoint => "multipoint",
            Self::MyDiscriminator => "my_discriminator",
            Self::UnknownDiscriminator => "unknown_discriminator",
            Self::MissingDiscriminator => "missing_discriminator",
            Self::UnknownPeer => "unknown_peer",
            Self::Hops => "hops",
            Self::Ttl => "ttl",
            Self::Authentication => "authentication",
            Self::AdminDown => "admin_down",
        }
    }
}

/// How many packets were discarded, by reason.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Discards {
    /// Counts one.
    pub fn count(&mut self, reason: Discard) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How many for this reason.
    pub fn of(&self, reason: Discard) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// The reasons that occurred, and how often.
    pub fn occurred(&self) -> impl Iterator<Item = (Discard, u64)> {
        let counts = Discard::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut discards = Discards::default();
        for (index, reason) in Discard::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            discards.count(reason);
        }
        discards.count(Discard::Ttl);
        assert_eq!(discards.of(Discard::Ttl), 2);
        assert_eq!(discards.occurred().count(), Discard::ALL.len());
        let words: std::collections::BTreeSet<_> = Discard::ALL.map(Discard::name).into();
        assert_eq!(words.len(), Discard::ALL.len());
    }
}
