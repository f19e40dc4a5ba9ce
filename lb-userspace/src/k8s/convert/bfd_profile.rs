//! BFDProfiles.

use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Problems;
use crate::k8s::api::BfdProfileSpec;
use crate::model::bfd::BfdProfile;

/// Milliseconds of an interval.
const INTERVAL: RangeInclusive<u32> = 10..=60_000;
/// MetalLB's defaults, which are FRR's.
const DEFAULT_INTERVAL: u32 = 300;
const DEFAULT_MULTIPLIER: u8 = 3;
const DEFAULT_MINIMUM_TTL: u8 = 254;

/// Converts a BFDProfile.
pub(super) fn convert(spec: &BfdProfileSpec, problems: &mut Problems) -> BfdProfile {
    let mut interval = |field: &str, value: Option<u32>| {
        let value = value.unwrap_or(DEFAULT_INTERVAL);
        check(field, value, &INTERVAL, problems);
        Duration::from_millis(value.into())
    };
    let receive_interval = interval("spec.receiveInterval", spec.receive_interval);
    let transmit_interval = interval("spec.transmitInterval", spec.transmit_interval);
    interval("spec.echoInterval", spec.echo_interval);
    if spec.echo_mode == Some(true) {
        problems.note(
            "spec.echoMode",
            "echo mode is not sent yet: control packets alone watch the path",
        );
    }
    let mut number = |field: &str, value: Option<u32>, range: &RangeInclusive<u32>, default: u8| {
        let value = value.unwrap_or(default.into());
        check(field, value, range, problems);
        u8::try_from(value).unwrap_or(default)
    };
    let multiplier = number(
        "spec.detectMultiplier",
        spec.detect_multiplier,
        &(2..=255),
        DEFAULT_MULTIPLIER,
    );
    BfdProfile {
        receive_interval,
        transmit_interval,
        detect_multiplier: NonZeroU8::new(multiplier).unwrap_or(NonZeroU8::MIN),
        is_passive: spec.passive_mode.unwrap_or(false),
        minimum_ttl: number(
            "spec.minimumTtl",
            spec.minimum_ttl,
            &(1..=254),
            DEFAULT_MINIMUM_TTL,
        ),
    }
}

fn check(field: &str, value: u32, range: &RangeInclusive<u32>, problems: &mut Problems) {
    if !range.contains(&value) {
        problems.refuse(
            field,
            format!("{value}: want {} to {}", range.start(), range.end()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(spec: &BfdProfileSpec) -> (BfdProfile, Vec<String>) {
        let mut problems = Problems::default();
        let profile = convert(spec, &mut problems);
        let fields = problems.into_vec().into_iter().map(|p| p.field);
        (profile, fields.collect())
    }

    #[test]
    fn what_a_profile_leaves_out_is_as_with_metallb() {
        let (profile, problems) = converted(&BfdProfileSpec::default());
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(profile.receive_interval, Duration::from_millis(300));
        assert_eq!(profile.transmit_interval, Duration::from_millis(300));
        assert_eq!(profile.detect_multiplier.get(), 3);
        assert_eq!((profile.is_passive, profile.minimum_ttl), (false, 254));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let low = BfdProfileSpec {
            receive_interval: Some(2),
            transmit_interval: Some(9),
            detect_multiplier: Some(1),
            echo_interval: Some(0),
            minimum_ttl: Some(0),
            ..BfdProfileSpec::default()
        };
        let high = BfdProfileSpec {
            receive_interval: Some(90_000),
            transmit_interval: Some(60_001),
            detect_multiplier: Some(256),
            echo_interval: Some(60_001),
            minimum_ttl: Some(255),
            ..BfdProfileSpec::default()
        };
        for spec in [low, high] {
            assert_eq!(
                converted(&spec).1,
                [
                    "spec.receiveInterval",
                    "spec.transmitInterval",
                    "spec.echoInterval",
                    "spec.detectMultiplier",
                    "spec.minimumTtl"
                ]
            );
        }
    }

    #[test]
    fn echo_mode_is_answered_with_a_finding() {
        let spec = BfdProfileSpec {
            echo_mode: Some(true),
            passive_mode: Some(true),
            ..BfdProfileSpec::default()
        };
        let (profile, problems) = converted(&spec);
        assert_eq!(problems, ["spec.echoMode"]);
        assert!(profile.is_passive);
    }
}
