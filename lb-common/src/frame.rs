//! Packet bytes behind one bounds check: the only way any parser sees them.
//!
//! A parser asks a [`Frame`] for a window of a header's fixed size at some offset. That is the one check
//! made at run time; the fields inside the window are read at constant offsets that the compiler checks.
//! In the kernel the check is the one the verifier wants and each field is one load.

use crate::addr::{Be16, Be32};

/// A packet, from its Ethernet header on.
pub trait Frame {
    /// What [`Self::window`] gives.
    type Window<'a, const N: usize>: Window<N>
    where
        Self: 'a;

    /// Length of the whole frame in octets, also of the part that no window reaches.
    fn length(&self) -> usize;

    /// The `N` octets that begin at `offset`, if they are there.
    fn window<const N: usize>(&self, offset: usize) -> Option<Self::Window<'_, N>>;
}

/// `N` octets that can be read.
pub trait Window<const N: usize> {
    /// The octet at `AT`.
    fn octet<const AT: usize>(&self) -> u8;
    /// The 16-bit integer at `AT`.
    fn be16<const AT: usize>(&self) -> Be16;
    /// The 32-bit integer at `AT`.
    fn be32<const AT: usize>(&self) -> Be32;

    /// Four 32-bit integers from `AT` on, which is an IPv6 address.
    #[inline(always)]
    fn words<const A: usize, const B: usize, const C: usize, const D: usize>(&self) -> [Be32; 4] {
        const { assert!(B == A + 4 && C == A + 8 && D == A + 12) }
        [
            self.be32::<A>(),
            self.be32::<B>(),
            self.be32::<C>(),
            self.be32::<D>(),
        ]
    }
}

/// A packet that can be rewritten.
pub trait FrameMut: Frame {
    /// What [`Self::window_mut`] gives.
    type WindowMut<'a, const N: usize>: WindowMut<N>
    where
        Self: 'a;

    /// The `N` octets that begin at `offset`, if they are there.
    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<Self::WindowMut<'_, N>>;
}

/// `N` octets that can be read and written.
pub trait WindowMut<const N: usize>: Window<N> {
    /// Writes the octet at `AT`.
    fn set_octet<const AT: usize>(&mut self, value: u8);
    /// Writes the 16-bit integer at `AT`.
    fn set_be16<const AT: usize>(&mut self, value: Be16);
    /// Writes the 32-bit integer at `AT`.
    fn set_be32<const AT: usize>(&mut self, value: Be32);

    /// Writes four 32-bit integers from `AT` on.
    #[inline(always)]
    fn set_words<const A: usize, const B: usize, const C: usize, const D: usize>(
        &mut self,
        value: [Be32; 4],
    ) {
        const { assert!(B == A + 4 && C == A + 8 && D == A + 12) }
        let [a, b, c, d] = value;
        self.set_be32::<A>(a);
        self.set_be32::<B>(b);
        self.set_be32::<C>(c);
        self.set_be32::<D>(d);
    }
}

impl Frame for [u8] {
    type Window<'a, const N: usize> = &'a [u8; N];

    fn length(&self) -> usize {
        self.len()
    }

    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }
}

impl FrameMut for [u8] {
    type WindowMut<'a, const N: usize> = &'a mut [u8; N];

    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.get_mut(offset..)?.first_chunk_mut()
    }
}

/// `M` octets of `N` from `AT` on.
fn part<const N: usize, const M: usize, const AT: usize>(octets: &[u8; N]) -> [u8; M] {
    const { assert!(AT + M <= N) }
    core::array::from_fn(|index| octets.get(AT + index).copied().unwrap_or_default())
}

/// Overwrites `M` octets of `N` from `AT` on.
fn set_part<const N: usize, const M: usize, const AT: usize>(octets: &mut [u8; N], value: [u8; M]) {
    const { assert!(AT + M <= N) }
    for (to, from) in octets.iter_mut().skip(AT).zip(value) {
        *to = from;
    }
}

impl<const N: usize> Window<N> for &[u8; N] {
    fn octet<const AT: usize>(&self) -> u8 {
        let [value] = part::<N, 1, AT>(self);
        value
    }

    fn be16<const AT: usize>(&self) -> Be16 {
        Be16::from_raw(u16::from_ne_bytes(part::<N, 2, AT>(self)))
    }

    fn be32<const AT: usize>(&self) -> Be32 {
        Be32::from_raw(u32::from_ne_bytes(part::<N, 4, AT>(self)))
    }
}

impl<const N: usize> Window<N> for &mut [u8; N] {
    fn octet<const AT: usize>(&self) -> u8 {
        let [value] = part::<N, 1, AT>(self);
        value
    }

    fn be16<const AT: usize>(&self) -> Be16 {
        Be16::from_raw(u16::from_ne_bytes(part::<N, 2, AT>(self)))
    }

    fn be32<const AT: usize>(&self) -> Be32 {
        Be32::from_raw(u32::from_ne_bytes(part::<N, 4, AT>(self)))
    }
}

impl<const N: usize> WindowMut<N> for &mut [u8; N] {
    fn set_octet<const AT: usize>(&mut self, value: u8) {
        set_part::<N, 1, AT>(self, [value]);
    }

    fn set_be16<const AT: usize>(&mut self, value: Be16) {
        set_part::<N, 2, AT>(self, value.raw().to_ne_bytes());
    }

    fn set_be32<const AT: usize>(&mut self, value: Be32) {
        set_part::<N, 4, AT>(self, value.raw().to_ne_bytes());
    }
}
