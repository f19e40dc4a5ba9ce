//! The object's maps and programs are those of `lb_common::abi` and
//! `lb_common::maps`.

use std::collections::BTreeMap;
use std::fs;

use aya_obj::generated::bpf_map_type::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_RINGBUF,
};
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type};
use harness::program::object_path;
use lb_common::abi::{map, program};
use lb_common::addr::{AddrWords, Be32};
use lb_common::drop::DropReason;
use lb_common::maps::{
    Backend, BackendKey4, BackendKey6, Config, Exception, Flow, FlowKey4, FlowKey6, Frontend,
    FrontendKey4, FrontendKey6, FrontendStats, Legacy, MacKey, Node, Slot, Tour, Vip,
};

/// Kind, octets of a key and of a value, flags.
type Layout = (u32, usize, usize, u32);

const fn of<K, V>(kind: bpf_map_type, flags: u32) -> Layout {
    (kind as u32, size_of::<K>(), size_of::<V>(), flags)
}

const fn array<V>(kind: bpf_map_type, flags: u32) -> Layout {
    of::<u32, V>(kind, flags)
}

/// A hash whose elements are allocated as they come.
const fn hash<K, V>() -> Layout {
    of::<K, V>(BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC)
}

#[test]
fn the_maps_of_the_object_are_those_of_the_contract() {
    let contract = BTreeMap::from([
        (map::CONFIG, array::<Config>(BPF_MAP_TYPE_ARRAY, 0)),
        (map::FRONTENDS4, hash::<FrontendKey4, Frontend>()),
        (map::FRONTENDS6, hash::<FrontendKey6, Frontend>()),
        (
            map::SLOTS,
            array::<Slot>(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE),
        ),
        (map::BACKENDS, array::<Backend>(BPF_MAP_TYPE_ARRAY, 0)),
        (map::NODES, array::<Node>(BPF_MAP_TYPE_ARRAY, 0)),
        (map::PEER_MACS, hash::<MacKey, u32>()),
        (map::PEER_ADDRS, hash::<AddrWords, u32>()),
        (map::BACKEND_INDEX4, hash::<BackendKey4, u32>()),
        (map::BACKEND_INDEX6, hash::<BackendKey6, u32>()),
        (map::VIPS4, hash::<Be32, Vip>()),
        (map::VIPS6, hash::<AddrWords, Vip>()),
        (
            map::HALF_OPEN4,
            of::<FlowKey4, Flow>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (
            map::HALF_OPEN6,
            of::<FlowKey6, Flow>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (map::ESTABLISHED4, hash::<FlowKey4, Flow>()),
        (map::ESTABLISHED6, hash::<FlowKey6, Flow>()),
        (
            map::UNANSWERED4,
            of::<FlowKey4, Flow>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (
            map::UNANSWERED6,
            of::<FlowKey6, Flow>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (map::UDP4, hash::<FlowKey4, Flow>()),
        (map::UDP6, hash::<FlowKey6, Flow>()),
        (
            map::EXCEPTIONS4,
            of::<FlowKey4, Exception>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (
            map::EXCEPTIONS6,
            of::<FlowKey6, Exception>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (map::LEGACY4, hash::<FlowKey4, Legacy>()),
        (map::LEGACY6, hash::<FlowKey6, Legacy>()),
        (map::EVENTS, of::<(), ()>(BPF_MAP_TYPE_RINGBUF, 0)),
        (map::EVENT_DUE, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::TOUR, array::<Tour>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::OUTCOMES, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::PROGRAMS, array::<u32>(BPF_MAP_TYPE_PROG_ARRAY, 0)),
        (
            map::PROGRAMS_LINEAR,
            array::<u32>(BPF_MAP_TYPE_PROG_ARRAY, 0),
        ),
        (
            map::FRONTEND_STATS,
            array::<FrontendStats>(BPF_MAP_TYPE_PERCPU_ARRAY, 0),
        ),
        (map::DROPS, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::REPLY_DUE, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::PEER_ADDRS, hash::<AddrWords, u32>()),
        (map::BACKEND_INDEX4, hash::<BackendKey4, u32>()),
        (map::BACKEND_INDEX6, hash::<BackendKey6, u32>()),
        (
            map::EXCEPTIONS4,
            of::<FlowKey4, Exception>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (
            map::EXCEPTIONS6,
            of::<FlowKey6, Exception>(BPF_MAP_TYPE_LRU_HASH, 0),
        ),
        (map::EVENTS, of::<(), ()>(BPF_MAP_TYPE_RINGBUF, 0)),
        (map::EVENT_DUE, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::TOUR, array::<Tour>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::OUTCOMES, array::<u64>(BPF_MAP_TYPE_PERCPU_ARRAY, 0)),
        (map::PROGRAMS, array::<u32>(BPF_MAP_TYPE_PROG_ARRAY, 0)),
        (
            map::PROGRAMS_LINEAR,
            array::<u32>(BPF_MAP_TYPE_PROG_ARRAY, 0),
        ),
    ]);
    let object = object();
    let is_ours = |name: &str| !name.starts_with('.');
    let found: BTreeMap<&str, Layout> = object
        .maps
        .iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, map)| {
            let (key, value) = (map.key_size() as usize, map.value_size() as usize);
            (name.as_str(), (map.map_type(), key, value, map.map_flags()))
        })
        .collect();
    assert_eq!(found, contract);
}

#[test]
fn every_drop_reason_has_a_counter() {
    let counters = object().maps[map::DROPS].max_entries();
    assert!(DropReason::ALL.len() <= counters as usize);
}

#[test]
fn the_programs_of_the_object_are_those_of_the_contract() {
    let object = object();
    let mut found: Vec<&str> = object.programs.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            program::EGRESS,
            program::INGRESS,
            program::INGRESS_LINEAR,
            program::RESUME,
            program::RESUME_LINEAR,
        ]
    );
}

fn object() -> aya_obj::Object {
    aya_obj::Object::parse(&fs::read(object_path()).unwrap()).unwrap()
}
