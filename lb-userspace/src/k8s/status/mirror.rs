//! Objects of one kind as the API server has them, brought to what they should
//! be.
//!
//! A watch tells what is there; what differs is applied, what should not be there is deleted. An object
//! that somebody else edits or deletes is mended, since the watch tells of that too.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::k8s::writer::{WriteError, answer};

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// Requests under way at once.
const CONCURRENCY: usize = 8;

/// Events taken at most before somebody else is heard.
const BATCH: usize = 10_000;

/// What an object is to be.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wanted<S> {
    pub(super) labels: Labels,
    pub(super) status: S,
}

/// What an object is.
#[derive(Clone, PartialEq, Debug)]
struct Seen<S> {
    labels: Labels,
    owners: Vec<String>,
    /// Nothing if it cannot be read.
    status: Option<S>,
}

/// What becomes of objects that are not wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keeping {
    /// The objects are ours: they are made when wanted, and deleted when not.
    Whole,
    /// They are somebody else's, and their status alone is ours.
    Status,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Names of objects that were not there before.
    pub(super) created: Vec<String>,
    /// What could not be done.
    pub(super) errors: Vec<WriteError>,
}

/// See the module.
pub(super) struct Mirror<S> {
    pen: Pen,
    keeping: Keeping,
    events: BoxStream<'static, watcher::Result<Event<DynamicObject>>>,
    seen: BTreeMap<String, Seen<S>>,
    listing: BTreeMap<String, Seen<S>>,
    is_complete: bool,
}

impl<S: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync> Mirror<S> {
    /// Objects of kind `K` in a namespace, those with these labels; `manager` owns the fields.
    pub(super) fn new<K>(
        client: &Client,
        namespace: &str,
        labels: &str,
        manager: &'static str,
        keeping: Keeping,
        owner: Option<OwnerReference>,
    ) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let resource = ApiResource::erase::<K>(&());
        let api = Api::namespaced_with(client.clone(), namespace, &resource);
        let config = watcher::Config::default().labels(labels);
        let events = watcher(api.clone(), config).default_backoff().boxed();
        Self {
            pen: Pen {
                api,
                resource,
                manager,
                owner,
            },
            keeping,
            events,
            seen: BTreeMap::new(),
            listing: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// Waits until something is told, and takes all that has been.
    ///
    /// # Errors
    ///
    /// The API server refuses; the watch goes on by itself.
    pub(super) async fn next(&mut self) -> Result<(), WriteError> {
        let mut told = self.events.next().await;
        for _ in 0..BATCH {
            match told {
                Some(Ok(event)) => self.take(event),
                Some(Err(error)) => return self.refusal(error),
                // The stream does not end.
                None => return std::future::pending().await,
            }
            match self.events.next().now_or_never() {
                Some(next) => told = next,
                None => break,
            }
        }
        Ok(())
    }

    fn refusal(&self, error: watcher::Error) -> Result<(), WriteError> {
        let (verb, error) = match error {
            watcher::Error::InitialListFailed(error) => ("list", error),
            watcher::Error::WatchStartFailed(error) => ("watch", error),
            // It begins again by itself.
            _ => return Ok(()),
        };
        Err(WriteError::Refused(
            self.pen.doing(verb, ""),
            Box::new(error),
        ))
    }

    fn take(&mut self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.insert(object.name_any(), Seen::of(&object));
            }
            Event::InitDone => {
                self.seen = std::mem::take(&mut self.listing);
                self.is_complete = true;
            }
            Event::Apply(object) => {
                self.seen.insert(object.name_any(), Seen::of(&object));
            }
            Event::Delete(object) => {
                self.seen.remove(&object.name_any());
            }
        }
    }

    /// The status of an object as it was last seen.
    pub(super) fn status(&self, name: &str) -> Option<&S> {
        self.seen.get(name)?.status.as_ref()
    }

    /// Applies what is wanted and differs; deletes what is `stale`. Does nothing before it is
    /// known what there is.
    pub(super) async fn settle(
        &mut self,
        wanted: &BTreeMap<String, Wanted<S>>,
        stale: Vec<String>,
    ) -> Done {
        let mut done = Done::default();
        let applied = stream::iter(self.writes(wanted)).buffer_unordered(CONCURRENCY);
        let applied: Vec<_> = applied.collect().await;
        for (name, outcome) in applied {
            match (outcome, wanted.get(&name)) {
                (Ok(()), Some(wanted)) => {
                    let written = Seen::wanted(&self.pen, wanted);
                    if self.seen.insert(name.clone(), written).is_none() {
                        done.created.push(name);
                    }
                }
                (Ok(()), None) => {}
                (Err(error), _) => done.errors.push(error),
            }
        }
        let deletions: Vec<_> = stale
            .into_iter()
            .map(|name| self.pen.delete(name).boxed())
            .collect();
        let deleted = stream::iter(deletions).buffer_unordered(CONCURRENCY);
        let deleted: Vec<_> = deleted.collect().await;
        for (name, outcome) in deleted {
            match outcome {
                Err(error) if !error.is_code(404) => done.errors.push(error),
                _ => drop(self.seen.remove(&name)),
            }
        }
        done
    }

    /// Objects that are there, not wanted, and `is_stale` by their labels.
    pub(super) fn stale(
        &self,
        wanted: &BTreeMap<String, Wanted<S>>,
        is_stale: impl Fn(&Labels) -> bool,
    ) -> Vec<String> {
        let unwanted = self.seen.iter().filter(|(name, seen)| {
            self.is_complete && !wanted.contains_key(*name) && is_stale(&seen.labels)
        });
        unwanted.map(|(name, _)| name.clone()).collect()
    }

    /// What is to be applied, not begun yet.
    fn writes<'a>(
        &'a self,
        wanted: &'a BTreeMap<String, Wanted<S>>,
    ) -> Vec<BoxFuture<'a, (String, Result<(), WriteError>)>> {
        let differing = wanted
            .iter()
            .filter(|(name, wanted)| self.is_complete && self.differs(name, wanted));
        differing
            .map(|(name, wanted)| {
                let seen = self.seen.get(name);
                let is_labelled = seen.is_some_and(|seen| seen.is_labelled(&self.pen, wanted));
                let asks_whole = self.keeping == Keeping::Whole && !is_labelled;
                self.pen.apply(name, wanted, asks_whole).boxed()
            })
            .collect()
    }

    fn differs(&self, name: &str, wanted: &Wanted<S>) -> bool {
        match (self.seen.get(name), self.keeping) {
            (Some(seen), Keeping::Whole) => {
                seen.status.as_ref() != Some(&wanted.status) || !seen.is_labelled(&self.pen, wanted)
            }
            (Some(seen), Keeping::Status) => seen.status.as_ref() != Some(&wanted.status),
            (None, keeping) => keeping == Keeping::Whole,
        }
    }
}

