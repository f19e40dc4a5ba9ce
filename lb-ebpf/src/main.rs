//! The XDP and tc programs: what arrives on the compute port, and the replies that leave.
//!
//! They decide nothing: `lb_common::decide` does. `frame` gives it the packet, `maps` the tables, `kernel`
//! wraps the helpers that change a packet's size or keep its checksums.
#![no_std]
#![no_main]

mod frame;
mod kernel;
mod maps;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::decide::{self, EgressVerdict, Tables, Verdict};
use lb_common::drop::DropReason;
use lb_common::rewrite;

use crate::frame::{SkbFrame, XdpFrame};
use crate::maps::KernelTables;

/// For drivers and kernels with multi-buffer XDP.
#[xdp(frags)]
pub(crate) fn torline_ingress(context: XdpContext) -> u32 {
    ingress(XdpFrame::<true>::new(&context))
}

/// For drivers and kernels without it.
#[xdp]
pub(crate) fn torline_ingress_linear(context: XdpContext) -> u32 {
    ingress(XdpFrame::<false>::new(&context))
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

#[inline(always)]
fn ingress<const FRAGS: bool>(mut frame: XdpFrame<'_, FRAGS>) -> u32 {
    let (done, action) = match decide::ingress(&frame, &KernelTables) {
        Verdict::Pass => return xdp_action::XDP_PASS,
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
            let done = resized.and_then(|mut frame| rewrite::reply(&mut frame, &reply));
            (done, xdp_action::XDP_TX)
        }
    };
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
