//! One list of objects, read and then watched without end.

use std::time::Duration;

use futures::channel::oneshot;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::k8s::api;
use crate::k8s::object::{Key, Kind, Object};
use crate::k8s::tree::Tree;
use crate::k8s::tree::typed::TypeError;

/// Between two attempts after an error, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Without an error for this long, the next one is a first one.
const CALM: Duration = Duration::from_secs(20);

/// How long a watch lasts before it is asked for again, in seconds: a line that died unnoticed is found out
/// by then.
const WATCH: u32 = 120;

/// Tells feeds apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Name {
    /// All objects of a kind.
    Kind(Kind),
    /// One Secret.
    Secret(String),
}

impl Name {
    /// Whether a cluster may well be without it: edge devices alone have virtual switches.
    pub(super) const fn is_optional(&self) -> bool {
        matches!(self, Self::Kind(Kind::VirtualSwitch))
    }
}

/// What comes from a feed.
pub(super) type Message = (Name, Result<Event<Item>, watcher::Error>);

/// Ends a feed when it is dropped.
pub(super) type Stop = oneshot::Sender<()>;

/// An object of an API server.
#[derive(Debug)]
pub(super) enum Item {
    /// As its type says.
    Object(Box<Object>),
    /// Not as its type says.
    Broken(Key, TypeError),
}

/// Where feeds read from.
pub(super) struct Scope {
    /// The API server.
    pub(super) client: Client,
    /// Namespace of MetalLB's objects and of Secrets.
    pub(super) namespace: String,
    /// Spreads the attempts of many agents.
    pub(super) seed: u64,
}

impl Item {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Object(object) => object.key(),
            Self::Broken(key, _) => key.clone(),
        }
    }

    /// Reads an object as strictly as a file, so that one that is wrong stands alone.
    fn read(kind: Kind, mut object: DynamicObject) -> Self {
        let metadata = &mut object.metadata;
        // Of no use here, and the largest part of many an object.
        metadata.managed_fields = None;
        let key = Key::new(
            kind,
            metadata.namespace.as_deref(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        let tree = serde_json::to_value(object).map(Tree::from);
        let read = tree
            .map_err(|error| TypeError {
                message: error.to_string(),
                ..TypeError::default()
            })
            .and_then(|tree| Object::read(kind, &tree));
        match read {
            Ok(object) => Self::Object(Box::new(object)),
            Err(error) => Self::Broken(key, error),
        }
    }
}

/// Starts a feed. It reads while it is polled and until its [`Stop`] is dropped.
pub(super) fn start(scope: &Scope, name: &Name) -> (BoxStream<'static, Message>, Stop) {
    let Scope {
        client, namespace, ..
    } = scope;
    let client = client.clone();
    let stream = match name {
        Name::Secret(secret) => {
            let config = config().fields(&format!("metadata.name={secret}"));
            typed(
                Api::namespaced(client, namespace),
                config,
                scope.seed,
                Object::Secret,
            )
        }
        Name::Kind(kind) => match kind {
            Kind::Service => {
                typed::<Service>(Api::all(client), config(), scope.seed, Object::Service)
            }
            Kind::EndpointSlice => typed::<EndpointSlice>(
                Api::all(client),
                config(),
                scope.seed,
                Object::EndpointSlice,
            ),
            Kind::Node => typed::<Node>(Api::all(client), config(), scope.seed, Object::Node),
            Kind::Namespace => {
                typed::<Namespace>(Api::all(client), config(), scope.seed, Object::Namespace)
            }
            Kind::Secret => typed::<Secret>(
                Api::namespaced(client, namespace),
                config(),
                scope.seed,
                Object::Secret,
            ),
            Kind::IpAddressPool => strict::<api::IpAddressPool>(*kind, scope),
            Kind::BgpPeer => strict::<api::BgpPeer>(*kind, scope),
            Kind::BgpAdvertisement => strict::<api::BgpAdvertisement>(*kind, scope),
            Kind::L2Advertisement => strict::<api::L2Advertisement>(*kind, scope),
            Kind::Community => strict::<api::Community>(*kind, scope),
            Kind::BfdProfile => strict::<api::BfdProfile>(*kind, scope),
            Kind::VirtualSwitch => strict::<api::VirtualSwitch>(*kind, scope),
        },
    };
    let (stop, stopped) = oneshot::channel();
    let name = name.clone();
    let stream = stream
        .map(move |event| (name.clone(), event))
        .take_until(stopped)
        .boxed();
    (stream, stop)
}

/// The name of a kind in URLs and roles, with its group: `endpointslices.discovery.k8s.io`.
pub(super) fn resource(name: &Name) -> String {
    fn of<K: Resource<DynamicType = ()>>() -> String {
        match &*K::group(&()) {
            "" => K::plural(&()).into_owned(),
            group => format!("{}.{group}", K::plural(&())),
        }
    }
    match name {
        Name::Secret(_) | Name::Kind(Kind::Secret) => of::<Secret>(),
        Name::Kind(Kind::Service) => of::<Service>(),
        Name::Kind(Kind::EndpointSlice) => of::<EndpointSlice>(),
        Name::Kind(Kind::Node) => of::<Node>(),
        Name::Kind(Kind::Namespace) => of::<Namespace>(),
        Name::Kind(Kind::IpAddressPool) => of::<api::IpAddressPool>(),
        Name::Kind(Kind::BgpPeer) => of::<api::BgpPeer>(),
        Name::Kind(Kind::BgpAdvertisement) => of::<api::BgpAdvertisement>(),
        Name::Kind(Kind::L2Advertisement) => of::<api::L2Advertisement>(),
        Name::Kind(Kind::Community) => of::<api::Community>(),
        Name::Kind(Kind::BfdProfile) => of::<api::BfdProfile>(),
        Name::Kind(Kind::VirtualSwitch) => of::<api::VirtualSwitch>(),
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH)
}

type Events = BoxStream<'static, Result<Event<Item>, watcher::Error>>;

/// A kind of Kubernetes itself: the server answers for its form.
fn typed<K>(api: Api<K>, config: watcher::Config, seed: u64, wrap: fn(K) -> Object) -> Events
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    events(watch(api, config), seed, move |object| {
        Item::Object(Box::new(wrap(object)))
    })
}

