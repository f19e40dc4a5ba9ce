//! Waiting for a condition, with a limit.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `probe` until it succeeds and returns what it found.
///
/// # Errors
/// The last error of `probe`, once `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| format!("waited {limit:?} for {what}"));
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the waiting for a condition with a limit"
)]
fn pause() {
    thread::sleep(INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn what_was_waited_for_and_the_last_error_are_told() {
        let mut calls = 0;
        let outcome: Result<()> = until("the moon", Duration::from_millis(20), || {
            calls += 1;
            bail!("not yet, {calls}")
        });
        let text = format!("{:#}", outcome.unwrap_err());
        assert!(
            text.contains("for the moon") && text.contains(&format!("not yet, {calls}")),
            "{text}"
        );
        assert!(calls > 1);
    }
}
