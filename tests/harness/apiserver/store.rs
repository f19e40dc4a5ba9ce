//! The objects, the version of everything, and what happened lately.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::patch::merge;
use super::resource::Target;

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) kind: &'static str,
    pub(super) place: Place,
    pub(super) object: Value,
}

/// Where an object stands: plural, namespace, name.
pub(super) type Place = (&'static str, String, String);

/// See the module.
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Place, Value>,
    events: Vec<Event>,
    /// The version from which on events are known.
    oldest: u64,
    /// Verb and plural.
    pub(super) refused: BTreeSet<(String, String)>,
    /// Plurals whose lists wait.
    pub(super) held: BTreeSet<String>,
    /// By verb and plural.
    pub(super) requests: BTreeMap<(String, String), usize>,
    /// Tells watches to look.
    changes: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            version: 1,
            objects: BTreeMap::new(),
            events: Vec::new(),
            oldest: 1,
            refused: BTreeSet::new(),
            held: BTreeSet::new(),
            requests: BTreeMap::new(),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn notify(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn expire(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.events.clear();
        self.notify();
    }

    pub(super) fn lose(&mut self, plural: &str, namespace: &str, name: &str) {
        self.objects.retain(|place, _| {
            (place.0, place.1.as_str(), place.2.as_str()) != (plural, namespace, name)
        });
    }

    /// Objects of a resource, in order of their places.
    pub(super) fn list(&self, target: &Target) -> Vec<Value> {
        let objects = self.objects.iter();
        objects
            .filter(|(place, _)| is_within(place, target))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// What happened to objects of a resource after a version.
    pub(super) fn events(&self, target: &Target, version: u64) -> Result<Vec<Event>, Refusal> {
        if version < self.oldest {
            return Err(Refusal {
                code: 410,
                reason: "Expired",
                message: format!("too old resource version: {version} ({})", self.oldest),
            });
        }
        let events = self.events.iter();
        Ok(events
            .filter(|event| event.version > version && is_within(&event.place, target))
            .cloned()
            .collect())
    }

    pub(super) fn get(&self, target: &Target) -> Result<Value, Refusal> {
        let object = self.objects.get(&place(target));
        object.cloned().ok_or_else(|| not_found(target))
    }

    pub(super) fn create(&mut self, target: &Target, mut object: Value) -> Result<Value, Refusal> {
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null()
            && let Some(prefix) = metadata["generateName"].as_str()
        {
            metadata["name"] = json!(format!("{prefix}{:05x}", self.version));
        }
        let Some(name) = metadata["name"].as_str().map(str::to_owned) else {
            return Err(Refusal {
                code: 422,
                reason: "Invalid",
                message: "metadata.name: Required value".to_owned(),
            });
        };
        let target = Target {
            name: Some(name.clone()),
            ..target.clone()
        };
        let place = place(&target);
        if self.objects.contains_key(&place) {
            return Err(Refusal {
                code: 409,
                reason: "AlreadyExists",
                message: format!("{} \"{name}\" already exists", target.resource.plural),
            });
        }
        metadata["uid"] = json!(format!("00000000-0000-0000-0000-{:012x}", self.version));
        metadata["creationTimestamp"] = json!(Timestamp::now());
        metadata["generation"] = json!(1);
        if target.resource.is_namespaced {
            metadata["namespace"] = json!(target.namespace);
        }
        object["apiVersion"] = json!(target.resource.api_version());
        object["kind"] = json!(target.resource.kind);
        Ok(self.put("ADDED", place, object))
    }

    /// Replaces an object, or its status.
    pub(super) fn update(&mut self, target: &Target, object: Value) -> Result<Value, Refusal> {
        let old = self.get(target)?;
        let (held, given) = (
            &old["metadata"]["resourceVersion"],
            &object["metadata"]["resourceVersion"],
        );
        if !given.is_null() && given != "" && given != held {
            return Err(Refusal {
                code: 409,
                reason: "Conflict",
                message: "the object has been modified; please apply your changes to the latest \
                          version and try again"
                    .to_owned(),
            });
        }
        let mut new = object;
        if target.is_status {
            // A real server takes metadata along with the status of a Service, and of nothing else.
            let metadata = match target.resource.kind {
                "Service" => new["metadata"].take(),
                _ => old["metadata"].clone(),
            };
            let status = new["status"].take();
            new = old.clone();
            new["metadata"] = metadata;
            new["status"] = status;
        } else if !old["status"].is_null() && !target.resource.group.is_empty() {
            new["status"] = old["status"].clone();
        }
        for field in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
            new["metadata"][field] = old["metadata"][field].clone();
        }
        if new == old {
            return Ok(old);
        }
        Ok(self.put("MODIFIED", place(target), new))
    }

    /// Merges into an object; an apply patch makes it if need be. Owners of fields are not kept.
    pub(super) fn patch(
        &mut self,
        target: &Target,
        patch: &Value,
        is_apply: bool,
    ) -> Result<Value, Refusal> {
        let mut object = match self.get(target) {
            Err(_) if is_apply => return self.create(target, patch.clone()),
            other => other?,
        };
        let version = patch["metadata"]["resourceVersion"].clone();
        merge(&mut object, patch);
        // What the patch does not ask for is not compared.
        object["metadata"]["resourceVersion"] = version;
        self.update(target, object)
    }

    pub(super) fn delete(&mut self, target: &Target) -> Result<Value, Refusal> {
        let object = self.get(target)?;
        let place = place(target);
        self.objects.remove(&place);
        self.version += 1;
        let mut last = object.clone();
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.record("DELETED", place, last);
        Ok(object)
    }

    fn put(&mut self, kind: &'static str, place: Place, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(place.clone(), object.clone());
        self.record(kind, place, object.clone());
        object
    }

    fn record(&mut self, kind: &'static str, place: Place, object: Value) {
        self.events.push(Event {
            version: self.version,
            kind,
            place,
            object,
        });
        self.notify();
    }
}

fn place(target: &Target) -> Place {
    let name = target.name.clone().unwrap_or_default();
    (target.resource.plural, target.namespace.clone(), name)
}

fn is_within((plural, namespace, _): &Place, target: &Target) -> bool {
    *plural == target.resource.plural
        && (target.namespace.is_empty() || *namespace == target.namespace)
}

fn not_found(target: &Target) -> Refusal {
    let name = target.name.as_deref().unwrap_or_default();
    Refusal {
        code: 404,
        reason: "NotFound",
        message: format!("{} \"{name}\" not found", target.resource.plural),
    }
}

#[cfg(test)]
mod tests;