/// A kind of MetalLB's: the definition in the cluster may be another than ours.
fn strict<K>(kind: Kind, scope: &Scope) -> Events
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let resource = ApiResource::erase::<K>(&());
    let api =
        Api::<DynamicObject>::namespaced_with(scope.client.clone(), &scope.namespace, &resource);
    events(watch(api, config()), scope.seed, move |object| {
        Item::read(kind, object)
    })
}

fn events<K: Send + 'static>(
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    seed: u64,
    read: impl Fn(K) -> Item + Send + 'static,
) -> Events {
    let retry = ResetTimerBackoff::new(Retry { attempt: 0, seed }, CALM);
    stream
        .backoff(retry)
        .map(move |event| {
            event.map(|event| match event {
                Event::Init => Event::Init,
                Event::InitApply(object) => Event::InitApply(read(object)),
                Event::InitDone => Event::InitDone,
                Event::Apply(object) => Event::Apply(read(object)),
                Event::Delete(object) => Event::Delete(read(object)),
            })
        })
        .boxed()
}

/// Waits between attempts: twice as long each time, and up to half as long again.
struct Retry {
    attempt: u32,
    seed: u64,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let (first, last) = RETRY;
        let wait = first.saturating_mul(1 << self.attempt.min(16)).min(last);
        self.attempt = self.attempt.saturating_add(1);
        // Another share for each attempt and agent (Weyl's sequence of the golden ratio).
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let share = u32::try_from(self.seed >> 56).unwrap_or(0);
        Some(wait + wait.saturating_mul(share) / 512)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_and_agents_do_not_try_together() {
        let waits = |seed| Retry { attempt: 0, seed }.take(8).collect::<Vec<_>>();
        let (first, last) = RETRY;
        assert!(waits(1)[0] >= first && waits(1)[0] < first * 2);
        assert!(waits(1)[7] >= last && waits(1)[7] <= last + last / 2);
        assert_ne!(waits(1), waits(u64::MAX / 3));
    }

    #[test]
    fn an_object_that_does_not_fit_its_type_names_the_field() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": "a", "namespace": "metallb-system"},
            "spec": {"addresses": ["192.0.2.0/24"], "fromTheFuture": true},
        }))
        .unwrap();
        let Item::Broken(key, error) = Item::read(Kind::IpAddressPool, object) else {
            panic!("it was taken");
        };
        assert_eq!(key.to_string(), "IPAddressPool a");
        assert_eq!(error.path, "spec.fromTheFuture");
    }
}
