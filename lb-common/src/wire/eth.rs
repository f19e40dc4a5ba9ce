//! Ethernet.

use crate::addr::{Be16, Be32};
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::maps::MacKey;
use crate::wire::vlan;

/// Octets of an Ethernet header without tags.
pub const LENGTH: usize = 14;

/// EtherTypes.
pub mod ether_type {
    use crate::addr::Be16;

    /// IPv4.
    pub const IPV4: Be16 = Be16::new(0x0800);
    /// ARP, RFC 826.
    pub const ARP: Be16 = Be16::new(0x0806);
    /// IEEE 802.1Q.
    pub const VLAN: Be16 = Be16::new(0x8100);
    /// IPv6.
    pub const IPV6: Be16 = Be16::new(0x86dd);
    /// IEEE 802.1ad.
    pub const SERVICE_VLAN: Be16 = Be16::new(0x88a8);
}

/// ff:ff:ff:ff:ff:ff.
pub const BROADCAST: MacKey = MacKey {
    head: Be32::new(0xffff_ffff),
    tail: Be16::new(0xffff),
    zero: 0,
};

/// Whether the address is a group's.
#[inline(always)]
pub const fn is_group(mac: &MacKey) -> bool {
    mac.head.raw() & Be32::new(0x0100_0000).raw() != 0
}

/// What the Ethernet header and its tags say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EthHeader {
    /// Destination.
    pub destination: MacKey,
    /// Source.
    pub source: MacKey,
    /// EtherType behind the tags.
    pub ether_type: Be16,
    /// Where the payload begins.
    pub payload: usize,
}

impl EthHeader {
    /// Reads the header and at most two VLAN tags.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(frame: &F) -> Option<Self> {
        let window = frame.window::<LENGTH>(0)?;
        let (ether_type, payload) = vlan::skip(frame, window.be16::<12>(), LENGTH)?;
        Some(Self {
            destination: MacKey {
                head: window.be32::<0>(),
                tail: window.be16::<4>(),
                zero: 0,
            },
            source: MacKey {
                head: window.be32::<6>(),
                tail: window.be16::<10>(),
                zero: 0,
            },
            ether_type,
            payload,
        })
    }
}

/// Writes both addresses; tags and EtherType stay. `None` if the frame is too short.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized>(
    frame: &mut F,
    destination: MacKey,
    source: MacKey,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(0)?;
    window.set_be32::<0>(destination.head);
    window.set_be16::<4>(destination.tail);
    window.set_be32::<6>(source.head);
    window.set_be16::<10>(source.tail);
    Some(())
}

/// Writes both addresses from the twelve octets that a node's map value holds.
#[inline(always)]
pub fn write_words<F: FrameMut + ?Sized>(frame: &mut F, words: [Be32; 3]) -> Option<()> {
    let [a, b, c] = words;
    let mut window = frame.window_mut::<LENGTH>(0)?;
    window.set_be32::<0>(a);
    window.set_be32::<4>(b);
    window.set_be32::<8>(c);
    Some(())
}

/// An Ethernet header apart from its EtherType: both addresses, and at most two VLAN tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Front {
    /// Destination and source.
    pub addresses: [Be32; 3],
    tags: [Be32; 2],
    count: usize,
}

impl Front {
    /// Reads the header.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(frame: &F) -> Option<Self> {
        let window = frame.window::<LENGTH>(0)?;
        let mut front = Self {
            addresses: [window.be32::<0>(), window.be32::<4>(), window.be32::<8>()],
            tags: [Be32::new(0); 2],
            count: 0,
        };
        let [outer, inner] = &mut front.tags;
        for (position, tag) in [outer, inner].into_iter().enumerate() {
            let window = frame.window::<{ vlan::LENGTH }>(12 + vlan::LENGTH * position)?;
            let ether_type = window.be16::<0>();
            if ether_type != ether_type::VLAN && ether_type != ether_type::SERVICE_VLAN {
                break;
            }
            *tag = window.be32::<0>();
            front.count = position + 1;
        }
        Some(front)
    }

    /// Octets of the header with its EtherType.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        LENGTH + vlan::LENGTH * self.count
    }

    /// Writes the header with an EtherType. `None` if the frame is too short.
    #[inline(always)]
    pub fn write<F: FrameMut + ?Sized>(&self, frame: &mut F, ether_type: Be16) -> Option<()> {
        write_words(frame, self.addresses)?;
        let [outer, inner] = self.tags;
        if self.count > 0 {
            frame
                .window_mut::<{ vlan::LENGTH }>(12)?
                .set_be32::<0>(outer);
        }
        if self.count > 1 {
            frame
                .window_mut::<{ vlan::LENGTH }>(16)?
                .set_be32::<0>(inner);
        }
        frame
            .window_mut::<2>(self.length() - 2)?
            .set_be16::<0>(ether_type);
        Some(())
    }
}
