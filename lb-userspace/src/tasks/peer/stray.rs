//! Finds flows of this node that their slots do not remember any more.

use std::net::SocketAddr;

use crate::datapath::flows::{FlowError, FlowName, FlowWalk, OwnFlow};
use crate::plan::layout::{Layout, Scope};

/// A flow that today's table does not lead to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stray {
    pub(super) flow: FlowName,
    pub(super) pod: SocketAddr,
    pub(super) slot: u32,
    /// The node of `c0`, if it is another one.
    pub(super) owner: Option<String>,
}

/// The stray flows of some slots.
///
/// # Errors
/// The flows cannot be read.
pub(super) fn find(
    walk: &FlowWalk,
    layout: &Layout,
    scope: &Scope,
) -> Result<Vec<Stray>, FlowError> {
    let mut strays = Vec::new();
    if let Some(key) = layout.flow_key() {
        walk.run(|name, flow| strays.extend(judge(layout, key, scope, name, flow)))?;
    }
    Ok(strays)
}

/// The flow, if it is of one of the slots and stray.
pub(super) fn judge(
    layout: &Layout,
    key: &[u64; 4],
    scope: &Scope,
    flow: FlowName,
    own: OwnFlow,
) -> Option<Stray> {
    let table = layout.frontend(&flow.frontend)?;
    let slot = table.slot_of(flow.hash(key, table.has_client_affinity()));
    if !scope.has(&flow.frontend, slot) {
        return None;
    }
    let (number, member) = table.member_at(own.backend)?;
    let owners = table.slots().get(slot as usize)?.owners();
    if member.generation() != own.generation || owners.contains(&number) {
        return None;
    }
    let [current, ..] = owners;
    let owner = table.member(current).filter(|member| !member.is_local());
    Some(Stray {
        flow,
        pod: own.pod,
        slot,
        owner: owner.map(|member| member.node.to_string()),
    })
}
