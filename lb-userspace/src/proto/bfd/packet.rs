//! The BFD control packet (RFC 5880 §4.1).
//!
//! ```text
//!    0                   1                   2                   3
//!    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!   +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//!   |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//!   +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//!   |                       My Discriminator                        |
//!   |                      Your Discriminator                       |
//!   |                    Desired Min TX Interval                    |
//!   |                   Required Min RX Interval                    |
//!   |                 Required Min Echo RX Interval                 |
//!   +---------------------------------------------------------------+
//! ```

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use super::discard::Discard;

/// Octets of a packet without authentication.
pub const LENGTH: usize = 24;
/// Octets of the shortest packet with an authentication section.
const AUTHENTICATED_LENGTH: u8 = 26;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The state of a session, as the wire numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum State {
    /// Held down on purpose.
    AdminDown = 0,
    /// The peer is not heard, or does not hear us.
    #[default]
    Down = 1,
    /// The peer is heard.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// The fixed word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why a session was Up last and is not any more; five bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Diagnostic {
    /// Nothing happened.
    #[default]
    None,
    /// The detection time passed without a packet.
    DetectionTimeExpired,
    /// The echo function failed.
    EchoFailed,
    /// The peer said that it is down.
    NeighborSignaledDown,
    /// The forwarding plane was reset.
    ForwardingPlaneReset,
    /// The path is down.
    PathDown,
    /// A path that this one consists of is down.
    ConcatenatedPathDown,
    /// Held down on purpose.
    AdministrativelyDown,
    /// The way back of a path that this one consists of is down.
    ReverseConcatenatedPathDown,
    /// Not assigned.
    Other(u8),
}

impl Diagnostic {
    const fn from_bits(bits: u8) -> Self {
        match bits & 0x1f {
            0 => Self::None,
            1 => Self::DetectionTimeExpired,
            2 => Self::EchoFailed,
            3 => Self::NeighborSignaledDown,
            4 => Self::ForwardingPlaneReset,
            5 => Self::PathDown,
            6 => Self::ConcatenatedPathDown,
            7 => Self::AdministrativelyDown,
            8 => Self::ReverseConcatenatedPathDown,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::DetectionTimeExpired => 1,
            Self::EchoFailed => 2,
            Self::NeighborSignaledDown => 3,
            Self::ForwardingPlaneReset => 4,
            Self::PathDown => 5,
            Self::ConcatenatedPathDown => 6,
            Self::AdministrativelyDown => 7,
            Self::ReverseConcatenatedPathDown => 8,
            Self::Other(other) => other & 0x1f,
        }
    }

    /// The fixed word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DetectionTimeExpired => "detection_time_expired",
            Self::EchoFailed => "echo_failed",
            Self::NeighborSignaledDown => "neighbor_signaled_down",
            Self::ForwardingPlaneReset => "forwarding_plane_reset",
            Self::PathDown => "path_down",
            Self::ConcatenatedPathDown => "concatenated_path_down",
            Self::AdministrativelyDown => "administratively_down",
            Self::ReverseConcatenatedPathDown => "reverse_concatenated_path_down",
            Self::Other(_) => "unassigned",
        }
    }
}

/// What tells the sessions of a node apart; never zero.
pub type Discriminator = NonZeroU32;

/// A control packet without authentication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlPacket {
    /// Why the sender was Up last and is not any more.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with [`Self::is_final`] set.
    pub is_poll: bool,
    /// The answer to a poll.
    pub is_final: bool,
    /// The sender's BFD outlives its control plane.
    pub is_control_plane_independent: bool,
    /// The sender wants no periodic packets while both are Up.
    pub wants_demand: bool,
    /// Packets that may be lost before the sender counts as gone.
    pub detect_multiplier: NonZeroU8,
    /// The sender's discriminator.
    pub my_discriminator: Discriminator,
    /// The receiver's, once the sender knows it.
    pub your_discriminator: Option<Discriminator>,
    /// The shortest interval at which the sender would like to send; whole microseconds.
    pub desired_min_tx: Duration,
    /// The shortest interval at which the sender can receive; zero means never.
    pub required_min_rx: Duration,
    /// The shortest interval at which the sender can return echo packets; zero means never.
    pub required_min_echo_rx: Duration,
}

