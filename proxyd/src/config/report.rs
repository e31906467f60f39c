//! What is wrong with a configuration file, all of it, with the place in the file.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Bytes of the file that a problem is about; absent when the file lacks the thing altogether.
pub(crate) type Span = Option<Range<usize>>;

/// Columns of a rendered report; fits a terminal and a log viewer.
const REPORT_COLUMNS: usize = 100;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but somebody should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The key, `connection_policy[0].from[1]`; empty for the syntax of the file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    span: Span,
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    /// Lines with broken syntax; what the parser made of them is not worth a second problem.
    broken_lines: Vec<Range<usize>>,
    /// Values that no report may show.
    hidden: Vec<Range<usize>>,
}

impl Problems {
    /// Notes broken syntax at `span` of `source`.
    pub(crate) fn syntax(&mut self, source: &str, span: Span, message: &str) {
        let (start, end) = span.as_ref().map_or((0, 0), |span| (span.start, span.end));
        let before = source.get(..start).and_then(|text| text.rfind('\n')).map_or(0, |at| at + 1);
        let after = source.get(end..).and_then(|text| text.find('\n'));
        self.broken_lines.push(before..after.map_or(source.len(), |at| end + at));
        self.push(Problem {
            severity: Severity::Error,
            key: String::new(),
            message: message.to_owned(),
            help: None,
            span,
        });
    }

    /// Notes an error in the value or name of a key.
    pub(crate) fn error(&mut self, span: &Span, key: &str, message: impl Into<String>) {
        self.note(Severity::Error, span, key, message.into(), None);
    }

    /// Notes an error together with a way out of it.
    pub(crate) fn error_with_help(
        &mut self,
        span: &Span,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(Severity::Error, span, key, message.into(), Some(help.into()));
    }

    /// Notes something that does not keep the file from being used.
    pub(crate) fn warning(&mut self, span: &Span, key: &str, message: impl Into<String>) {
        self.note(Severity::Warning, span, key, message.into(), None);
    }

    /// Notes a missing key, unless broken syntax may have swallowed it.
    pub(crate) fn missing(&mut self, span: &Span, key: &str) {
        if self.broken_lines.is_empty() {
            self.error(span, key, "missing key");
        }
    }

    /// Keeps the bytes of `span` out of every report, because they may be a secret.
    pub(crate) fn hide(&mut self, span: &Span) {
        self.hidden.extend(span.clone());
    }

    /// Says whether the syntax of the file is broken somewhere.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken_lines.is_empty()
    }

    /// The report about `source`, which was read from `file`; problems in the order of the file.
    pub(crate) fn into_report(mut self, file: String, source: String) -> Report {
        self.list.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        Report { file, source: mask(source, &self.hidden), problems: self.list }
    }

    fn note(
        &mut self,
        severity: Severity,
        span: &Span,
        key: &str,
        message: String,
        help: Option<String>,
    ) {
        let broken = span.as_ref().is_some_and(|span| {
            self.broken_lines.iter().any(|line| line.start <= span.start && span.start <= line.end)
        });
        if !broken {
            self.push(Problem { severity, key: key.to_owned(), message, help, span: span.clone() });
        }
    }

    fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }
}

/// All problems of one file; `Display` shows each with the lines it is about.
#[derive(Clone, Debug)]
pub struct Report {
    file: String,
    source: String,
    problems: Vec<Problem>,
}

impl Report {
    /// The problems in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Count of problems that keep the file from being used.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Count of problems that do not.
    #[must_use]
    pub fn warning_count(&self) -> usize {
        self.problems.len() - self.error_count()
    }

    /// Line and column of a problem, both from 1, the column in characters; `None` when the file
    /// lacks the thing altogether.
    #[must_use]
    pub fn position(&self, problem: &Problem) -> Option<(usize, usize)> {
        let before = self.source.get(..problem.span.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..)?.chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    }

