//! The XDP and tc programs: what arrives on the compute port, and the replies that leave.
//!
//! They decide nothing: `lb_common::decide` does. `frame` gives it the packet, `maps` the tables, `kernel`
//! wraps the helpers that change a packet's size or keep its checksums.
#![no_std]
#![no_main]

mod frame;
mod kernel;
mod maps;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::decide::{self, EgressVerdict, Tables, Verdict};
use lb_common::drop::DropReason;
use lb_common::rewrite;
use lb_common::wire::eth::{EthHeader, ether_type};

use crate::frame::{SkbFrame, XdpFrame};
use crate::maps::KernelTables;

/// For drivers and kernels with multi-buffer XDP.
#[xdp(frags)]
pub(crate) fn torline_ingress(context: XdpContext) -> u32 {
    ingress::<true>(context.ctx)
}

/// For drivers and kernels without it.
#[xdp]
pub(crate) fn torline_ingress_linear(context: XdpContext) -> u32 {
    ingress::<false>(context.ctx)
}

/// On every interface through which clients are reached.
#[classifier]
pub(crate) fn torline_egress(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    if let EgressVerdict::Translate(translation) = decide::egress(&frame, &KernelTables)
        && kernel::translate_source(&context, &translation).is_none()
    {
        KernelTables.count_drop(DropReason::NotRewritable);
    }
    // Whatever else is attached to the interface has its turn.
    TC_ACT_UNSPEC
}

/// What the subprograms give for a frame that the rest may look at.
const UNTOUCHED: u32 = u32::MAX;

#[inline(always)]
fn ingress<const FRAGS: bool>(context: *mut xdp_md) -> u32 {
    let frame = XdpFrame::<FRAGS>::new(context);
    let action = match EthHeader::read(&frame).map(|ethernet| ethernet.ether_type) {
        Some(ether_type::IPV4) => ingress_v4::<FRAGS>(context as usize),
        Some(ether_type::IPV6) => ingress_v6::<FRAGS>(context as usize),
        Some(ether_type::ARP) => ingress_arp::<FRAGS>(context as usize),
        _ => return xdp_action::XDP_PASS,
    };
    // Last, so that no packet for a VIP pays for it.
    if action == UNTOUCHED {
        return ingress_probe::<FRAGS>(context as usize);
    }
    action
}

// The four take the context as a number: of a pointer, LLVM would pass what it points to, which the
// verifier does not follow.

#[inline(never)]
fn ingress_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = XdpFrame::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::ingress_v4(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn ingress_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = XdpFrame::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::ingress_v6(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn ingress_arp<const FRAGS: bool>(context: usize) -> u32 {
    let frame = XdpFrame::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::ingress_arp(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn ingress_probe<const FRAGS: bool>(context: usize) -> u32 {
    let mut frame = XdpFrame::<FRAGS>::new(context as *mut xdp_md);
    let Some(answer) = decide::answer_probe(&frame, &KernelTables) else {
        return xdp_action::XDP_PASS;
    };
    let done = rewrite::answer_probe(&mut frame, &answer);
    finish(done, xdp_action::XDP_TX)
}

#[inline(always)]
fn act<const FRAGS: bool>(mut frame: XdpFrame<FRAGS>, verdict: Verdict) -> u32 {
    let (done, action) = match verdict {
        Verdict::Pass => return UNTOUCHED,
        Verdict::Drop(reason) => {
            KernelTables.count_drop(reason);
            return xdp_action::XDP_DROP;
        }
        Verdict::Forward(hop) => (rewrite::forward(&mut frame, &hop), xdp_action::XDP_TX),
        Verdict::Deliver(delivery) => (
            rewrite::deliver(&mut frame, &delivery),
            xdp_action::XDP_PASS,
        ),
        Verdict::Reply(reply) => {
            let resized = match rewrite::reply_length(&reply) {
                Some(length) => frame.resize(length),
                None => Some(frame),
            };
            let done = match resized {
                Some(mut frame) => rewrite::reply(&mut frame, &reply),
                None => None,
            };
            (done, xdp_action::XDP_TX)
        }
    };
    finish(done, action)
}

#[inline(always)]
fn finish(done: Option<()>, action: u32) -> u32 {
    match done {
        Some(()) => action,
        None => {
            KernelTables.count_drop(DropReason::NotRewritable);
            xdp_action::XDP_DROP
        }
    }
}

// Nothing panics: the code holds no indexing, no overflow checks and no division by a variable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
