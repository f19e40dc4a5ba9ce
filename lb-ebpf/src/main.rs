//! The XDP and tc programs: what arrives on the compute port, and the replies
//! that leave.
//!
//! They decide nothing: `lb_common::decide` does. `frame` gives it the packet, `maps` the tables, `kernel`
//! wraps the helpers that change a packet's size or keep its checksums.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand the context over by value"
)]

mod frame;
mod kernel;
mod maps;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::decide::{self, Act, EgressVerdict, Encapsulation, Tables, Verdict};
use lb_common::drop::DropReason;
use lb_common::family::Version;
use lb_common::maps::Tour;
use lb_common::rewrite;
use lb_common::wire::eth::{EthHeader, Front, ether_type};

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

/// Where the first goes on.
#[xdp(frags)]
pub(crate) fn torline_resume(context: XdpContext) -> u32 {
    resume::<true>(context.ctx)
}

/// Where the second goes on.
#[xdp]
pub(crate) fn torline_resume_linear(context: XdpContext) -> u32 {
    resume::<false>(context.ctx)
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

/// What the functions below return for [`Verdict::Pass`]; no action of XDP.
const UNTOUCHED: u32 = u32::MAX;

#[inline(always)]
fn ingress<const FRAGS: bool>(context: *mut xdp_md) -> u32 {
    let ethernet = EthHeader::read(&XdpFrame::<FRAGS>::new(context));
    let action = match ethernet.map(|ethernet| ethernet.ether_type) {
        Some(ether_type::IPV4) => ingress_v4::<FRAGS>(context as usize),
        Some(ether_type::IPV6) => ingress_v6::<FRAGS>(context as usize),
        Some(ether_type::ARP) => ingress_arp::<FRAGS>(context as usize),
        _ => return xdp_action::XDP_PASS,
    };
    match action {
        RESUME => {}
        // Last, so that no packet for a VIP pays for it.
        UNTOUCHED => return ingress_probe::<FRAGS>(context as usize),
        action => return action,
    }
    // From here and not from where it is decided: below a tail call the kernel leaves half the stack.
    maps::resume::<FRAGS>(context);
    KernelTables.count_drop(DropReason::NotResumed);
    xdp_action::XDP_DROP
}

#[inline(always)]
fn resume<const FRAGS: bool>(context: *mut xdp_md) -> u32 {
    let context = context as usize;
    let version = arrive::<FRAGS>(context);
    let action = if version == 4 && authenticate_v4::<FRAGS>(context) != 0 {
        let mut action = receive_v4::<FRAGS>(context);
        if action == RESUME {
            action = resume_v4::<FRAGS>(context);
        }
        match action {
            CHOOSE => {
                action = choose_v4::<FRAGS>(context);
                if action == RENUMBER {
                    action = renumber_v4::<FRAGS>(context);
                }
                if action == BEGIN {
                    action = begin_v4::<FRAGS>(context);
                }
                action
            }
            REFUSE => refuse_v4::<FRAGS>(context),
            DEPART => match depart_v4::<FRAGS>(context) {
                TOO_BIG => complain_v4::<FRAGS>(context),
                action => action,
            },
            action => action,
        }
    } else if version == 6 && authenticate_v6::<FRAGS>(context) != 0 {
        let mut action = receive_v6::<FRAGS>(context);
        if action == RESUME {
            action = resume_v6::<FRAGS>(context);
        }
        match action {
            CHOOSE => {
                action = choose_v6::<FRAGS>(context);
                if action == RENUMBER {
                    action = renumber_v6::<FRAGS>(context);
                }
                if action == BEGIN {
                    action = begin_v6::<FRAGS>(context);
                }
                action
            }
            REFUSE => refuse_v6::<FRAGS>(context),
            DEPART => match depart_v6::<FRAGS>(context) {
                TOO_BIG => complain_v6::<FRAGS>(context),
                action => action,
            },
            action => action,
        }
    } else {
        UNTOUCHED
    };
    // No probe: the program before this one does not hand them on.
    if action == UNTOUCHED {
        return xdp_action::XDP_PASS;
    }
    action
}

/// The frame as the program that resumes sees it.
type Resumed<const FRAGS: bool> = XdpFrame<FRAGS, true>;

/// The same for [`Verdict::Resume`].
const RESUME: u32 = u32::MAX - 1;
/// The same for [`Verdict::Begin`].
const BEGIN: u32 = u32::MAX - 2;
/// The same for [`Verdict::Depart`].
const DEPART: u32 = u32::MAX - 3;
/// The same for [`Verdict::Refuse`].
const REFUSE: u32 = u32::MAX - 4;
/// The same for [`Verdict::TooBig`].
const TOO_BIG: u32 = u32::MAX - 5;
/// The same for [`Verdict::Renumber`].
const RENUMBER: u32 = u32::MAX - 6;
/// The same for [`Verdict::Choose`].
const CHOOSE: u32 = u32::MAX - 7;

// All of these take the context as a number: of a pointer, LLVM would pass what it points to, which the
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

/// The IP version of the packet, as a number; 0 if it is not for us.
#[inline(never)]
fn arrive<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    match decide::arrive(&frame, &KernelTables) {
        Some(Version::V4) => 4,
        Some(Version::V6) => 6,
        None => 0,
    }
}

