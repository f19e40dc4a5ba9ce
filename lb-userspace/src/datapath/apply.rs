//! Runs steps, in their order.

use std::error::Error;

use lb_common::maps::Config;

use crate::plan::step::Step;

/// What steps are run against: the kernel's maps, or a collection in a test.
pub trait Tables {
    /// Why a step failed.
    type Error: Error + Send + Sync + 'static;

    /// Runs one step.
    ///
    /// # Errors
    /// The step was not run; the tables are as before.
    fn run(&mut self, step: &Step) -> Result<(), Self::Error>;
}

/// A step failed, and so neither it nor what follows was run.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {step}")]
pub struct ApplyError<E: Error + 'static> {
    /// The step, for people.
    pub step: String,
    /// The steps not run, the failed one first.
    pub remaining: Vec<Step>,
    /// The cause.
    #[source]
    pub source: E,
}

/// Tables, and the configuration they hold.
#[derive(Debug)]
pub struct Applier<T> {
    tables: T,
    config: Option<Config>,
}

impl<T: Tables> Applier<T> {
    /// Of tables without a configuration.
    pub fn new(tables: T) -> Self {
        Self {
            tables,
            config: None,
        }
    }

    /// Runs steps. `heartbeat` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// A step failed. What follows it relies on it, so nothing else was run.
    pub fn run(
        &mut self,
        mut steps: Vec<Step>,
        heartbeat: u64,
    ) -> Result<(), ApplyError<T::Error>> {
        for (index, step) in steps.iter_mut().enumerate() {
            if let Step::SetConfig(config) = step {
                config.heartbeat = heartbeat;
            }
            if let Err(source) = self.tables.run(step) {
                return Err(ApplyError {
                    step: step.to_string(),
                    remaining: steps.split_off(index),
                    source,
                });
            }
            if let Step::SetConfig(config) = step {
                self.config = Some(*config);
            }
        }
        Ok(())
    }

    /// Tells the programs that the agent lives. Before the first configuration there is nothing to tell.
    ///
    /// # Errors
    /// The configuration could not be written.
    pub fn beat(&mut self, heartbeat: u64) -> Result<(), ApplyError<T::Error>> {
        match self.config {
            Some(config) => self.run(vec![Step::SetConfig(config)], heartbeat),
            None => Ok(()),
        }
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
        applier.run(vec![slot(3), slot(1), slot(2)], 0).unwrap();
        assert_eq!(applier.tables.done, [slot(3), slot(1), slot(2)]);
    }

    #[test]
    fn nothing_runs_past_a_step_that_fails() {
        let mut applier = Applier::new(Journal {
            refuses_slot: Some(1),
            ..Journal::default()
        });
        let error = applier.run(vec![slot(0), slot(1), slot(2)], 0).unwrap_err();
        assert_eq!(error.to_string(), "failed to write slot 1: [1, 0, 0, 0]");
        assert_eq!(applier.tables.done, [slot(0)]);

        applier.tables.refuses_slot = None;
        applier.run(error.remaining, 0).unwrap();
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
        applier.run(vec![Step::SetConfig(config)], 10).unwrap();
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
