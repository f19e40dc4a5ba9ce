//! Writes what is decided about Services where an API server keeps it, under a
//! Lease.
//!
//! Every agent computes the same allocation from the same objects, and one of them, which holds the Lease
//! `torline`, writes it down. Nothing is known but what the API server says: a round begins with a
//! fresh list of the Services, and gives an address only if the snapshot that the allocation was made
//! from shows the same addresses as that list. So neither a late watch nor another holder before us makes
//! one address go to two Services. Each write names the version of the Service that the list had, and
//! is refused if somebody was faster.
//!
//! The Lease is lost by our own clock before another may take it: who has not renewed it in time
//! writes nothing.

mod keys;
mod lease;
mod record;
mod teller;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::model::name::ObjectName;
use lease::Lease;
pub use record::{Assigned, Change};
use record::{Kept, changes};
pub(super) use teller::Teller;

/// Longest wait for an answer: shorter than what is left of a Lease when it is last renewed.
const ANSWER: Duration = Duration::from_secs(3);

/// Who owns the fields that are written.
const MANAGER: &str = "torline";

/// Services in one page of a list.
const PAGE: u32 = 500;

/// Why a round was not finished; the next one begins anew.
#[derive(thiserror::Error, Debug)]
pub enum WriteError {
    /// The API server refuses.
    #[error("failed to {0}")]
    Refused(String, #[source] Box<kube::Error>),
    /// It does not answer in time.
    #[error("failed to {0}: no answer within {seconds} s", seconds = ANSWER.as_secs())]
    Late(String),
}

impl WriteError {
    /// Whether the API server answered with this code of HTTP.
    pub(super) fn is_code(&self, code: u16) -> bool {
        let Self::Refused(_, error) = self else {
            return false;
        };
        matches!(&**error, kube::Error::Api(status) if status.code == code)
    }
}

/// What became of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Another agent holds the Lease.
    NotOurs,
    /// The snapshot is older than what the API server has; a newer one is on its way.
    Behind,
    /// So many Services were written; nothing is left to do if none.
    Written(usize),
}

/// Writes to an API server.
pub struct Writer {
    client: Client,
    namespace: String,
    teller: Teller,
    lease: Lease,
    /// Reasons that were told, so that each is told once.
    told: BTreeMap<ObjectName, String>,
    /// What there was nothing to write for.
    settled: Option<(Seen, Wanted)>,
}

/// Addresses of Services, as a snapshot had them.
type Seen = BTreeMap<ObjectName, Vec<IpAddr>>;

/// What Services are to have.
type Wanted = BTreeMap<ObjectName, Assigned>;

impl Writer {
    /// For the agent of `node`; its Lease is in `namespace`.
    pub(super) fn new(client: Client, namespace: &str, node: &str) -> Self {
        Self {
            lease: Lease::new(client.clone(), namespace, node),
            teller: Teller::new(client.clone(), "metallb-controller", node),
            namespace: namespace.to_owned(),
            client,
            told: BTreeMap::new(),
            settled: None,
        }
    }

    /// Takes or keeps the Lease, and writes what differs: `seen` are the addresses of the snapshot that
    /// `wanted` was computed from. Call it at least every [`Writer::INTERVAL`], and with every change.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the API server refuses or does not answer. What was written stays.
    pub async fn round(&mut self, seen: &Seen, wanted: &Wanted) -> Result<Round, WriteError> {
        if !self.lease.hold().await? {
            self.told.clear();
            self.settled = None;
            return Ok(Round::NotOurs);
        }
        let is_settled = |(known, asked): &(Seen, Wanted)| known == seen && asked == wanted;
        if self.settled.as_ref().is_some_and(is_settled) {
            return Ok(Round::Written(0));
        }
        self.settled = None;
        let listed = self.list().await?;
        let kept: BTreeMap<_, _> = listed
            .iter()
            .map(|service| (name_of(service), Kept::of(service)))
            .collect();
        let Some(changes) = changes(&kept, seen, wanted) else {
            return Ok(Round::Behind);
        };
        let mut written = 0;
        for service in &listed {
            let name = name_of(service);
            let change = changes.get(&name);
            if let Some(change) = change {
                if !self.lease.is_held() {
                    return Ok(Round::NotOurs);
                }
                self.write(service, change).await?;
                written += 1;
            }
            self.tell(service, &name, change, wanted.get(&name)).await;
        }
        self.told.retain(|name, _| wanted.contains_key(name));
        if written == 0 {
            self.settled = Some((seen.clone(), wanted.clone()));
        }
        Ok(Round::Written(written))
    }