/// What writes objects of one kind.
struct Pen {
    api: Api<DynamicObject>,
    resource: ApiResource,
    manager: &'static str,
    owner: Option<OwnerReference>,
}

impl Pen {
    /// Writes the status of an object; before that the object, if that is asked for.
    async fn apply<S: Serialize>(
        &self,
        name: &str,
        wanted: &Wanted<S>,
        asks_whole: bool,
    ) -> (String, Result<(), WriteError>) {
        (
            name.to_owned(),
            self.try_apply(name, wanted, asks_whole).await,
        )
    }

    async fn try_apply<S: Serialize>(
        &self,
        name: &str,
        wanted: &Wanted<S>,
        asks_whole: bool,
    ) -> Result<(), WriteError> {
        let parameters = PatchParams::apply(self.manager).force();
        let mut object = json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {"name": name},
        });
        if asks_whole {
            let mut whole = object.clone();
            whole["metadata"]["labels"] = json!(wanted.labels);
            whole["metadata"]["ownerReferences"] = json!(Vec::from_iter(&self.owner));
            let patch = Patch::Apply(&whole);
            let applied = self.api.patch(name, &parameters, &patch);
            answer(self.doing("patch", ""), applied).await?;
        }
        object["status"] = json!(wanted.status);
        let patch = Patch::Apply(&object);
        let applied = self.api.patch_status(name, &parameters, &patch);
        answer(self.doing("patch", "/status"), applied).await?;
        Ok(())
    }

    async fn delete(&self, name: String) -> (String, Result<(), WriteError>) {
        let parameters = DeleteParams::default();
        let deleted = self.api.delete(&name, &parameters);
        let outcome = answer(self.doing("delete", ""), deleted).await;
        (name, outcome.map(drop))
    }

    /// What is done, as roles name it.
    fn doing(&self, verb: &str, subresource: &str) -> String {
        let ApiResource { plural, group, .. } = &self.resource;
        format!("{verb} {plural}.{group}{subresource}")
    }
}

impl<S> Seen<S> {
    /// What an object is once it is written.
    fn wanted(pen: &Pen, wanted: &Wanted<S>) -> Self
    where
        S: Clone,
    {
        Self {
            labels: wanted.labels.clone(),
            owners: pen.owner.iter().map(|owner| owner.uid.clone()).collect(),
            status: Some(wanted.status.clone()),
        }
    }

    /// Whether labels and owners are as they should be; others may have added more of them.
    fn is_labelled(&self, pen: &Pen, wanted: &Wanted<S>) -> bool {
        let mut labels = wanted.labels.iter();
        let mut owners = pen.owner.iter();
        labels.all(|(name, value)| self.labels.get(name) == Some(value))
            && owners.all(|owner| self.owners.contains(&owner.uid))
    }
}

impl<S: DeserializeOwned> Seen<S> {
    fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status");
        Self {
            labels: object.labels().clone(),
            owners: object
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
            status: status.and_then(|status| serde_json::from_value(status.clone()).ok()),
        }
    }
}
