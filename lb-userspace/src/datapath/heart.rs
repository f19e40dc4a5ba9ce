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
    /// What steps wrote, without the bits of `more`; nothing before the first configuration ever.
    value: Option<Config>,
    /// Flags that go into every configuration: those of [`config_flags::PROGRESS`], and what steps were not
    /// told yet.
    more: u32,
}

impl Element {
    fn write(&mut self, config: Config) -> Result<(), MapError> {
        let flags = config.flags | self.more;
        self.map.set(0, Pod(Config { flags, ..config }), 0)?;
        self.value = Some(config);
        Ok(())
    }

    /// Puts other bits into what the map holds, if it holds anything.
    fn change(&mut self, more: u32) -> Result<(), MapError> {
        let before = std::mem::replace(&mut self.more, more);
        let Some(config) = self.value else {
            return Ok(());
        };
        let outcome = self.write(config);
        if outcome.is_err() {
            self.more = before;
        }
        outcome
    }
}

impl Heart {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        let map: Array<_, Pod<Config>> = take(object, map::CONFIG)?;
        let Pod(config) = map.get(&0, 0).map_err(|source| HandleError::Shape {
            name: map::CONFIG,
            source,
        })?;
        let more = config.flags & config_flags::PROGRESS;
        let flags = config.flags & !config_flags::PROGRESS;
        let value = (config.heartbeat != 0).then_some(Config { flags, ..config });
        Ok(Self(Arc::new(Mutex::new(Element { map, value, more }))))
    }

    /// What steps wrote.
    pub(super) fn config(&self) -> Option<Config> {
        self.lock().value
    }

    pub(super) fn set(&self, config: Config) -> Result<(), MapError> {
        self.lock().write(config)
    }

    /// The bits of [`config_flags::PROGRESS`] that are set.
    pub(super) fn progress(&self) -> u32 {
        self.lock().more & config_flags::PROGRESS
    }

    /// Whether the programs know, or will with the first configuration, that this kernel serves the VIPs too.
    pub(super) fn kernel_knows_vips(&self) -> bool {
        let element = self.lock();
        let written = element.value.map_or(0, |config| config.flags);
        (written | element.more) & config_flags::KERNEL_KNOWS_VIPS != 0
    }

    /// Sets exactly these bits of [`config_flags::PROGRESS`].
    pub(super) fn set_progress(&self, progress: u32) -> Result<(), MapError> {
        let mut element = self.lock();
        let others = element.more & !config_flags::PROGRESS;
        element.change(others | progress)
    }

    /// Tells the programs, from now on whatever steps say, that this kernel serves the VIPs too.
    ///
    /// # Errors
    /// The configuration could not be written.
    pub fn set_kernel_knows_vips(&self) -> Result<(), MapError> {
        let mut element = self.lock();
        let more = element.more | config_flags::KERNEL_KNOWS_VIPS;
        element.change(more)
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
        element.write(Config {
            heartbeat: now,
            ..config
        })
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
