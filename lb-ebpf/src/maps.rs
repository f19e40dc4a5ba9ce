//! The maps, and how the decision sees them. Their names are those of
//! `lb_common::abi::map`.
#![expect(unsafe_code, reason = "map values are reached through pointers")]

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_md};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{AddrWords, Be32};
use lb_common::decide::{FamilyTables, Tables};
use lb_common::drop::DropReason;
use lb_common::family::{V4, V6};
use lb_common::flow::FlowTable;
use lb_common::limit;
use lb_common::maps::{
    Backend, BackendKey4, BackendKey6, Config, Event, Exception, Flow, FlowKey4, FlowKey6,
    Frontend, FrontendKey4, FrontendKey6, FrontendStats, Legacy, MacKey, Node, Slot, Tour, Vip,
};
use lb_common::outcome::Outcome;

use crate::kernel;

// Measured on packets that find a cold flow of 100,000 or a cold frontend of 10,000: allocating all
// elements ahead is no faster (the difference drowns in the noise), and it takes all the memory at once.
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const FRONTEND_COUNT: usize = 65_536;
const HALF_OPEN_COUNT: usize = 65_536;
const ESTABLISHED_COUNT: usize = 262_144;
const UNANSWERED_COUNT: usize = 65_536;
const UDP_COUNT: usize = 131_072;
const EXCEPTION_COUNT: usize = 131_072;
const LEGACY_COUNT: usize = 262_144;
const BACKEND_COUNT: usize = 1_048_576;
/// Room for 3,600 events.
const EVENT_BYTES: usize = 262_144;

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
static FRONTENDS4: HashMap<FrontendKey4, Frontend, FRONTEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static FRONTENDS6: HashMap<FrontendKey6, Frontend, FRONTEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SLOTS: Array<Slot, 4_194_304, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static BACKENDS: Array<Backend, BACKEND_COUNT> = Array::new();
#[btf_map]
static NODES: Array<Node, 4_096> = Array::new();
#[btf_map]
static PEER_MACS: HashMap<MacKey, u32, 4_096, NO_PREALLOC> = HashMap::new();
#[btf_map]
static PEER_ADDRS: HashMap<AddrWords, u32, 8_192, NO_PREALLOC> = HashMap::new();
#[btf_map]
static BACKEND_INDEX4: HashMap<BackendKey4, u32, BACKEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static BACKEND_INDEX6: HashMap<BackendKey6, u32, BACKEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static VIPS4: HashMap<Be32, Vip, FRONTEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static VIPS6: HashMap<AddrWords, Vip, FRONTEND_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static HALF_OPEN4: LruHashMap<FlowKey4, Flow, HALF_OPEN_COUNT> = LruHashMap::new();
#[btf_map]
static HALF_OPEN6: LruHashMap<FlowKey6, Flow, HALF_OPEN_COUNT> = LruHashMap::new();
#[btf_map]
static ESTABLISHED4: HashMap<FlowKey4, Flow, ESTABLISHED_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static ESTABLISHED6: HashMap<FlowKey6, Flow, ESTABLISHED_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static UNANSWERED4: LruHashMap<FlowKey4, Flow, UNANSWERED_COUNT> = LruHashMap::new();
#[btf_map]
static UNANSWERED6: LruHashMap<FlowKey6, Flow, UNANSWERED_COUNT> = LruHashMap::new();
#[btf_map]
static UDP4: HashMap<FlowKey4, Flow, UDP_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static UDP6: HashMap<FlowKey6, Flow, UDP_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static EXCEPTIONS4: LruHashMap<FlowKey4, Exception, EXCEPTION_COUNT> = LruHashMap::new();
#[btf_map]
static EXCEPTIONS6: LruHashMap<FlowKey6, Exception, EXCEPTION_COUNT> = LruHashMap::new();
#[btf_map]
static LEGACY4: HashMap<FlowKey4, Legacy, LEGACY_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static LEGACY6: HashMap<FlowKey6, Legacy, LEGACY_COUNT, NO_PREALLOC> = HashMap::new();
#[btf_map]
static EVENTS: RingBuf<Event, EVENT_BYTES> = RingBuf::new();
#[btf_map]
static EVENT_DUE: PerCpuArray<u64, { limit::EVENT_BUCKETS as usize }> = PerCpuArray::new();
#[btf_map]
static TOUR: PerCpuArray<Tour, 1> = PerCpuArray::new();
#[btf_map]
static OUTCOMES: PerCpuArray<u64, 64> = PerCpuArray::new();
// The kernel lets a program with `frags` call only such programs, so there is an array of each kind.
#[btf_map]
static PROGRAMS: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static PROGRAMS_LINEAR: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static FRONTEND_STATS: PerCpuArray<FrontendStats, FRONTEND_COUNT> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, 64> = PerCpuArray::new();
#[btf_map]
static REPLY_DUE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The maps above.
pub(crate) struct KernelTables;

