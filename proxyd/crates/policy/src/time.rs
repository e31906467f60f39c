//! Weekly time windows in the local time of a named zone.

use std::fmt;
use std::str::FromStr;

/// Minutes in a day; also the end of a window that lasts until midnight, written "24:00".
const DAY_MINUTES: u16 = 24 * 60;

/// Minutes in an hour.
const HOUR_MINUTES: u16 = 60;

/// Why a window was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not of the form "hh:mm-hh:mm" with times from 00:00 to 24:00.
    #[error("\"{0}\" is not a time range such as \"08:00-18:00\" (00:00 to 24:00)")]
    Malformed(String),
    /// The end is not after the start.
    #[error("time range \"{0}\" does not end after it starts; split it at midnight")]
    Reversed(String),
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weekday {
    /// The first day of the week (ISO 8601).
    Monday,
    /// The second day.
    Tuesday,
    /// The third day.
    Wednesday,
    /// The fourth day.
    Thursday,
    /// The fifth day.
    Friday,
    /// The sixth day.
    Saturday,
    /// The seventh day.
    Sunday,
}

/// What a wall clock in some zone shows: the day of the week and the minute of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    weekday: Weekday,
    minute: u16,
}

impl LocalTime {
    /// The time `hour`:`minute` (0-23, 0-59) on `weekday`; `None` when out of range.
    #[must_use]
    pub fn new(weekday: Weekday, hour: u8, minute: u8) -> Option<Self> {
        let minute = minute_of_day(hour, minute).filter(|minute| *minute < DAY_MINUTES)?;
        Some(Self { weekday, minute })
    }
}

/// A range of minutes within one day; the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start_minute: u16,
    end_minute: u16,
}

impl Window {
    /// Says whether `minute` of the day lies in the window.
    const fn contains(self, minute: u16) -> bool {
        self.start_minute <= minute && minute < self.end_minute
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once('-')
            .and_then(|(start, end)| Some((parse_time(start)?, parse_time(end)?)));
        let Some((start_minute, end_minute)) = parsed else {
            return Err(WindowError::Malformed(text.to_owned()));
        };
        if start_minute >= end_minute {
            return Err(WindowError::Reversed(text.to_owned()));
        }
        Ok(Self { start_minute, end_minute })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start_minute, self.end_minute);
        let (start_hour, start_minute) = (start / HOUR_MINUTES, start % HOUR_MINUTES);
        let (end_hour, end_minute) = (end / HOUR_MINUTES, end % HOUR_MINUTES);
        write!(f, "{start_hour:02}:{start_minute:02}-{end_hour:02}:{end_minute:02}")
    }
}

/// The windows of each day; a day without windows is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Week {
    /// Windows of Monday.
    pub monday: Vec<Window>,
    /// Windows of Tuesday.
    pub tuesday: Vec<Window>,
    /// Windows of Wednesday.
    pub wednesday: Vec<Window>,
    /// Windows of Thursday.
    pub thursday: Vec<Window>,
    /// Windows of Friday.
    pub friday: Vec<Window>,
    /// Windows of Saturday.
    pub saturday: Vec<Window>,
    /// Windows of Sunday.
    pub sunday: Vec<Window>,
}

impl Week {
    /// The windows of one day.
    #[must_use]
    pub fn day(&self, weekday: Weekday) -> &[Window] {
        match weekday {
            Weekday::Monday => &self.monday,
            Weekday::Tuesday => &self.tuesday,
            Weekday::Wednesday => &self.wednesday,
            Weekday::Thursday => &self.thursday,
            Weekday::Friday => &self.friday,
            Weekday::Saturday => &self.saturday,
            Weekday::Sunday => &self.sunday,
        }
    }
}

/// When channels may be opened; an open channel is not cut at the end of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePolicy {
    /// The policy's name.
    pub name: String,
    /// IANA name of the zone whose local time counts.
    pub zone: String,
    /// The windows, in that zone's wall-clock time.
    pub week: Week,
}

impl TimePolicy {
    /// Says whether channels may be opened at `at`.
    ///
    /// A minute that the zone repeats or skips is judged by what the clock shows.
    #[must_use]
    pub fn is_open(&self, at: LocalTime) -> bool {
        self.week.day(at.weekday).iter().any(|window| window.contains(at.minute))
    }
}

/// Reads "hh:mm" with exactly two digits each, up to 24:00.
fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    minute_of_day(hour.parse().ok()?, minute.parse().ok()?)
}

/// The minute of the day, 0 to 1440; `None` when either part is out of range.
fn minute_of_day(hour: u8, minute: u8) -> Option<u16> {
    let minute = u16::from(minute);
    let total = u16::from(hour) * HOUR_MINUTES + minute;
    (minute < HOUR_MINUTES && total <= DAY_MINUTES).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let cases = [
            ("08:00-18:00", Ok("08:00-18:00")),
            ("00:00-24:00", Ok("00:00-24:00")),
            ("23:59-24:00", Ok("23:59-24:00")),
            ("22:00-06:00", Err("split it at midnight")),
            ("08:00-08:00", Err("does not end after it starts")),
            ("08:00-24:01", Err("is not a time range")),
            ("08:60-09:00", Err("is not a time range")),
            ("8:00-9:00", Err("is not a time range")),
            ("08:00", Err("is not a time range")),
            ("+8:00-09:00", Err("is not a time range")),
            ("", Err("is not a time range")),
        ];
        for (text, expected) in cases {
            match (text.parse::<Window>(), expected) {
                (Ok(window), Ok(expected)) => assert_eq!(window.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn edges_of_a_window() {
        let policy = TimePolicy {
            name: "office".into(),
            zone: "Europe/Budapest".into(),
            week: Week {
                monday: vec!["08:00-12:00".parse().unwrap(), "13:00-24:00".parse().unwrap()],
                tuesday: vec!["00:00-00:01".parse().unwrap()],
                ..Week::default()
            },
        };
        let cases = [
            ("before", Weekday::Monday, 7, 59, false),
            ("first minute", Weekday::Monday, 8, 0, true),
            ("last minute", Weekday::Monday, 11, 59, true),
            ("end is outside", Weekday::Monday, 12, 0, false),
            ("second window", Weekday::Monday, 13, 0, true),
            ("last minute of the day", Weekday::Monday, 23, 59, true),
            ("first minute of the next day", Weekday::Tuesday, 0, 0, true),
            ("second minute of the next day", Weekday::Tuesday, 0, 1, false),
            ("day without windows", Weekday::Sunday, 12, 0, false),
        ];
        for (case, weekday, hour, minute, expected) in cases {
            let at = LocalTime::new(weekday, hour, minute).unwrap();
            assert_eq!(policy.is_open(at), expected, "{case}");
        }
    }

    #[test]
    fn local_time_range() {
        assert!(LocalTime::new(Weekday::Monday, 24, 0).is_none());
        assert!(LocalTime::new(Weekday::Monday, 0, 60).is_none());
        assert!(LocalTime::new(Weekday::Monday, 255, 255).is_none());
    }
}
