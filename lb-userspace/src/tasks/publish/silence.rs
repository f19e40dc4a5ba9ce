//! Tells of Services that should be announced and are not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Inputs;
use crate::k8s::status::StatusWriter;
use crate::model::intent::Intent;
use crate::model::name::ObjectName;
use crate::plan::announce::nowhere::nowhere;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3);

/// What lasts longer than that is no moment between two objects that belong together.
const GRACE: Duration = Duration::from_secs(5);

/// Events of one look at most.
const EVENTS: usize = 50;

/// Reason and note of an event.
type Why = (&'static str, String);

/// What is known of Services that are not announced.
#[derive(Default)]
pub(super) struct Silence {
    looked: Option<Instant>,
    /// Since when, and whether it was told.
    known: BTreeMap<ObjectName, (Why, Instant, bool)>,
}

impl Silence {
    /// Looks, unless it has just looked, and tells what has lasted.
    pub(super) async fn look(&mut self, inputs: &Inputs, writer: &mut StatusWriter, now: Instant) {
        if self.looked.is_some_and(|at| now.duration_since(at) < LOOK) {
            return;
        }
        self.looked = Some(now);
        for (service, (reason, note)) in self.learn(found(inputs), now) {
            writer.tell(&service, reason, note).await;
        }
    }

    /// What is to be told now.
    fn learn(&mut self, found: BTreeMap<ObjectName, Why>, now: Instant) -> Vec<(ObjectName, Why)> {
        let mut before = std::mem::take(&mut self.known);
        let mut news = Vec::new();
        for (service, why) in found {
            let known = before
                .remove(&service)
                .filter(|(known, _, _)| *known == why);
            let (why, since, mut is_told) = known.unwrap_or((why, now, false));
            if !is_told && now.duration_since(since) >= GRACE && news.len() < EVENTS {
                news.push((service.clone(), why.clone()));
                is_told = true;
            }
            self.known.insert(service, (why, since, is_told));
        }
        news
    }
}

/// Services that are not announced as they should be, as far as this node tells of them.
fn found(inputs: &Inputs) -> BTreeMap<ObjectName, Why> {
    let cluster = inputs.snapshots.borrow().cluster.clone();
    let desired = inputs.desired.borrow().clone();
    let Intent {
        dataplane,
        services,
        ..
    } = &desired.intent;
    let mut found = BTreeMap::new();
    for (name, state) in services {
        let leads = state.l2_leader.as_ref() == Some(&dataplane.node);
        let answers = |addr| {
            let vip = dataplane.vips.get(addr);
            vip.is_some_and(|vip| vip.answer_neighbors)
        };
        if leads && !state.l2_interfaces.is_empty() && !state.addresses.iter().any(answers) {
            let note = format!(
                "node \"{}\" is to answer ARP and NDP, and has none of the interfaces that \
                 L2Advertisements list: {:?}",
                dataplane.node, state.l2_interfaces
            );
            found.insert(name.clone(), ("announceFailed", note));
        }
    }
    if *inputs.holds_lease.borrow() && !cluster.is_partial {
        let gone = dataplane.nodes.iter().filter(|(_, node)| node.is_gone);
        let gone = gone.map(|(name, _)| name.clone()).collect();
        for (service, why) in nowhere(&cluster, services, &dataplane.node, &gone) {
            found.insert(service, ("notAnnounced", format!("{why}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_again_for_another_reason() {
        let service = ObjectName::new("default", "web");
        let found =
            |note: &str| BTreeMap::from([(service.clone(), ("notAnnounced", note.to_owned()))]);
        let start = Instant::now();
        let mut silence = Silence::default();
        assert!(silence.learn(found("no endpoint"), start).is_empty());
        let later = start + GRACE;
        assert_eq!(silence.learn(found("no endpoint"), later).len(), 1);
        assert!(
            silence
                .learn(found("no endpoint"), later + GRACE)
                .is_empty()
        );
        assert!(silence.learn(found("no peer"), later + GRACE).is_empty());
        assert_eq!(silence.learn(found("no peer"), later + GRACE * 2).len(), 1);
        assert!(silence.learn(BTreeMap::new(), later + GRACE * 3).is_empty());
        assert!(silence.known.is_empty());
    }
}
