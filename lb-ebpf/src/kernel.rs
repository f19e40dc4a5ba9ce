//! Safe wrappers of the helpers that change a packet or tell the time.
#![expect(unsafe_code, reason = "BPF helpers are foreign functions")]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, xdp_md};
use aya_ebpf::helpers;
use aya_ebpf::programs::TcContext;
use lb_common::addr::{Be16, Be32};
use lb_common::decide::SourceTranslation;
use lb_common::family::Version;
use lb_common::wire::protocol;

/// Licence that the kernel asks for; it is that of `lb-ebpf` alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { helpers::bpf_ktime_get_ns() }
}

/// Moves the end of a frame. Whatever pointed into it must be taken anew.
#[inline(always)]
pub(crate) fn adjust_tail(context: *mut xdp_md, delta: i32) -> Option<()> {
    // SAFETY: the context is the program's own.
    let result = unsafe { helpers::bpf_xdp_adjust_tail(context, delta) };
    (result == 0).then_some(())
}

/// Moves the beginning of a frame, forwards if `delta` is positive. Whatever pointed into it must be taken
/// anew.
#[inline(always)]
pub(crate) fn adjust_head(context: *mut xdp_md, delta: i32) -> Option<()> {
    // SAFETY: the context is the program's own.
    let result = unsafe { helpers::bpf_xdp_adjust_head(context, delta) };
    (result == 0).then_some(())
}

/// Length of a frame with all its buffers.
#[inline(always)]
pub(crate) fn buffer_length(context: *mut xdp_md) -> usize {
    // SAFETY: the context is the program's own.
    unsafe { helpers::bpf_xdp_get_buff_len(context) as usize }
}

/// Gives a packet another source and another destination port, whatever state its checksums are in.
#[inline(always)]
pub(crate) fn translate_source(context: &TcContext, translation: &SourceTranslation) -> Option<()> {
    let network = translation.network as u32;
    let transport = translation.transport as u32;
    let (checksum, zero) = if translation.protocol == protocol::UDP {
        (transport + 6, u64::from(BPF_F_MARK_MANGLED_0))
    } else {
        (transport + 16, 0)
    };
    let [old, ..] = translation.old_address;
    let [new, ..] = translation.address;
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | zero | 4;
    match translation.version {
        Version::V4 => {
            replace_l4(context, checksum, old, new, pseudo)?;
            replace_l3(context, network + 10, old, new)?;
            store(context, network + 12, &new)?;
        }
        Version::V6 => {
            for (old, new) in translation.old_address.into_iter().zip(translation.address) {
                replace_l4(context, checksum, old, new, pseudo)?;
            }
            store(context, network + 8, &translation.address)?;
        }
    }
    let (old, new) = (translation.old_ports, translation.ports);
    replace_l4(context, checksum, old, new, zero | 4)?;
    store(context, transport, &new)?;
    let mss = &translation.mss;
    if mss.offset == 0 {
        return Some(());
    }
    let (old, new) = mss.words();
    replace_l4(context, checksum, widen(old), widen(new), 2)?;
    store(context, transport + mss.offset as u32, &mss.new)
}

/// A 16-bit word as the checksum helpers take it.
#[inline(always)]
fn widen(word: Be16) -> Be32 {
    Be32::from_raw(u32::from(word.raw()))
}

#[inline(always)]
fn replace_l3(context: &TcContext, offset: u32, old: Be32, new: Be32) -> Option<()> {
    // SAFETY: the context is the program's own.
    let result = unsafe {
        helpers::bpf_l3_csum_replace(
            context.as_ptr().cast(),
            offset,
            u64::from(old.raw()),
            u64::from(new.raw()),
            4,
        )
    };
    (result == 0).then_some(())
}

#[inline(always)]
fn replace_l4(context: &TcContext, offset: u32, old: Be32, new: Be32, flags: u64) -> Option<()> {
    // SAFETY: the context is the program's own.
    let result = unsafe {
        helpers::bpf_l4_csum_replace(
            context.as_ptr().cast(),
            offset,
            u64::from(old.raw()),
            u64::from(new.raw()),
            flags,
        )
    };
    (result == 0).then_some(())
}

#[inline(always)]
fn store<V>(context: &TcContext, offset: u32, value: &V) -> Option<()> {
    // SAFETY: the context is the program's own, and the helper reads the value's own octets.
    let result = unsafe {
        helpers::bpf_skb_store_bytes(
            context.as_ptr().cast(),
            offset,
            core::ptr::from_ref(value).cast(),
            size_of::<V>() as u32,
            0,
        )
    };
    (result == 0).then_some(())
}
