//! Subjects that take turns, so that whatever else the machine does falls on all of them alike.

use anyhow::{Context as _, Result};

use super::subject::Subject;
use crate::bench::report::{Report, median};

/// Characters of an error that the report keeps as the reason why a peer was not measured.
const REASON_CHARACTERS_MAX: usize = 160;

/// What some subjects did over all rounds: the medians of `N` numbers each.
pub(super) struct Turns<const N: usize> {
    found: Vec<(Subject, Result<[f64; N], String>)>,
}

/// Has each subject measured once a round; round 0, in which host keys are learned and caches are
/// filled, does not count. A peer that fails is left out from then on, and the reason kept.
pub(super) fn take<const N: usize>(
    subjects: &[Subject],
    rounds: u32,
    mut measure: impl FnMut(Subject, u32) -> Result<[f64; N]>,
) -> Result<Turns<N>> {
    let mut taken: Vec<(Subject, Result<Vec<[f64; N]>, String>)> =
        subjects.iter().map(|&subject| (subject, Ok(Vec::new()))).collect();
    for round in 0..=rounds {
        for (subject, values) in &mut taken {
            let Ok(so_far) = values else { continue };
            match measure(*subject, round) {
                Ok(value) if round > 0 => so_far.push(value),
                Ok(_first) => {}
                Err(error) if subject.is_peer() => *values = Err(reason(&error)),
                Err(error) => return Err(error.context(subject.name())),
            }
        }
    }
    let mut found = Vec::new();
    for (subject, values) in taken {
        let medians = match values {
            Ok(values) => Ok(medians(&values)?),
            Err(reason) => Err(reason),
        };
        found.push((subject, medians));
    }
    Ok(Turns { found })
}

impl<const N: usize> Turns<N> {
    /// The median of number `index` of a subject; none where it could not be measured.
    pub(super) fn of(&self, subject: Subject, index: usize) -> Option<f64> {
        let (_, medians) = self.found.iter().find(|(found, _)| *found == subject)?;
        medians.as_ref().ok()?.get(index).copied()
    }

    /// Number `index` of one subject over that of another.
    pub(super) fn ratio(&self, subject: Subject, to: Subject, index: usize) -> Option<f64> {
        Some(self.of(subject, index)? / self.of(to, index)?)
    }

    /// Writes the rows of number `index`, each beside that of the direct connection; one that is
    /// not a number is left out.
    pub(super) fn tell(
        &self,
        report: &mut Report,
        case: &str,
        metric: (&str, &'static str),
        index: usize,
    ) {
        let direct = self.of(Subject::Direct, index).filter(|value| value.is_finite());
        let mut case = report.case(case);
        for (subject, medians) in &self.found {
            match (medians.as_ref().map(|medians| medians.get(index).copied()), direct) {
                (Err(reason), _) => case.missing(subject.name(), reason),
                (Ok(Some(value)), _) if value.is_nan() => {}
                (Ok(Some(value)), Some(direct)) if *subject != Subject::Direct => {
                    case.compared(subject.name(), metric, value, direct);
                }
                (Ok(Some(value)), _) => case.row(subject.name(), metric, value),
                (Ok(None), _) => {}
            }
        }
    }
}

fn medians<const N: usize>(values: &[[f64; N]]) -> Result<[f64; N]> {
    let mut medians = [0.0; N];
    for (index, to) in medians.iter_mut().enumerate() {
        let column: Vec<f64> = values.iter().filter_map(|row| row.get(index).copied()).collect();
        *to = median(&column).context("no round was measured")?;
    }
    Ok(medians)
}

/// The last line of an error, which is what `ssh` said last.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.chars().take(REASON_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_peer_that_fails_is_left_out_with_its_reason() {
        let subjects = [Subject::Direct, Subject::SshMitm];
        let mut calls = 0;
        let turns = take(&subjects, 3, |subject, round| {
            calls += 1;
            if subject == Subject::SshMitm && round == 1 {
                bail!("first line\nno matching cipher\n");
            }
            Ok([f64::from(round)])
        });
        let turns = turns.unwrap();
        assert_eq!((calls, turns.of(Subject::Direct, 0)), (6, Some(2.0)));
        assert_eq!(turns.of(Subject::SshMitm, 0), None);
        let (_, peer) = &turns.found[1];
        assert_eq!(peer.as_ref().unwrap_err(), "no matching cipher");
    }

    #[test]
    fn the_gateway_itself_has_to_do_everything() {
        let turns = take::<1>(&[Subject::Proxyd], 1, |_subject, _round| bail!("refused"));
        assert!(turns.is_err());
    }
}