impl KernelTables {
    /// The tour of the packet at hand.
    #[inline(always)]
    pub(crate) fn tour(&self) -> Option<&Tour> {
        TOUR.get(0)
    }
}

/// Goes on in the program that resumes. Returns only if it is not there.
#[inline(always)]
pub(crate) fn resume<const FRAGS: bool>(context: *mut xdp_md) {
    let context = XdpContext::new(context);
    if FRAGS {
        // SAFETY: nothing here has a destructor.
        unsafe { PROGRAMS.tail_call(&context, 0) }
    } else {
        // SAFETY: nothing here has a destructor.
        unsafe { PROGRAMS_LINEAR.tail_call(&context, 0) }
    }
}

macro_rules! family_tables {
    ($family:ty, $frontend_key:ty, $address:ty, $flow_key:ty, $backend_key:ty,
     $frontends:ident, $vips:ident, $half_open:ident, $established:ident, $unanswered:ident,
     $udp:ident, $exceptions:ident, $legacy:ident, $backend_index:ident) => {
        impl FamilyTables<$family> for KernelTables {
            #[inline(always)]
            fn frontend(&self, key: &$frontend_key) -> Option<Frontend> {
                // SAFETY: the value is copied at once; user space replaces elements, never edits them.
                unsafe { $frontends.get(key) }.copied()
            }

            #[inline(always)]
            fn vip(&self, address: &$address) -> Option<Vip> {
                // SAFETY: the value is copied at once; user space replaces elements, never edits them.
                unsafe { $vips.get(address) }.copied()
            }

            #[inline(always)]
            fn with_flow<R>(
                &self,
                table: FlowTable,
                key: &$flow_key,
                access: impl FnOnce(&mut Flow) -> R,
            ) -> Option<R> {
                let flow = match table {
                    FlowTable::HalfOpen => $half_open.get_ptr_mut(key),
                    FlowTable::Established => $established.get_ptr_mut(key),
                    FlowTable::Unanswered => $unanswered.get_ptr_mut(key),
                    FlowTable::Udp => $udp.get_ptr_mut(key),
                }?;
                // SAFETY: the element outlives the program run. Another CPU may write it too: a flow's
                // fields stand alone, and a lost bit of state is set again by a retransmission.
                Some(access(unsafe { &mut *flow }))
            }

            #[inline(always)]
            fn insert_flow(&self, table: FlowTable, key: &$flow_key, flow: &Flow) -> bool {
                match table {
                    FlowTable::HalfOpen => $half_open.insert(key, flow, 0),
                    FlowTable::Established => $established.insert(key, flow, 0),
                    FlowTable::Unanswered => $unanswered.insert(key, flow, 0),
                    FlowTable::Udp => $udp.insert(key, flow, 0),
                }
                .is_ok()
            }

            #[inline(always)]
            fn remove_flow(&self, table: FlowTable, key: &$flow_key) {
                // That there is no such entry is what the caller wants.
                let _ = match table {
                    FlowTable::HalfOpen => $half_open.remove(key),
                    FlowTable::Established => $established.remove(key),
                    FlowTable::Unanswered => $unanswered.remove(key),
                    FlowTable::Udp => $udp.remove(key),
                };
            }

            #[inline(always)]
            fn with_exception<R>(
                &self,
                key: &$flow_key,
                access: impl FnOnce(&mut Exception) -> R,
            ) -> Option<R> {
                let exception = $exceptions.get_ptr_mut(key)?;
                // SAFETY: the element outlives the program run; its fields stand alone.
                Some(access(unsafe { &mut *exception }))
            }

            #[inline(always)]
            fn remove_exception(&self, key: &$flow_key) {
                // That there is no such entry is what the caller wants.
                let _ = $exceptions.remove(key);
            }

            #[inline(always)]
            fn with_legacy<R>(
                &self,
                key: &$flow_key,
                access: impl FnOnce(&mut Legacy) -> R,
            ) -> Option<R> {
                let legacy = $legacy.get_ptr_mut(key)?;
                // SAFETY: the element outlives the program run; its fields stand alone.
                Some(access(unsafe { &mut *legacy }))
            }

            #[inline(always)]
            fn insert_legacy(&self, key: &$flow_key, legacy: &Legacy) {
                // Without room the flow is as any that came later.
                let _ = $legacy.insert(key, legacy, 0);
            }

            #[inline(always)]
            fn remove_legacy(&self, key: &$flow_key) {
                // That there is no such entry is what the caller wants.
                let _ = $legacy.remove(key);
            }

            #[inline(always)]
            fn backend_index(&self, key: &$backend_key) -> Option<u32> {
                // SAFETY: the value is copied at once; user space replaces elements, never edits them.
                unsafe { $backend_index.get(key) }.copied()
            }
        }
    };
}