    /// Keeps the Lease if it is ours, without a look at what there is to write; whether it is.
    ///
    /// # Errors
    ///
    /// As [`Writer::round`].
    pub async fn keep(&mut self) -> Result<bool, WriteError> {
        Ok(self.lease.is_held() && self.lease.hold().await?)
    }

    /// Makes the Secret with the keys of the cluster, unless there is one; whether it did.
    ///
    /// # Errors
    ///
    /// As [`Writer::round`].
    pub async fn create_keys(
        &self,
        flow_key: [u8; 32],
        peer_key: [u8; 32],
    ) -> Result<bool, WriteError> {
        keys::create(&self.client, &self.namespace, flow_key, peer_key).await
    }

    /// Gives the Lease back, for another to take at once.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; it runs out by itself then.
    pub async fn release(&mut self) -> Result<(), WriteError> {
        self.lease.release().await
    }

    /// Between two rounds at most, to keep the Lease.
    pub const INTERVAL: Duration = lease::RENEW;

    async fn list(&self) -> Result<Vec<Service>, WriteError> {
        let api = Api::<Service>::all(self.client.clone());
        let mut services = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = answer("list services", api.list(&page)).await?;
            services.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(services),
            }
        }
    }

    async fn write(&self, service: &Service, change: &Change) -> Result<(), WriteError> {
        let name = name_of(service);
        let api = Api::<Service>::namespaced(self.client.clone(), &name.namespace);
        let version = service.metadata.resource_version.as_deref();
        let patch = Patch::Merge(change.patch(version.unwrap_or_default()));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = api.patch_status(&name.name, &parameters, &patch);
        answer("update services/status", patched).await.map(drop)
    }

    /// Tells of a change, or of what keeps a Service without an address, once.
    async fn tell(
        &mut self,
        service: &Service,
        name: &ObjectName,
        change: Option<&Change>,
        wanted: Option<&Assigned>,
    ) {
        let told = change.and_then(Change::event);
        let deprecated = change.and_then(|_| deprecated(service));
        let failure = wanted.and_then(Assigned::failure);
        let told_before = self.told.get(name);
        let failure = failure.filter(|(_, why)| told_before != Some(why));
        if let Some((_, why)) = &failure {
            self.told.insert(name.clone(), why.clone());
        }
        for (reason, note) in told.into_iter().chain(deprecated).chain(failure) {
            self.teller.tell(service, reason, note, "Allocate").await;
        }
        if wanted.and_then(Assigned::failure).is_none() {
            self.told.remove(name);
        }
    }
}

/// The prefix of MetalLB's annotations before version 0.13.
const DEPRECATED: &str = "metallb.universe.tf/";

/// Reason and note of the event about annotations of another age.
fn deprecated(service: &Service) -> Option<(&'static str, String)> {
    let mut names = service.metadata.annotations.iter().flat_map(BTreeMap::keys);
    let name = names.find(|name| name.starts_with(DEPRECATED))?;
    let rest = name.strip_prefix(DEPRECATED)?;
    let note = format!("annotation {name} is deprecated: write metallb.io/{rest}");
    Some(("deprecatedAnnotation", note))
}

fn name_of(service: &Service) -> ObjectName {
    let metadata = &service.metadata;
    ObjectName::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Waits for an answer, but not for long.
pub(super) async fn answer<T>(
    what: impl Into<String>,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    match timeout(ANSWER, request).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(WriteError::Refused(what.into(), Box::new(error))),
        Err(_) => Err(WriteError::Late(what.into())),
    }
}
