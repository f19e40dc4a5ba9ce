//! Runs steps, in their order, and remembers those that could not be run yet.

use std::collections::VecDeque;
use std::fmt;

use lb_common::maps::Config;

use crate::plan::step::Step;

/// What steps are run against: the kernel's maps, or a collection in a test.
pub trait Tables {
    /// Why a step failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Runs one step.
    ///
    /// # Errors
    /// The step was not run; the tables are as before.
    fn run(&mut self, step: &Step) -> Result<(), Self::Error>;
}

/// Why a step failed, and which.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {step}")]
pub struct ApplyError<E: fmt::Debug + std::error::Error + 'static> {
    /// The step, for people.
    pub step: String,
    /// The cause.
    #[source]
    pub source: E,
}

/// Tables and the steps they have yet to take.
///
/// A step that fails stays first: what follows it relies on it, so it is tried again before anything
/// else runs.
#[derive(Debug)]
pub struct Applier<T> {
    tables: T,
    pending: VecDeque<Step>,
    config: Option<Config>,
}

impl<T: Tables> Applier<T> {
    /// With nothing to do.
    pub fn new(tables: T) -> Self {
        Self {
            tables,
            pending: VecDeque::new(),
            config: None,
        }
    }

    /// Adds steps behind those that wait.
    pub fn push(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.pending.extend(steps);
    }

    /// Runs what waits. `heartbeat` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// A step failed; it and all behind it still wait.
    pub fn run(&mut self, heartbeat: u64) -> Result<(), ApplyError<T::Error>> {
        while let Some(step) = self.pending.front_mut() {
            if let Step::SetConfig(config) = step {
                config.heartbeat = heartbeat;
            }
            self.tables.run(step).map_err(|source| ApplyError {
                step: step.to_string(),
                source,
            })?;
            if let Some(Step::SetConfig(config)) = self.pending.pop_front() {
                self.config = Some(config);
            }
        }
        Ok(())
    }

    /// Tells the programs that the agent lives. Before the first configuration there is nothing to tell.
    ///
    /// # Errors
    /// The configuration could not be written.
    pub fn beat(&mut self, heartbeat: u64) -> Result<(), ApplyError<T::Error>> {
        let Some(config) = &mut self.config else {
            return Ok(());
        };
        config.heartbeat = heartbeat;
        let step = Step::SetConfig(*config);
        self.tables.run(&step).map_err(|source| ApplyError {
            step: step.to_string(),
            source,
        })
    }

    /// How many steps wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use lb_common::maps::Slot;

    use super::*;

    /// Remembers what was run and refuses one slot as long as it is told to.
    #[derive(Default)]
    struct Journal {
        done: Vec<Step>,
        refuses_slot: Option<u32>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused;

    impl Tables for Journal {
        type Error = Refused;

        fn run(&mut self, step: &Step) -> Result<(), Refused> {
            match step {
                Step::SetSlot { index, .. } if self.refuses_slot == Some(*index) => Err(Refused),
                _ => {
                    self.done.push(step.clone());
                    Ok(())
                }
            }
        }
    }

    fn slot(index: u32) -> Step {
        Step::SetSlot {
            index,
            slot: Slot::new([1, 0, 0, 0]),
        }
    }

    #[test]
    fn steps_run_in_their_order() {
        let mut applier = Applier::new(Journal::default());
        applier.push([slot(3), slot(1)]);
        applier.push([slot(2)]);
        applier.run(0).unwrap();
        assert_eq!(applier.tables.done, [slot(3), slot(1), slot(2)]);
        assert_eq!(applier.pending(), 0);
    }

    #[test]
    fn nothing_runs_past_a_step_that_fails_until_it_succeeds() {
        let mut applier = Applier::new(Journal {
            refuses_slot: Some(1),
            ..Journal::default()
        });
        applier.push([slot(0), slot(1), slot(2)]);
        let error = applier.run(0).unwrap_err();
        assert_eq!(error.to_string(), "failed to write slot 1: [1, 0, 0, 0]");
        assert_eq!(applier.tables.done, [slot(0)]);

        applier.tables.refuses_slot = None;
        applier.run(0).unwrap();
        assert_eq!(applier.tables.done, [slot(0), slot(1), slot(2)]);
    }

    #[test]
    fn the_heartbeat_goes_into_every_configuration_and_repeats_the_last() {
        let mut applier = Applier::new(Journal::default());
        applier.beat(5).unwrap();
        assert!(applier.tables.done.is_empty());

        let config = Config {
            ifindex: 7,
            ..Config::default()
        };
        applier.push([Step::SetConfig(config)]);
        applier.run(10).unwrap();
        applier.beat(20).unwrap();
        let written = |heartbeat| {
            Step::SetConfig(Config {
                heartbeat,
                ..config
            })
        };
        assert_eq!(applier.tables.done, [written(10), written(20)]);
    }
}