family_tables!(
    V4,
    FrontendKey4,
    Be32,
    FlowKey4,
    BackendKey4,
    FRONTENDS4,
    VIPS4,
    HALF_OPEN4,
    ESTABLISHED4,
    UNANSWERED4,
    UDP4,
    EXCEPTIONS4,
    LEGACY4,
    BACKEND_INDEX4
);
family_tables!(
    V6,
    FrontendKey6,
    AddrWords,
    FlowKey6,
    BackendKey6,
    FRONTENDS6,
    VIPS6,
    HALF_OPEN6,
    ESTABLISHED6,
    UNANSWERED6,
    UDP6,
    EXCEPTIONS6,
    LEGACY6,
    BACKEND_INDEX6
);

impl Tables for KernelTables {
    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        CONFIG.get(0)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        SLOTS.get(index).copied()
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<&Backend> {
        BACKENDS.get(index)
    }

    #[inline(always)]
    fn node(&self, number: u32) -> Option<&Node> {
        NODES.get(number)
    }

    #[inline(always)]
    fn is_peer(&self, mac: &MacKey) -> bool {
        PEER_MACS.get_ptr(mac).is_some()
    }

    #[inline(always)]
    fn peer_at(&self, address: &AddrWords) -> Option<u32> {
        // SAFETY: the value is copied at once; user space replaces elements, never edits them.
        unsafe { PEER_ADDRS.get(address) }.copied()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        kernel::now()
    }

    #[inline(always)]
    fn count_drop(&self, reason: DropReason) {
        if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
            // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn count_frontend(&self, id: u32, more: &FrontendStats) {
        if let Some(stats) = FRONTEND_STATS.get_ptr_mut(id) {
            // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
            let stats = unsafe { &mut *stats };
            stats.packets += more.packets;
            stats.bytes += more.bytes;
            stats.flows += more.flows;
            stats.delivered += more.delivered;
        }
    }

    #[inline(always)]
    fn count(&self, outcome: Outcome) {
        if let Some(count) = OUTCOMES.get_ptr_mut(outcome as u32) {
            // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn with_tour<R>(&self, access: impl FnOnce(&mut Tour) -> R) -> Option<R> {
        let tour = TOUR.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
        Some(access(unsafe { &mut *tour }))
    }

    #[inline(always)]
    fn emit(&self, event: Event) -> bool {
        let Some(mut entry) = EVENTS.reserve(0) else {
            return false;
        };
        entry.write(event);
        entry.submit(0);
        true
    }

    #[inline(always)]
    fn with_event_due<R>(&self, bucket: u32, access: impl FnOnce(&mut u64) -> R) -> Option<R> {
        let due = EVENT_DUE.get_ptr_mut(bucket)?;
        // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
        Some(access(unsafe { &mut *due }))
    }

    #[inline(always)]
    fn with_reply_due<R>(&self, access: impl FnOnce(&mut u64) -> R) -> Option<R> {
        let due = REPLY_DUE.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's, and no program interrupts another of ours on a CPU.
        Some(access(unsafe { &mut *due }))
    }
}
