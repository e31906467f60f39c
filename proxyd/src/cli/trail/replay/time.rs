//! Times since a session's start, as people write them.

/// Reads `[[HH:]MM:]SS[.mmm]` as nanoseconds; hours, or what stands first, may be of any size.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    read(text).ok_or_else(|| "not a time such as 90, 1:30 or 01:02:03.450".to_owned())
}

fn read(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, read_fraction(fraction)?),
        None => (text, 0),
    };
    let parts: Vec<&str> = whole.split(':').collect();
    if parts.len() > PARTS_MAX {
        return None;
    }
    let mut seconds = 0_u64;
    for (index, part) in parts.into_iter().enumerate() {
        let number = number(part).filter(|number| index == 0 || *number < UNITS_PER_PART)?;
        seconds = seconds.checked_mul(UNITS_PER_PART)?.checked_add(number)?;
    }
    seconds.checked_mul(NS_PER_S)?.checked_add(fraction)
}

/// Reads digits behind the point, to the nanosecond.
fn read_fraction(digits: &str) -> Option<u64> {
    if digits.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    number(&format!("{digits:0<FRACTION_DIGITS_MAX$}")).filter(|_ns| !digits.is_empty())
}

/// A number without a sign.
fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|_number| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Writes nanoseconds as `HH:MM:SS.mmm`, rounded down.
pub(super) fn show(t_ns: u64) -> String {
    let (seconds, millis) = (t_ns / NS_PER_S, t_ns % NS_PER_S / NS_PER_MS);
    let (minutes, seconds) = (seconds / UNITS_PER_PART, seconds % UNITS_PER_PART);
    let (hours, minutes) = (minutes / UNITS_PER_PART, minutes % UNITS_PER_PART);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// Hours, minutes and seconds.
const PARTS_MAX: usize = 3;
/// Minutes of an hour, seconds of a minute.
const UNITS_PER_PART: u64 = 60;
/// Digits of a nanosecond.
const FRACTION_DIGITS_MAX: usize = 9;
const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let cases = [
            ("0", Some(0)),
            ("90", Some(90_000_000_000)),
            ("1:30", Some(90_000_000_000)),
            ("01:02:03.45", Some(3_723_450_000_000)),
            ("0.000000001", Some(1)),
            ("100:00:00", Some(360_000_000_000_000)),
            ("18446744073", Some(18_446_744_073_000_000_000)),
            ("18446744073.709551615", Some(u64::MAX)),
            ("18446744073.709551616", None),
            ("18446744074", None),
            ("18446744073709551616", None),
            ("5124095:60:00", None),
            ("1:60", None),
            ("1:2:3:4", None),
            ("", None),
            (":", None),
            ("1:", None),
            ("1.", None),
            (".5", None),
            ("1.0000000001", None),
            ("-1", None),
            ("+1", None),
            ("1:+1", None),
            ("1.+5", None),
            ("1e3", None),
            ("1.é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn times_are_shown() {
        let cases = [
            (0, "00:00:00.000"),
            (3_723_450_999_999, "01:02:03.450"),
            (u64::MAX, "5124095:34:33.709"),
        ];
        for (t_ns, expected) in cases {
            assert_eq!(show(t_ns), expected);
            assert_eq!(parse(expected).unwrap(), t_ns - t_ns % NS_PER_MS);
        }
    }
}
