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

/// Writes one port and corrects the checksum by that and by what changed in the IP header.
#[inline(always)]
pub fn translate<F: FrameMut + ?Sized, const AT: usize>(
    frame: &mut F,
    offset: usize,
    port: Be16,
    outside: Difference,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let difference = outside.replace16(window.be16::<AT>(), port);
    window.set_be16::<AT>(port);
    window.set_be16::<16>(difference.apply(window.be16::<16>()));
    Some(())
}
