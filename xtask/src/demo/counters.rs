//! The counters of the steering program, as `proxyd steering status` prints them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// The numbers of each line, by the word before them.
#[derive(Debug)]
pub(super) struct Counters(BTreeMap<String, Vec<u64>>);

impl Counters {
    /// Of the lines that are one word and then numbers; other lines say other things.
    pub(super) fn parse(status: &str) -> Self {
        let lines = status.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
            (!numbers.is_empty()).then_some((name, numbers))
        });
        Self(lines.collect())
    }

    /// The first number of a line: the packets of a reason. What has not happened has no line.
    pub(super) fn first(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|numbers| numbers.first().copied()).unwrap_or(0)
    }

    /// Connections that were redirected by this policy, which has to be all that were redirected.
    pub(super) fn redirected(&self, policy: &str) -> Result<u64> {
        let (by_policy, all) = (self.first(policy), self.first("redirected"));
        ensure!(by_policy == all, "{policy} redirected {by_policy} of {all} connections");
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
gateway     alive, 12 ms ago
hook        steer on interface 2

POLICY                     REDIRECTED    FORWARDED
office                              3            1

REASON                        PACKETS
redirected                          3
no_rule                             7
";

    #[test]
    fn names_are_followed_by_numbers() {
        let counters = Counters::parse(STATUS);
        assert_eq!(counters.redirected("office").unwrap(), 3);
        for (name, count) in [("no_rule", 7), ("absent", 0), ("hook", 0), ("POLICY", 0)] {
            assert_eq!(counters.first(name), count, "{name}");
        }
        let error = counters.redirected("no_rule").unwrap_err().to_string();
        assert_eq!(error, "no_rule redirected 7 of 3 connections");
    }
}
