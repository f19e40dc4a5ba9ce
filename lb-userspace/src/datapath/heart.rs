//! The configuration element, with the heartbeat that says the agent lives.
//!
//! Steps write the element now and then, the heartbeat is written every second whatever else the agent
//! does, and so are the bits that say how far it has come: handles to one [`Heart`] may be held by different
//! tasks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use lb_common::abi::map;
use lb_common::maps::{Config, config_flags};

use super::handle::{HandleError, take};
use super::pod::Pod;

/// A handle to the configuration element.
#[derive(Clone)]
pub struct Heart(Arc<Mutex<Element>>);

struct Element {
    map: Array<MapData, Pod<Config>>,
    /// What steps wrote, without the bits of `progress`; nothing before the first configuration ever.
    value: Option<Config>,
    /// Bits of [`config_flags::PROGRESS`], which go into every configuration.
    progress: u32,
}

impl Element {
    fn write(&mut self, config: Config, progress: u32) -> Result<(), MapError> {
        let flags = config.flags | progress;
        self.map.set(0, Pod(Config { flags, ..config }), 0)?;
        self.value = Some(config);
        self.progress = progress;
        Ok(())
    }
}

impl Heart {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        let map: Array<_, Pod<Config>> = take(object, map::CONFIG)?;
        let Pod(config) = map.get(&0, 0).map_err(|source| HandleError::Shape {
            name: map::CONFIG,
            source,
        })?;
        let progress = config.flags & config_flags::PROGRESS;
        let flags = config.flags & !config_flags::PROGRESS;
        let value = (config.heartbeat != 0).then_some(Config { flags, ..config });
        Ok(Self(Arc::new(Mutex::new(Element {
            map,
            value,
            progress,
        }))))
    }

    /// What steps wrote.
    pub(super) fn config(&self) -> Option<Config> {
        self.lock().value
    }

    pub(super) fn set(&self, config: Config) -> Result<(), MapError> {
        let mut element = self.lock();
        let progress = element.progress;
        element.write(config, progress)
    }

    /// The bits of [`config_flags::PROGRESS`] that are set.
    pub(super) fn progress(&self) -> u32 {
        self.lock().progress
    }

    /// Sets bits of [`config_flags::PROGRESS`] in the first configuration that will ever be written; does
    /// nothing if one was.
    pub(super) fn begin(&self, progress: u32) {
        let mut element = self.lock();
        if element.value.is_none() {
            element.progress = progress;
        }
    }

    /// Sets exactly these bits of [`config_flags::PROGRESS`].
    pub(super) fn set_progress(&self, progress: u32) -> Result<(), MapError> {
        let mut element = self.lock();
        match element.value {
            Some(config) => element.write(config, progress),
            None => {
                element.progress = progress;
                Ok(())
            }
        }
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
        let progress = element.progress;
        let config = Config {
            heartbeat: now,
            ..config
        };
        element.write(config, progress)
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
