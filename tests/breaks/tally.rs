//! What became of connections, and what must have happened to them for that to
//! mean anything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// What a change must do to the connections, or it shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// The router leads some to another node.
    Hop,
    /// The slots of some name another pod than theirs.
    Slot,
    /// Some reach their pods along the chain.
    Chain,
}

impl Need {
    /// What is said if it did not.
    const fn complaint(self) -> &'static str {
        match self {
            Self::Hop => "nothing was led to another node",
            Self::Slot => "no slot names another pod",
            Self::Chain => "no packet took the chain",
        }
    }
}

/// What one change did to the connections of one family.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Those that were led to another node than before.
    pub(crate) by_hop: BTreeSet<SocketAddr>,
    /// Those whose slot names another pod than theirs.
    pub(crate) by_slot: BTreeSet<SocketAddr>,
    /// Those whose slot names no pod on the node of theirs: no list leads to them.
    pub(crate) forgotten: usize,
    /// Packets that reached their pod along the chain.
    pub(crate) chained: u64,
    /// Flows of both families that were sent ahead to the owners of their slots.
    pub(crate) pushed: u64,
    /// Flows that some agent asked the others for, and found.
    pub(crate) located: u64,
    /// GENEVE packets.
    pub(crate) tunnelled: u64,
}

impl Step {
    fn did(&self, need: Need) -> bool {
        match need {
            Need::Hop => !self.by_hop.is_empty(),
            Need::Slot => !self.by_slot.is_empty(),
            Need::Chain => self.chained > 0,
        }
    }
}

/// What became of the connections of one family.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) family: &'static str,
    /// How many were opened.
    pub(crate) connections: usize,
    /// What the changes did that the event is about, all together.
    pub(crate) total: Step,
    /// What one of them did not do though it had to.
    pub(crate) missed: Option<String>,
    /// Those that did not go on though their pod lived.
    pub(crate) broken: usize,
    /// Why the first of them did not, or new ones went on failing.
    pub(crate) why: Option<String>,
    /// How long new connections failed, at most.
    pub(crate) recovery: Duration,
    /// UDP flows.
    pub(crate) udp_flows: usize,
    /// Those that another pod or none answered though theirs lived.
    pub(crate) udp_strayed: usize,
}

impl Tally {
    pub(crate) fn new(family: &'static str) -> Self {
        Self {
            family,
            connections: 0,
            total: Step::default(),
            missed: None,
            broken: 0,
            why: None,
            recovery: Duration::ZERO,
            udp_flows: 0,
            udp_strayed: 0,
        }
    }

    /// Adds what a change did that had to do something.
    pub(crate) fn add(&mut self, what: &str, needs: &[Need], step: Step) {
        let missed = needs.iter().find(|need| !step.did(**need));
        if let Some(need) = missed {
            let text = format!("{what}: {}", need.complaint());
            self.missed.get_or_insert(text);
        }
        let total = &mut self.total;
        total.by_hop.extend(step.by_hop);
        total.by_slot.extend(step.by_slot);
        total.forgotten += step.forgotten;
        total.chained += step.chained;
        total.pushed += step.pushed;
        total.located += step.located;
        total.tunnelled += step.tunnelled;
    }

    /// Connections that were led to another node or have another pod in their slot.
    pub(crate) fn moved(&self) -> usize {
        self.total.by_hop.union(&self.total.by_slot).count()
    }

    /// What did not happen though it had to.
    pub(crate) fn unused(&self, tunnels: bool) -> Option<String> {
        let total = &self.total;
        let reasons = [
            (
                total.forgotten > 0 && total.pushed + total.located == 0,
                "slots forgot pods, and nothing was pushed or located",
            ),
            (tunnels && total.tunnelled == 0, "no packet took the tunnel"),
        ];
        let reason = reasons
            .into_iter()
            .find_map(|(is, what)| is.then_some(what));
        self.missed.clone().or_else(|| reason.map(str::to_owned))
    }
}
