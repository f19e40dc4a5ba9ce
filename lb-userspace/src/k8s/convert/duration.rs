//! Durations in Go's notation: `90s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Reads a duration that is not negative.
///
/// # Errors
///
/// Says what a duration looks like.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration \"{text}\": write it like \"90s\" or \"1m30s\"");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        nanoseconds = scaled(number, scale)
            .and_then(|part| nanoseconds.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    // Go counts nanoseconds in an i64: about 292 years.
    i64::try_from(nanoseconds)
        .ok()
        .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
        .map(Duration::from_nanos)
        .ok_or_else(wrong)
}

/// `number` times `scale`; fractions below a nanosecond are dropped.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.into()
    };
    let mut total = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        total += u128::from(digit.to_digit(10)?) * unit;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            ("1h0m0s", 3_600_000),
            (".5s", 500),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "90",
            "s",
            "1x",
            "-3s",
            "1..5s",
            ".s",
            "99999999999999h",
            "1 s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
