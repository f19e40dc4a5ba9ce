//! The Lease `torline`: one agent holds it at a time.
//!
//! As client-go does, an agent goes by its own clock alone: a Lease has run out when it was not seen to
//! change for its whole duration. The holder stops believing in it earlier than that.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as ApiLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

use super::{WriteError, answer};

/// Name of the Lease.
const NAME: &str = "torline";

/// Without a renewal for this long another agent takes it.
const DURATION: Duration = Duration::from_secs(15);

/// Without a renewal for this long its holder writes no more: an answer may take the time that is left.
const BELIEF: Duration = Duration::from_secs(10);

/// Between two renewals.
pub(super) const RENEW: Duration = Duration::from_secs(4);

/// An agent's view of the Lease.
pub(super) struct Lease {
    api: Api<ApiLease>,
    identity: String,
    /// When it was last renewed by us.
    renewed: Option<Instant>,
    /// What it last looked like, and since when.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Lease {
    pub(super) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            renewed: None,
            seen: None,
        }
    }

    /// Whether it is ours, by our clock.
    pub(super) fn is_held(&self) -> bool {
        self.renewed.is_some_and(|at| at.elapsed() < BELIEF)
    }

    /// Takes it if it is free, renews it if it is ours and a while has passed; whether it is ours.
    pub(super) async fn hold(&mut self) -> Result<bool, WriteError> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW / 2) {
            return Ok(true);
        }
        // Before the question: whatever time the answer takes is time of the Lease.
        let now = Instant::now();
        let found = answer("get leases", self.api.get_opt(NAME)).await?;
        let Some(mut lease) = found else {
            let lease = ApiLease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.renewal(None)),
            };
            let parameters = PostParams::default();
            let created = answer("create leases", self.api.create(&parameters, &lease)).await;
            return self.settle(created, now);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.has_run_out(&spec, now) {
            self.renewed = None;
            return Ok(false);
        }
        // The version of what was read goes along: of two that take it at once, one is refused.
        lease.spec = Some(self.renewal(Some(&spec)));
        let replaced = self.replace(&lease).await;
        self.settle(replaced, now)
    }

    /// Gives it back if it is ours.
    pub(super) async fn release(&mut self) -> Result<(), WriteError> {
        if self.renewed.take().is_none() {
            return Ok(());
        }
        let found = answer("get leases", self.api.get_opt(NAME)).await?;
        let Some(mut lease) = found else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        self.replace(&lease).await.map(drop)
    }

    async fn replace(&self, lease: &ApiLease) -> Result<ApiLease, WriteError> {
        let parameters = PostParams::default();
        answer("update leases", self.api.replace(NAME, &parameters, lease)).await
    }

    fn settle(
        &mut self,
        outcome: Result<ApiLease, WriteError>,
        now: Instant,
    ) -> Result<bool, WriteError> {
        match outcome {
            Ok(lease) => {
                self.renewed = Some(now);
                self.seen = lease.spec.map(|spec| (spec, now));
                Ok(true)
            }
            // Somebody was faster.
            Err(error) if error.is_code(409) => {
                self.renewed = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether nobody has renewed it for its duration, since we look.
    fn has_run_out(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == spec => {
                let seconds = spec.lease_duration_seconds.unwrap_or_default();
                let seconds = u64::try_from(seconds).unwrap_or_default();
                now.duration_since(*since) >= Duration::from_secs(seconds).max(DURATION)
            }
            _ => {
                self.seen = Some((spec.clone(), now));
                false
            }
        }
    }

    fn renewal(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let was_ours =
            before.is_some_and(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: match before {
                Some(before) if was_ours => before.acquire_time.clone(),
                _ => now.clone(),
            },
            renew_time: now,
            lease_transitions: Some(transitions.unwrap_or(0) + i32::from(!was_ours)),
            ..LeaseSpec::default()
        }
    }
}