impl ControlPacket {
    /// Reads a UDP payload.
    ///
    /// # Errors
    /// The first rule of RFC 5880 §6.8.6 that it breaks, of those that need no session.
    pub fn decode(payload: &[u8]) -> Result<Self, Discard> {
        let (head, _) = payload
            .split_first_chunk::<LENGTH>()
            .ok_or(Discard::Truncated)?;
        let [first, flags, multiplier, length, words @ ..] = *head;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let is_authenticated = flags & AUTHENTICATION != 0;
        let shortest = if is_authenticated {
            AUTHENTICATED_LENGTH
        } else {
            LENGTH as u8
        };
        if length < shortest {
            return Err(Discard::ShortLength);
        }
        if usize::from(length) > payload.len() {
            return Err(Discard::LongLength);
        }
        let detect_multiplier = NonZeroU8::new(multiplier).ok_or(Discard::DetectMultiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let [mine, yours, tx, rx, echo] = words_of(words);
        let packet = Self {
            diagnostic: Diagnostic::from_bits(first),
            state: State::from_bits(flags >> 6),
            is_poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            is_control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            wants_demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator: Discriminator::new(mine).ok_or(Discard::MyDiscriminator)?,
            your_discriminator: Discriminator::new(yours),
            desired_min_tx: Duration::from_micros(tx.into()),
            required_min_rx: Duration::from_micros(rx.into()),
            required_min_echo_rx: Duration::from_micros(echo.into()),
        };
        if packet.your_discriminator.is_none()
            && !matches!(packet.state, State::Down | State::AdminDown)
        {
            return Err(Discard::MissingDiscriminator);
        }
        // RFC 5880 §6.8.6 looks the session up before this rule; no session of ours authenticates.
        if is_authenticated {
            return Err(Discard::Authentication);
        }
        Ok(packet)
    }

    /// The octets to send. Intervals beyond the 71 minutes that fit are cut.
    pub fn encode(&self) -> [u8; LENGTH] {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let flags = (self.state as u8) << 6
            | bit(self.is_poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.is_control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.wants_demand, DEMAND);
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, Discriminator::get),
            microseconds(self.desired_min_tx),
            microseconds(self.required_min_rx),
            microseconds(self.required_min_echo_rx),
        ];
        let head = [
            VERSION << 5 | self.diagnostic.number(),
            flags,
            self.detect_multiplier.get(),
            LENGTH as u8,
        ];
        let mut octets = [0; LENGTH];
        let source = head
            .into_iter()
            .chain(words.into_iter().flat_map(u32::to_be_bytes));
        for (to, from) in octets.iter_mut().zip(source) {
            *to = from;
        }
        octets
    }
}

fn words_of(octets: [u8; 20]) -> [u32; 5] {
    let (words, _) = octets.as_chunks::<4>();
    let mut read = [0; 5];
    for (to, from) in read.iter_mut().zip(words) {
        *to = u32::from_be_bytes(*from);
    }
    read
}

fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A poll of a session that came Up at 50 ms × 3.
    const GOLDEN: [u8; LENGTH] = [
        0x20, 0xe0, 0x03, 0x18, 0x5c, 0x1a, 0x77, 0x01, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0xc3,
        0x50, 0x00, 0x00, 0xc3, 0x50, 0x00, 0x00, 0x00, 0x00,
    ];

    fn golden() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::None,
            state: State::Up,
            is_poll: true,
            is_final: false,
            is_control_plane_independent: false,
            wants_demand: false,
            detect_multiplier: NonZeroU8::new(3).unwrap(),
            my_discriminator: Discriminator::new(0x5c1a_7701).unwrap(),
            your_discriminator: Discriminator::new(0x0102_0304),
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(50),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    #[test]
    fn a_packet_is_these_octets() {
        assert_eq!(ControlPacket::decode(&GOLDEN), Ok(golden()));
        assert_eq!(golden().encode(), GOLDEN);
    }

    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<ControlPacket, Discard> {
        let mut octets = GOLDEN.to_vec();
        change(&mut octets);
        ControlPacket::decode(&octets)
    }

    #[test]
    fn each_rule_discards_what_breaks_it() {
        assert_eq!(changed(|o| o.truncate(23)), Err(Discard::Truncated));
        assert_eq!(changed(|o| o[0] = 0x00), Err(Discard::Version));
        assert_eq!(changed(|o| o[0] = 0x40), Err(Discard::Version));
        assert_eq!(changed(|o| o[3] = 23), Err(Discard::ShortLength));
        assert_eq!(changed(|o| o[1] |= 0x04), Err(Discard::ShortLength));
        assert_eq!(changed(|o| o[3] = 25), Err(Discard::LongLength));
        assert_eq!(changed(|o| o[2] = 0), Err(Discard::DetectMultiplier));
        assert_eq!(changed(|o| o[1] |= 0x01), Err(Discard::Multipoint));
        assert_eq!(changed(|o| o[4..8].fill(0)), Err(Discard::MyDiscriminator));
        assert_eq!(
            changed(|o| o[8..12].fill(0)),
            Err(Discard::MissingDiscriminator)
        );
        let authenticated = changed(|o| {
            o[1] |= 0x04;
            o[3] = 28;
            o.extend([1, 4, 0, 0]);
        });
        assert_eq!(authenticated, Err(Discard::Authentication));
    }

    #[test]
    fn what_follows_the_packet_in_the_payload_is_ignored() {
        assert_eq!(changed(|o| o.extend([0; 8])), Ok(golden()));
    }

    proptest! {
        #[test]
        fn random_octets_never_panic_and_what_is_read_is_written_again(
            octets in prop::collection::vec(any::<u8>(), 0..64),
            plausible in any::<bool>(),
        ) {
            let mut octets = octets;
            if plausible && octets.len() >= LENGTH {
                octets[0] = 0x20 | octets[0] & 0x1f;
                octets[1] &= !(AUTHENTICATION | MULTIPOINT);
                octets[3] = LENGTH as u8;
            }
            if let Ok(packet) = ControlPacket::decode(&octets) {
                let mut sent = octets[..LENGTH].to_vec();
                sent[3] = LENGTH as u8;
                prop_assert_eq!(packet.encode().to_vec(), sent);
            }
        }
    }
}
