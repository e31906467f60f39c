//! Finds text in what a channel showed.

use proxyd_trail::{ScreenFilter, Source};

/// Looks for a text in output that comes in pieces, whatever the case of its letters.
///
/// The output's own text is searched, without escape sequences, not what it looked like: text that
/// a program put together by moving the cursor is not found.
pub(super) struct Search {
    wanted: String,
    stdout: Seen,
    stderr: Seen,
}

/// What one source sent.
struct Seen {
    filter: ScreenFilter,
    /// The last of its text, less than what is wanted.
    tail: String,
}

impl Search {
    pub(super) fn new(text: &str) -> Self {
        let seen = || Seen { filter: ScreenFilter::text(), tail: String::new() };
        Self { wanted: lower_case(text), stdout: seen(), stderr: seen() }
    }

    /// Takes output; whether the text is there, with what came before.
    pub(super) fn feed(&mut self, source: Source, bytes: &[u8]) -> bool {
        let seen = match source {
            Source::Stdin => return false,
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        seen.tail.push_str(&lower_case(&seen.filter.pass(bytes)));
        let is_found = seen.tail.contains(&self.wanted);
        let kept_bytes = self.wanted.len().saturating_sub(1);
        let from = seen.tail.floor_char_boundary(seen.tail.len().saturating_sub(kept_bytes));
        seen.tail.drain(..from);
        is_found
    }

    /// What came before does not count.
    pub(super) fn forget(&mut self) {
        self.stdout.tail.clear();
        self.stderr.tail.clear();
    }
}

/// A text of which another case of letters makes no difference.
fn lower_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_wherever_it_is_split() {
        let cases: [(&str, &[u8], bool); 9] = [
            ("error", b"an Error here", true),
            ("ERROR", b"an \x1b[31merr\x1b[0mor", true),
            ("caf\u{c9}", "x\u{301}CAF\u{e9}".as_bytes(), true),
            ("a\nb", b"a\r\nb", true),
            ("ab", b"a\r\nb", false),
            ("ab", b"a", false),
            ("title", b"\x1b]0;title\x07", false),
            ("aab", b"aaab", true),
            ("stra\u{df}e", "STRA\u{1e9e}E".as_bytes(), true),
        ];
        for (wanted, bytes, expected) in cases {
            assert_eq!(Search::new(wanted).feed(Source::Stdout, bytes), expected, "{wanted}");
            for at in 0..=bytes.len() {
                let mut search = Search::new(wanted);
                let (first, second) = bytes.split_at(at);
                let found = [first, second].map(|part| search.feed(Source::Stdout, part));
                assert_eq!(found.contains(&true), expected, "{wanted} at {at}");
            }
        }
    }

    #[test]
    fn sources_do_not_mix_and_what_was_before_is_forgotten() {
        let mut search = Search::new("ab");
        assert!(!search.feed(Source::Stdout, b"a"));
        assert!(!search.feed(Source::Stderr, b"b"));
        assert!(!search.feed(Source::Stdin, b"ab"));
        search.forget();
        assert!(!search.feed(Source::Stdout, b"b"));
        assert!(!search.feed(Source::Stdout, b"a"));
        assert!(search.feed(Source::Stdout, b"b"));
    }

    #[test]
    fn memory_is_bounded_by_the_text() {
        let mut search = Search::new("x\u{e9}y");
        for _ in 0..100 {
            search.feed(Source::Stdout, "\u{e9}".repeat(1_000).as_bytes());
            assert!(search.stdout.tail.len() <= 4, "{}", search.stdout.tail.len());
        }
    }
}
