//! TCP, RFC 9293.

use crate::addr::{Be16, Be32};
use crate::checksum::{Difference, Sum};
use crate::frame::{Frame, FrameMut, Window, WindowMut};

/// Octets of a header without options.
pub const LENGTH: usize = 20;

/// Control bits.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// What a TCP header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpHeader {
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Sequence number, host order.
    pub sequence: u32,
    /// Acknowledgment number, host order.
    pub acknowledgment: u32,
    /// Octets of header, as it claims.
    pub header_length: usize,
    /// Control bits.
    pub flags: u8,
}

impl TcpHeader {
    /// Reads the header at `offset`.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Self> {
        let window = frame.window::<LENGTH>(offset)?;
        Some(Self {
            source_port: window.be16::<0>(),
            destination_port: window.be16::<2>(),
            sequence: window.be32::<4>().host(),
            acknowledgment: window.be32::<8>().host(),
            header_length: usize::from(window.octet::<12>() >> 4) * 4,
            flags: window.octet::<13>(),
        })
    }

    /// Whether all of `bits` are set.
    #[inline(always)]
    pub const fn has(&self, bits: u8) -> bool {
        self.flags & bits == bits
    }

    /// Whether it opens a connection: SYN and none of ACK, RST, FIN.
    #[inline(always)]
    pub const fn is_opening(&self) -> bool {
        self.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
    }

    /// The reset that answers it where no connection is, given the octets of TCP in the packet.
    #[inline(always)]
    pub const fn reset(&self, segment_length: usize) -> Self {
        // RFC 9293 §3.10.7.1: the reset takes its sequence number from the acknowledgment if there is
        // one, else it acknowledges everything that the segment takes up.
        let (sequence, acknowledgment, flags) = if self.has(flags::ACK) {
            (self.acknowledgment, 0, flags::RST)
        } else {
            let data = segment_length.saturating_sub(self.header_length) as u32;
            let controls = self.has(flags::SYN) as u32 + self.has(flags::FIN) as u32;
            (
                0,
                self.sequence.wrapping_add(data).wrapping_add(controls),
                flags::RST | flags::ACK,
            )
        };
        Self {
            source_port: self.destination_port,
            destination_port: self.source_port,
            sequence,
            acknowledgment,
            header_length: LENGTH,
            flags,
        }
    }

    /// Writes the header, without options and with no window, behind a pseudo-header of that sum.
    #[inline(always)]
    pub fn write<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        offset: usize,
        pseudo_header: Sum,
    ) -> Option<()> {
        let mut window = frame.window_mut::<LENGTH>(offset)?;
        let offset_and_flags = Be16::new(0x5000 | u16::from(self.flags));
        let sequence = Be32::new(self.sequence);
        let acknowledgment = Be32::new(self.acknowledgment);
        let sum = pseudo_header
            .add16(self.source_port)
            .add16(self.destination_port)
            .add32(sequence)
            .add32(acknowledgment)
            .add16(offset_and_flags);
        window.set_be16::<0>(self.source_port);
        window.set_be16::<2>(self.destination_port);
        window.set_be32::<4>(sequence);
        window.set_be32::<8>(acknowledgment);
        window.set_be16::<12>(offset_and_flags);
        window.set_be16::<14>(Be16::new(0));
        window.set_be16::<16>(sum.finish());
        window.set_be16::<18>(Be16::new(0));
        Some(())
    }
}

/// The MSS option of a SYN (RFC 9293 §3.7.1), to be lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MssClamp {
    /// Where its value lies, counted from the TCP header; 0 says that nothing is to be lowered.
    pub offset: usize,
    /// The value that it has.
    pub old: Be16,
    /// The value that it is to have.
    pub new: Be16,
}

impl MssClamp {
    /// Options that are looked at: MSS comes first wherever it is known to come from.
    const OPTIONS: usize = 6;
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MSS: u8 = 2;