#[inline(never)]
fn authenticate_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    u32::from(decide::authenticate_v4(&frame, &KernelTables))
}

#[inline(never)]
fn authenticate_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    u32::from(decide::authenticate_v6(&frame, &KernelTables))
}

#[inline(never)]
fn receive_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::receive_v4(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn receive_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::receive_v6(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn resume_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::resume_v4(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn resume_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::resume_v6(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn begin_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::begin_v4(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn begin_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::begin_v6(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn choose_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::choose_v4(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn renumber_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::renumber_v4(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn choose_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::choose_v6(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn renumber_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    let verdict = decide::renumber_v6(&frame, &KernelTables);
    act(frame, verdict)
}

#[inline(never)]
fn refuse_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::refuse_v4(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn refuse_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::refuse_v6(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn depart_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::depart_v4(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn depart_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::depart_v6(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn complain_v4<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::complain_v4(&frame, &KernelTables, &frame)
}

#[inline(never)]
fn complain_v6<const FRAGS: bool>(context: usize) -> u32 {
    let frame = Resumed::<FRAGS>::new(context as *mut xdp_md);
    decide::complain_v6(&frame, &KernelTables, &frame)
}

impl<const FRAGS: bool> Act for Resumed<FRAGS> {
    type Result = u32;

    /// Does what the verdict says to a frame that may have come through a tunnel.
    #[inline(always)]
    fn act(&self, verdict: Verdict) -> u32 {
        let Some(tour) = KernelTables.tour() else {
            return not_rewritable();
        };
        let (frame, strip) = (self.again(), usize::from(tour.strip));
        if strip == 0 {
            return match verdict {
                Verdict::Encapsulate(way) => encapsulate(frame, &way, tour),
                verdict => act(frame, verdict),
            };
        }
        match verdict {
            Verdict::Encapsulate(way) => encapsulate(frame, &way, tour),
            Verdict::Deliver(delivery) => match decapsulate(frame, strip, delivery.version) {
                Some((frame, at)) => act(frame, Verdict::Deliver(delivery.moved_to(at))),
                None => not_rewritable(),
            },
            Verdict::Reply(reply) => match decapsulate(frame, strip, reply.version) {
                Some((frame, at)) => act(frame, Verdict::Reply(reply.moved_to(at))),
                None => not_rewritable(),
            },
            verdict => act(frame, verdict),
        }
    }
}

#[inline(always)]
fn encapsulate<const FRAGS: bool>(frame: Resumed<FRAGS>, way: &Encapsulation, tour: &Tour) -> u32 {
    match try_encapsulate(frame, way, tour) {
        Some(()) => xdp_action::XDP_TX,
        None => not_rewritable(),
    }
}

#[inline(always)]
fn try_encapsulate<const FRAGS: bool>(
    frame: Resumed<FRAGS>,
    way: &Encapsulation,
    tour: &Tour,
) -> Option<()> {
    let (node, config) = (KernelTables.node(way.node)?, KernelTables.config()?);
    let front = Front::read(&frame)?;
    let mut frame = frame.shift(usize::from(tour.strip), rewrite::overhead(node, tour))?;
    rewrite::encapsulate(&mut frame, way, front, node, config, tour)
}

/// Takes the tunnel off; the frame without it, and where the packet's IP header begins in it.
#[inline(always)]
fn decapsulate<const FRAGS: bool>(
    frame: Resumed<FRAGS>,
    strip: usize,
    version: Version,
) -> Option<(Resumed<FRAGS>, usize)> {
    let front = Front::read(&frame)?;
    let mut frame = frame.shift(strip, 0)?;
    rewrite::decapsulate(&mut frame, front, version)?;
    Some((frame, front.length()))
}

#[inline(always)]
fn not_rewritable() -> u32 {
    KernelTables.count_drop(DropReason::NotRewritable);
    xdp_action::XDP_DROP
}

#[inline(always)]
fn act<const FRAGS: bool, const PINNED: bool>(
    mut frame: XdpFrame<FRAGS, PINNED>,
    verdict: Verdict,
) -> u32 {
    let (done, action) = match verdict {
        Verdict::Pass => return UNTOUCHED,
        Verdict::Resume => return RESUME,
        Verdict::Begin => return BEGIN,
        Verdict::Renumber => return RENUMBER,
        Verdict::Choose => return CHOOSE,
        Verdict::Depart => return DEPART,
        Verdict::Refuse => return REFUSE,
        Verdict::TooBig => return TOO_BIG,
        // Comes from a departure alone, which deals with it before.
        Verdict::Encapsulate(_) => return not_rewritable(),
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
        None => not_rewritable(),
    }
}

// Nothing panics: the code holds no indexing, no overflow checks and no division by a variable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
