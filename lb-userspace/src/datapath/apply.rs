//! Runs steps, in their order.

use std::error::Error;

use crate::plan::layout::Dump;
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

    /// Reads everything that steps write.
    ///
    /// # Errors
    /// A map cannot be read.
    fn dump(&self) -> Result<Dump, Self::Error>;
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

/// Runs steps. `heartbeat` is `CLOCK_MONOTONIC` in nanoseconds.
///
/// # Errors
/// A step failed. What follows it relies on it, so nothing else was run.
pub fn run<T: Tables>(
    tables: &mut T,
    mut steps: Vec<Step>,
    heartbeat: u64,
) -> Result<(), ApplyError<T::Error>> {
    for (index, step) in steps.iter_mut().enumerate() {
        if let Step::SetConfig(config) = step {
            config.heartbeat = heartbeat;
        }
        if let Err(source) = tables.run(step) {
            return Err(ApplyError {
                step: step.to_string(),
                remaining: steps.split_off(index),
                source,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_common::maps::{Config, Slot};

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

        fn dump(&self) -> Result<Dump, Refused> {
            Ok(Dump::default())
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
        let mut journal = Journal::default();
        run(&mut journal, vec![slot(3), slot(1), slot(2)], 0).unwrap();
        assert_eq!(journal.done, [slot(3), slot(1), slot(2)]);
    }

    #[test]
    fn nothing_runs_past_a_step_that_fails() {
        let mut journal = Journal {
            refuses_slot: Some(1),
            ..Journal::default()
        };
        let error = run(&mut journal, vec![slot(0), slot(1), slot(2)], 0).unwrap_err();
        assert_eq!(error.to_string(), "failed to write slot 1: [1, 0, 0, 0]");
        assert_eq!(journal.done, [slot(0)]);

        journal.refuses_slot = None;
        run(&mut journal, error.remaining, 0).unwrap();
        assert_eq!(journal.done, [slot(0), slot(1), slot(2)]);
    }

    #[test]
    fn the_heartbeat_goes_into_every_configuration() {
        let mut journal = Journal::default();
        let set = |heartbeat| {
            Step::SetConfig(Box::new(Config {
                heartbeat,
                ifindex: 7,
                ..Config::default()
            }))
        };
        run(&mut journal, vec![set(0)], 10).unwrap();
        assert_eq!(journal.done, [set(10)]);
    }
}
