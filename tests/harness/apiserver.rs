//! A double of an API server, for tests without a cluster.
//!
//! It keeps objects as JSON and speaks the HTTP of the Kubernetes API, as far as clients of Torline
//! need it: list in pages, watch with bookmarks, create, update, patch, delete, the status subresource,
//! conflicts of resource versions. It validates nothing, sets no defaults, and runs no controllers.
//!
//! Files: `resource` what there is and what a URL means; `store` the objects and their history;
//! `patch` what a patch makes of an object; `serve` HTTP.
//!
//! Faults on demand: [`Double::stop`] and [`Double::start`] a restart, [`Double::expire`] a history that is
//! gone (410), [`Double::refuse`] a right that is missing (403), [`Double::hold`] a list that takes long.

mod patch;
mod resource;
mod serve;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use store::Store;

/// A running double. It ends with its owner.
pub struct Double {
    store: Arc<Mutex<Store>>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Double {
    /// Starts one without objects on a port of the loopback.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn new() -> Result<Self> {
        let mut double = Self {
            store: Arc::new(Mutex::new(Store::new())),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            runtime: None,
        };
        double.start()?;
        Ok(double)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and listens no more; the objects stay.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// Listens again, where it did.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn start(&mut self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime
            .block_on(TcpListener::bind(self.address))
            .with_context(|| format!("listen on {}", self.address))?;
        self.address = listener.local_addr()?;
        runtime.spawn(serve::run(listener, Arc::clone(&self.store)));
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Forgets how the objects came to be what they are: whoever watches has to begin again.
    pub fn expire(&self) {
        self.store().expire();
    }

    /// Takes a right away: `list` of `services`, `patch` of `services/status`, with 403 for an answer.
    pub fn refuse(&self, verb: &str, resource: &str) {
        let rule = (verb.to_owned(), resource.to_owned());
        self.store().refused.insert(rule);
    }

    /// Gives a right back.
    pub fn permit(&self, verb: &str, resource: &str) {
        let rule = (verb.to_owned(), resource.to_owned());
        self.store().refused.remove(&rule);
    }

    /// Lets lists of a resource wait until they are let go.
    pub fn hold(&self, resource: &str) {
        self.store().held.insert(resource.to_owned());
    }

    /// Lets them go.
    pub fn release(&self, resource: &str) {
        let mut store = self.store();
        store.held.remove(resource);
        store.notify();
    }

    /// Deletes an object behind everybody's back: no event tells of it.
    pub fn lose(&self, resource: &str, namespace: &str, name: &str) {
        self.store().lose(resource, namespace, name);
    }

    /// How often a verb was asked for a resource: `list`, `watch`, `get`, `create`, `update`, `patch`, `delete`.
    pub fn requests(&self, verb: &str, resource: &str) -> usize {
        let asked = (verb.to_owned(), resource.to_owned());
        self.store().requests.get(&asked).copied().unwrap_or(0)
    }

    /// A kubeconfig for a server at `address` that speaks plain HTTP, as this one does.
    pub fn kubeconfig(address: SocketAddr) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [{"name": "double", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "double", "user": {}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "double"}}],
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // A store is whole after each of its methods.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