    /// One problem as text in the manner of rustc.
    fn render(&self, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = match problem.key.as_str() {
            "" => problem.message.clone(),
            key => format!("{key}: {}", problem.message),
        };
        let title = level.primary_title(title);
        let mut group = match self.visible_span(problem) {
            Some(span) => title.element(
                Snippet::source(self.source.as_str())
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            None => title.element(Origin::path(self.file.as_str())),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        let report: &[Group<'_>] = &[group];
        Renderer::plain().term_width(REPORT_COLUMNS).render(report)
    }

    /// The span to draw: within the source, and on whole characters.
    fn visible_span(&self, problem: &Problem) -> Option<Range<usize>> {
        let span = problem.span.as_ref()?;
        let end = span.end.min(self.source.len());
        let start = span.start.min(end);
        let drawable = !self.source.is_empty() && self.source.get(start..end).is_some();
        drawable.then_some(start..end)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}\n", self.render(problem))?;
        }
        let (errors, warnings) = (self.error_count(), self.warning_count());
        write!(f, "{}: {}, {}", self.file, count(errors, "error"), count(warnings, "warning"))
    }
}

/// The text with the bytes of `hidden` replaced by asterisks.
fn mask(source: String, hidden: &[Range<usize>]) -> String {
    let mut bytes = source.into_bytes();
    for range in hidden {
        for byte in bytes.get_mut(range.clone()).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b'*';
            }
        }
    }
    // Ranges begin and end between characters, so that this stays UTF-8.
    String::from_utf8(bytes).unwrap_or_default()
}

/// "1 error", "2 errors".
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The text with control characters shown as escapes, so that a file cannot steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Problems;

    #[test]
    fn renders_place_key_and_help() {
        let source = "[limits]\nsessions = \"é\"\n\nsessionz = 1\n";
        let mut problems = Problems::default();
        problems.error_with_help(&Some(26..34), "limits.sessionz", "unknown key", "try sessions");
        problems.error(&Some(20..24), "limits.sessions", "expected an integer");
        problems.warning(&None, "steering", "nothing is steered");
        let report = problems.into_report("proxyd.toml".into(), source.into());
        let text = report.to_string();
        let parts = [
            "warning: steering: nothing is steered",
            "error: limits.sessions: expected an integer",
            "proxyd.toml:2:12",
            "sessions = \"é\"",
            "error: limits.sessionz: unknown key",
            "proxyd.toml:4:1",
            "try sessions",
            "proxyd.toml: 2 errors, 1 warning",
        ];
        let mut at = 0;
        for part in parts {
            let found = text.get(at..).and_then(|rest| rest.find(part));
            at += found.unwrap_or_else(|| panic!("{part:?} is missing or misplaced in\n{text}"));
        }
        let positions: Vec<_> =
            report.problems().iter().map(|problem| report.position(problem)).collect();
        assert_eq!(positions, [None, Some((2, 12)), Some((4, 1))]);
    }

    #[test]
    fn spans_outside_the_source_are_no_panic() {
        for (source, span) in [("", 0..0), ("", 3..9), ("é", 1..2), ("a", 0..7), ("a\n", 2..2)] {
            let mut problems = Problems::default();
            problems.error(&Some(span.clone()), "key", "message");
            let report = problems.into_report("f".into(), source.into());
            assert!(report.to_string().contains("key: message"), "{source:?} {span:?}");
        }
    }

    #[test]
    fn hidden_values_are_masked() {
        let mut problems = Problems::default();
        problems.hide(&Some(4..13));
        problems.error(&Some(4..13), "k", "not a hash");
        let report = problems.into_report("f".into(), "k = \"secrét\"\n".into());
        assert!(!format!("{report} {report:?}").contains("secr"), "{report}");
    }

    #[test]
    fn broken_lines_are_reported_once() {
        let source = "a = \nb = 1\n";
        let mut problems = Problems::default();
        problems.syntax(source, Some(4..4), "expected a value");
        problems.error(&Some(0..1), "a", "unknown key");
        problems.missing(&None, "c");
        problems.error(&Some(5..6), "b", "unknown key");
        let report = problems.into_report("f".into(), source.into());
        let messages: Vec<_> = report.problems().iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages, ["expected a value", "unknown key"]);
    }
}
