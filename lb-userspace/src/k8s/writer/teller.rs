//! Events about Services, as MetalLB's components word them.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::api::ListParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use tokio::time::timeout;

use super::{ANSWER, answer};
use crate::model::name::ObjectName;

/// Reasons of events that say that something is not as it should be.
const WARNINGS: [&str; 5] = [
    "AllocationFailed",
    "LoadBalancerFailed",
    "announceFailed",
    "deprecatedAnnotation",
    "notAnnounced",
];

/// Tells of Services in events. What cannot be told changes nothing: whoever may not write events sees none.
pub(in crate::k8s) struct Teller {
    client: Client,
    recorder: Recorder,
}

impl Teller {
    /// In the name of a component of MetalLB's on `node`.
    pub(in crate::k8s) fn new(client: Client, component: &str, node: &str) -> Self {
        let reporter = Reporter {
            controller: component.to_owned(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
        }
    }

    /// Tells of a Service at hand.
    pub(super) async fn tell(&self, service: &Service, reason: &str, note: String, action: &str) {
        let reference = service.object_ref(&());
        self.publish(&reference, reason, note, action).await;
    }

    /// Tells of a Service by name, if there is one.
    pub(in crate::k8s) async fn tell_of(
        &self,
        service: &ObjectName,
        reason: &str,
        note: String,
        action: &str,
    ) {
        let api = Api::<Service>::namespaced(self.client.clone(), &service.namespace);
        // By name, but as a list: that is a right which the agent has anyway.
        let named = ListParams::default().fields(&format!("metadata.name={}", service.name));
        let Ok(found) = answer("list services", api.list(&named)).await else {
            return;
        };
        if let Some(service) = found.items.first() {
            self.tell(service, reason, note, action).await;
        }
    }

    async fn publish(&self, about: &ObjectReference, reason: &str, note: String, action: &str) {
        let event = Event {
            type_: if WARNINGS.contains(&reason) {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            // The API server takes 1,024 characters.
            note: Some(note.chars().take(1_000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        let _ = timeout(ANSWER, self.recorder.publish(&event, about)).await;
    }
}
