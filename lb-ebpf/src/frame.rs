//! The packet behind a program's context.
#![expect(
    unsafe_code,
    reason = "packet memory is reached through pointers that the verifier checks"
)]

use core::marker::PhantomData;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::addr::{Be16, Be32};
use lb_common::frame::{Frame, FrameMut, Window, WindowMut};

use crate::kernel;

/// The linear part of a frame in XDP. `FRAGS` says that there may be more, `PINNED` that the compiler is
/// to compute the address of a window once; see [`PacketWindow::within`].
pub(crate) struct XdpFrame<const FRAGS: bool, const PINNED: bool = false> {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl<const FRAGS: bool, const PINNED: bool> XdpFrame<FRAGS, PINNED> {
    /// The frame of a context.
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        let view = XdpContext::new(context);
        Self {
            context,
            start: view.data(),
            end: view.data_end(),
        }
    }

    /// The same frame, to be changed. What is known of it must not be used any more.
    #[inline(always)]
    pub(crate) fn again(&self) -> Self {
        Self::new(self.context)
    }

    /// Takes octets away from the front of the frame and adds others, which are not zeroed.
    #[inline(always)]
    pub(crate) fn shift(self, less: usize, more: usize) -> Option<Self> {
        kernel::adjust_head(self.context, less as i32 - more as i32)?;
        Some(Self::new(self.context))
    }

    /// Cuts or grows the frame at its end; what is added is not zeroed.
    #[inline(always)]
    pub(crate) fn resize(self, length: usize) -> Option<Self> {
        let delta = length as i32 - self.length() as i32;
        kernel::adjust_tail(self.context, delta)?;
        Some(Self::new(self.context))
    }
}

impl<const FRAGS: bool, const PINNED: bool> Frame for XdpFrame<FRAGS, PINNED> {
    type Window<'a, const N: usize>
        = PacketWindow<'a, N>
    where
        Self: 'a;

    #[inline(always)]
    fn length(&self) -> usize {
        if FRAGS {
            kernel::buffer_length(self.context)
        } else {
            self.end - self.start
        }
    }

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<PacketWindow<'_, N>> {
        PacketWindow::within::<PINNED>(self.start, self.end, offset)
    }
}

impl<const FRAGS: bool, const PINNED: bool> FrameMut for XdpFrame<FRAGS, PINNED> {
    type WindowMut<'a, const N: usize>
        = PacketWindow<'a, N>
    where
        Self: 'a;

    #[inline(always)]
    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<PacketWindow<'_, N>> {
        PacketWindow::within::<PINNED>(self.start, self.end, offset)
    }
}

/// The linear part of a frame in tc, to be read.
pub(crate) struct SkbFrame<'a> {
    context: &'a TcContext,
    start: usize,
    end: usize,
}

impl<'a> SkbFrame<'a> {
    /// Octets that hold every header that is looked at: two tags, the longest IPv4 header, TCP.
    const HEADERS: u32 = 22 + 60 + 20;

    /// The frame of a context, its headers made linear.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        let wanted = Self::HEADERS.min(context.len());
        if context.data() + wanted as usize > context.data_end() {
            // Too little memory leaves the packet as it was, and with it the windows that fit.
            let _ = context.pull_data(wanted);
        }
        Self {
            context,
            start: context.data(),
            end: context.data_end(),
        }
    }
}

impl Frame for SkbFrame<'_> {
    type Window<'a, const N: usize>
        = PacketWindow<'a, N>
    where
        Self: 'a;

    #[inline(always)]
    fn length(&self) -> usize {
        self.context.len() as usize
    }

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<PacketWindow<'_, N>> {
        PacketWindow::within::<false>(self.start, self.end, offset)
    }
}

/// `N` octets of packet memory.
pub(crate) struct PacketWindow<'a, const N: usize> {
    start: *mut u8,
    packet: PhantomData<&'a mut [u8; N]>,
}

impl<const N: usize> PacketWindow<'_, N> {
    /// Under pressure LLVM adds once for the comparison and again for an access, which are two pointers to
    /// the verifier. `PINNED` prevents that for a few nanoseconds a packet, which the first hop does not
    /// have to spend.
    #[inline(always)]
    fn within<const PINNED: bool>(start: usize, end: usize, offset: usize) -> Option<Self> {
        let mut start = start + offset;
        if PINNED {
            start = core::hint::black_box(start);
        }
        // The verifier takes this comparison, and no other form of it, as proof for the accesses below.
        if start + N > end {
            return None;
        }
        Some(Self {
            start: start as *mut u8,
            packet: PhantomData,
        })
    }

    #[inline(always)]
    fn at<T, const AT: usize>(&self) -> *mut T {
        const { assert!(AT + size_of::<T>() <= N) }
        // SAFETY: the assertion keeps it within the N octets that `within` found to be packet memory.
        unsafe { self.start.add(AT) }.cast()
    }

    // A load of BPF has no alignment; `read_unaligned` would be taken apart into loads of single octets.
    #[inline(always)]
    fn load<T: Copy, const AT: usize>(&self) -> T {
        // SAFETY: `at` gives packet memory of that size, and T is an integer.
        unsafe { *self.at::<T, AT>() }
    }

    #[inline(always)]
    fn store<T: Copy, const AT: usize>(&mut self, value: T) {
        // SAFETY: `at` gives packet memory of that size, which this window alone reaches.
        unsafe { *self.at::<T, AT>() = value }
    }
}

impl<const N: usize> Window<N> for PacketWindow<'_, N> {
    #[inline(always)]
    fn octet<const AT: usize>(&self) -> u8 {
        self.load::<u8, AT>()
    }

    #[inline(always)]
    fn be16<const AT: usize>(&self) -> Be16 {
        self.load::<Be16, AT>()
    }

    #[inline(always)]
    fn be32<const AT: usize>(&self) -> Be32 {
        self.load::<Be32, AT>()
    }
}

impl<const N: usize> WindowMut<N> for PacketWindow<'_, N> {
    #[inline(always)]
    fn set_octet<const AT: usize>(&mut self, value: u8) {
        self.store::<u8, AT>(value);
    }

    #[inline(always)]
    fn set_be16<const AT: usize>(&mut self, value: Be16) {
        self.store::<Be16, AT>(value);
    }

    #[inline(always)]
    fn set_be32<const AT: usize>(&mut self, value: Be32) {
        self.store::<Be32, AT>(value);
    }
}
