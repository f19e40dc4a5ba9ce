//! What a ConfigurationState says.

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::k8s::api::ConfigurationStateStatus;

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Objects that cannot be used, and why.
    pub refused: Vec<String>,
    /// Kinds that cannot be read, and why.
    pub unread: Vec<String>,
}

/// The state of a configuration with these faults. A condition that is as it was keeps its time.
pub(super) fn configuration(
    condition: &str,
    faults: &Faults,
    before: Option<&ConfigurationStateStatus>,
    now: Timestamp,
) -> ConfigurationStateStatus {
    let Faults { refused, unread } = faults;
    let (result, status, reason) = match (refused.is_empty(), unread.is_empty()) {
        (false, _) => ("Invalid", "False", "ConfigurationError"),
        (true, false) => ("Unknown", "Unknown", "InfraError"),
        (true, true) => ("Valid", "True", "Reconciled"),
    };
    let same = before
        .into_iter()
        .flat_map(|before| &before.conditions)
        .find(|known| known.type_ == condition && known.status == status);
    // The API server keeps no fractions of a second of it.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let summary = summary(refused.iter().chain(unread));
    let condition = Condition {
        type_: condition.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: summary.clone(),
        last_transition_time: same.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation: None,
    };
    ConfigurationStateStatus {
        result: result.to_owned(),
        error_summary: summary,
        conditions: vec![condition],
    }
}

/// Octets that a summary has at most; a message of a condition may have 32,768.
const SUMMARY: usize = 4_096;

fn summary<'a>(faults: impl Iterator<Item = &'a String>) -> String {
    let faults: Vec<_> = faults.collect();
    let mut text = String::new();
    for (index, fault) in faults.iter().enumerate() {
        if text.len() + fault.len() > SUMMARY && index > 0 {
            let _ = write!(text, "\nand {} more", faults.len() - index);
            break;
        }
        if index > 0 {
            text.push('\n');
        }
        text.extend(fault.chars().take(SUMMARY));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = configuration("configReconcilerValid", &Faults::default(), None, at(10));
        assert_eq!(first.result, "Valid");
        assert_eq!(first.error_summary, "");
        assert_eq!(first.conditions[0].reason, "Reconciled");
        let later = configuration(
            "configReconcilerValid",
            &Faults::default(),
            Some(&first),
            at(20),
        );
        assert_eq!(later, first);
        let mut fault = Faults {
            refused: vec!["BGPPeer a: no".to_owned()],
            ..Faults::default()
        };
        let broken = configuration("configReconcilerValid", &fault, Some(&later), at(30));
        assert_eq!(broken.result, "Invalid");
        assert_eq!(broken.error_summary, "BGPPeer a: no");
        assert_eq!(broken.conditions[0].last_transition_time.0, at(30));
        fault.unread = std::mem::take(&mut fault.refused);
        let unread = configuration("configReconcilerValid", &fault, Some(&broken), at(40));
        assert_eq!(unread.result, "Unknown");
        assert_eq!(unread.conditions[0].reason, "InfraError");
    }

    #[test]
    fn a_summary_ends_before_it_is_too_long() {
        let faults = ["x".repeat(3_000), "y".repeat(3_000), "z".to_owned()];
        let text = summary(faults.iter());
        assert!(
            text.starts_with("xxx") && text.ends_with("\nand 2 more"),
            "{text}"
        );
        assert!(summary(["é".repeat(40_000)].iter()).chars().count() <= SUMMARY);
    }
}