    /// How to lower the MSS in the header at `offset` to `largest`, which is no limit if it is 0.
    #[inline(always)]
    pub fn find<F: Frame + ?Sized>(frame: &F, offset: usize, length: usize, largest: u16) -> Self {
        let mut at = LENGTH;
        for _ in 0..Self::OPTIONS {
            if largest == 0 || at + 4 > length {
                break;
            }
            let Some(window) = frame.window::<4>(offset + at) else {
                break;
            };
            at += match (window.octet::<0>(), window.octet::<1>()) {
                (Self::MSS, 4) => {
                    let (old, new) = (window.be16::<2>(), Be16::new(largest));
                    if old.host() <= largest {
                        break;
                    }
                    let offset = at + 2;
                    return Self { offset, old, new };
                }
                (Self::NO_OPERATION, _) => 1,
                (Self::END, _) | (_, 0 | 1) => break,
                // No header is longer, which the verifier wants to see.
                (_, length) => usize::from(length & 0x3f),
            };
        }
        Self::default()
    }

    /// Old and new value as they count in the checksum: at an odd offset each octet lies in the other half
    /// of a word (RFC 1071 §2 B).
    #[inline(always)]
    pub const fn words(&self) -> (Be16, Be16) {
        if self.offset & 1 == 0 {
            return (self.old, self.new);
        }
        (
            Be16::from_raw(self.old.raw().swap_bytes()),
            Be16::from_raw(self.new.raw().swap_bytes()),
        )
    }

    /// Lowers the MSS in the header at `offset`.
    #[inline(always)]
    pub fn apply<F: FrameMut + ?Sized>(&self, frame: &mut F, offset: usize) -> Option<()> {
        if self.offset == 0 {
            return Some(());
        }
        frame
            .window_mut::<2>(offset + self.offset)?
            .set_be16::<0>(self.new);
        let (old, new) = self.words();
        let mut window = frame.window_mut::<LENGTH>(offset)?;
        let difference = Difference::ZERO.replace16(old, new);
        window.set_be16::<16>(difference.apply(window.be16::<16>()));
        Some(())
    }
}

/// Writes both ports and corrects the checksum by that and by what changed in the IP header.
#[inline(always)]
pub fn translate<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    ports: Be32,
    outside: Difference,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let difference = outside.replace32(window.be32::<0>(), ports);
    window.set_be32::<0>(ports);
    window.set_be16::<16>(difference.apply(window.be16::<16>()));
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A header with these options, and its right checksum but for the pseudo-header.
    fn header(options: &[u8]) -> Vec<u8> {
        let mut octets = Vec::from([0; LENGTH]);
        octets[12] = ((LENGTH + options.len()) as u8 / 4) << 4;
        octets[13] = flags::SYN;
        octets.extend(options);
        let sum = Sum::ZERO.add_octets(&octets).finish();
        octets[16..18].copy_from_slice(&sum.raw().to_ne_bytes());
        octets
    }

    proptest! {
        #[test]
        fn the_mss_is_lowered_wherever_it_lies_and_the_checksum_stays_right(
            padding in 0usize..=5,
            other in 2u8..=12,
            mss in any::<u16>(),
            largest in 1u16..,
        ) {
            let mut options = Vec::from([1; 5]);
            options.truncate(padding.saturating_sub(1));
            if padding > 0 {
                options.extend([253, other]);
                options.resize(options.len() - 2 + usize::from(other), 0xa5);
            }
            let place = LENGTH + options.len() + 2;
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
            options.resize(options.len().next_multiple_of(4), 0);
            let mut frame = header(&options);
            let clamp = MssClamp::find(frame.as_slice(), 0, frame.len(), largest);
            prop_assert!(clamp.apply(frame.as_mut_slice(), 0).is_some());
            let lowered = u16::from_be_bytes([frame[place], frame[place + 1]]);
            prop_assert_eq!(lowered, mss.min(largest));
            prop_assert_eq!(Sum::ZERO.add_octets(&frame).finish(), Be16::new(0));
        }

        #[test]
        fn options_that_make_no_sense_are_walked_to_an_end(
            options in proptest::collection::vec(0u8..6, 0..=40),
            largest in any::<u16>(),
        ) {
            let mut frame = header(&options);
            let length = LENGTH + options.len();
            let clamp = MssClamp::find(frame.as_slice(), 0, length, largest);
            prop_assert!(clamp.offset == 0 || clamp.offset + 2 <= length);
            prop_assert!(clamp.apply(frame.as_mut_slice(), 0).is_some());
        }
    }
}
