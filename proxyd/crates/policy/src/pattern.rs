//! Patterns for names: literal text in which `*` stands for any run of characters.

use std::fmt;
use std::str::FromStr;

use crate::limits::PATTERN_BYTES_MAX;

/// Stands for any run of characters, the empty one too.
const WILDCARD: char = '*';

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern has no characters, so it would match only the empty name.
    #[error("pattern is empty")]
    Empty,
    /// The pattern is longer than [`PATTERN_BYTES_MAX`].
    #[error("pattern of {bytes} bytes exceeds {PATTERN_BYTES_MAX}")]
    TooLong {
        /// Length of the refused pattern.
        bytes: usize,
    },
}

/// A case-sensitive pattern; `*` may stand anywhere and any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the whole of `name` fits the pattern; never backtracks.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((head, rest)) = self.0.split_once(WILDCARD) else {
            return self.0 == name;
        };
        let Some(mut remaining) = name.strip_prefix(head) else {
            return false;
        };
        let (middle, tail) = rest.rsplit_once(WILDCARD).unwrap_or(("", rest));
        // Taking the leftmost place for each middle part leaves the most for the ones after it.
        for part in middle.split(WILDCARD) {
            let Some((_, after)) = remaining.split_once(part) else {
                return false;
            };
            remaining = after;
        }
        remaining.ends_with(tail)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, PatternError};
    use proptest::prelude::*;

    #[test]
    fn table() {
        let cases = [
            ("literal", "root", "root", true),
            ("case matters", "root", "Root", false),
            ("prefix", "app*", "app1", true),
            ("prefix, empty rest", "app*", "app", true),
            ("prefix, other", "app*", "bapp", false),
            ("suffix", "*-admin", "db-admin", true),
            ("suffix, other", "*-admin", "db-admins", false),
            ("any", "*", "", true),
            ("any two", "**", "x", true),
            ("middle", "a*c", "abc", true),
            ("middle, overlap", "ab*ba", "aba", false),
            ("two middles", "a*b*c*d", "a-b-c-d", true),
            ("two middles, order", "a*b*c*d", "a-c-b-d", false),
            ("tail after greedy", "*ab", "abab", true),
            ("outside ASCII", "*é", "café", true),
        ];
        for (case, pattern, name, expected) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(name), expected, "{case}");
        }
    }

    #[test]
    fn refused() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        assert_eq!("a".repeat(257).parse::<Pattern>(), Err(PatternError::TooLong { bytes: 257 }));
    }

    /// The textbook definition, exponential but obviously right.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
            Some((byte, rest)) => name.first() == Some(byte) && slow(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn same_as_the_definition(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
            let parsed: Pattern = pattern.parse().unwrap();
            prop_assert_eq!(parsed.matches(&name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
