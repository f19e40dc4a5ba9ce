//! The configuration element, with the heartbeat that says the agent lives.
//!
//! Steps write the element now and then, the heartbeat is written every second whatever else the agent
//! does: two handles to one [`Heart`] may be held by different tasks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use lb_common::abi::map;
use lb_common::maps::Config;

use super::handle::{HandleError, take};
use super::pod::Pod;

/// A handle to the configuration element.
#[derive(Clone)]
pub struct Heart(Arc<Mutex<Element>>);

struct Element {
    map: Array<MapData, Pod<Config>>,
    /// What the map holds; nothing before the first configuration was ever written.
    value: Option<Config>,
}

impl Heart {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        let map: Array<_, Pod<Config>> = take(object, map::CONFIG)?;
        let Pod(config) = map.get(&0, 0).map_err(|source| HandleError::Shape {
            name: map::CONFIG,
            source,
        })?;
        let value = (config.heartbeat != 0).then_some(config);
        Ok(Self(Arc::new(Mutex::new(Element { map, value }))))
    }

    /// What the map holds.
    pub(super) fn config(&self) -> Option<Config> {
        self.lock().value
    }

    pub(super) fn set(&self, config: Config) -> Result<(), MapError> {
        let mut element = self.lock();
        element.map.set(0, Pod(config), 0)?;
        element.value = Some(config);
        Ok(())
    }

    /// Tells the programs that the agent lives; `now` is `CLOCK_MONOTONIC` in nanoseconds. Before the
    /// first configuration there is nothing to tell.
    ///
    /// # Errors
    /// The configuration could not be written.
    pub fn beat(&self, now: u64) -> Result<(), MapError> {
        let mut element = self.lock();
        let Some(config) = element.value else {
            return Ok(());
        };
        let config = Config {
            heartbeat: now,
            ..config
        };
        element.map.set(0, Pod(config), 0)?;
        element.value = Some(config);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Element> {
        // Whoever panicked with the lock held left a value that was written or not: both are good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Heart {
    /// Without the value, which holds the cluster's keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heart(..)")
    }
}
