//! File policies: what may be done to which paths of a server over sftp and scp.

use std::fmt;
use std::str::FromStr;

use crate::limits::PATH_PATTERN_BYTES_MAX;

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileAccess {
    /// Reads a file's content.
    Read,
    /// Changes a file's content or size, or creates it.
    Write,
    /// Lists a directory.
    List,
    /// Asks for attributes, or for what a symbolic link leads to.
    Stat,
    /// Changes attributes.
    Setstat,
    /// Removes a file.
    Remove,
    /// Renames a file or directory; both names have to be allowed.
    Rename,
    /// Makes a directory.
    Mkdir,
    /// Removes a directory.
    Rmdir,
    /// Makes a link; the link and what it leads to have to be allowed.
    Link,
    /// Something else, which no path is known of.
    Other,
}

/// What a rule says to what fits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// It may be.
    Allow,
    /// It may not be.
    Refuse,
}

/// One rule of a file policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// What is done; any one of these.
    pub operations: Vec<FileAccess>,
    /// To which paths; empty: to any.
    pub paths: Vec<PathPattern>,
    /// How many bytes of a file may be read, and how far into it may be written.
    pub bytes_max: Option<u64>,
    /// What becomes of it.
    pub action: FileAction,
}

/// Rules in order; the first that fits decides, and what none fits is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePolicy {
    /// The policy's name.
    pub name: String,
    /// The rules.
    pub rules: Vec<FileRule>,
}

/// One access to be judged.
#[derive(Clone, Copy, Debug)]
pub struct FileRequest<'a> {
    /// What is done.
    pub access: FileAccess,
    /// The path as the client wrote it; none where it is not known.
    pub path: Option<&'a [u8]>,
    /// Where the server begins relative paths, if it said so.
    pub home: Option<&'a [u8]>,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileVerdict {
    /// It may be.
    Allow {
        /// How far into the file it may reach.
        bytes_max: Option<u64>,
    },
    /// It may not be.
    Refuse,
}

impl FilePolicy {
    /// Judges one access.
    ///
    /// Paths are compared as written, without empty names and `.`; what symbolic links lead to on
    /// the server is not known. So a `..` behind a name is refused, as the name may be a link: all
    /// but those that lead up from the very directory that the server begins at. Servers are taken
    /// for POSIX ones, where `/` alone parts names; a `..` beside a `\` is refused all the same.
    #[must_use]
    pub fn judge(&self, request: &FileRequest<'_>) -> FileVerdict {
        let home = request.home.map(|home| Place::new(home, None));
        let place = request.path.map(|path| Place::new(path, home.as_ref()));
        if place.as_ref().is_some_and(|place| place.is_doubtful) {
            return FileVerdict::Refuse;
        }
        for rule in self.rules.iter().filter(|rule| rule.operations.contains(&request.access)) {
            let fits = rule.paths.is_empty()
                || rule.paths.iter().any(|pattern| match place.as_ref() {
                    Some(place) => pattern.fits(place, home.as_ref()).is_taken_as(rule.action),
                    None => rule.action == FileAction::Refuse,
                });
            if fits {
                return match rule.action {
                    FileAction::Allow => FileVerdict::Allow { bytes_max: rule.bytes_max },
                    FileAction::Refuse => FileVerdict::Refuse,
                };
            }
        }
        FileVerdict::Refuse
    }
}

/// Why a path pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// The pattern has no characters.
    #[error("path pattern is empty")]
    Empty,
    /// The pattern is longer than [`PATH_PATTERN_BYTES_MAX`].
    #[error("path pattern of {bytes} bytes exceeds {PATH_PATTERN_BYTES_MAX}")]
    TooLong {
        /// Length of the refused pattern.
        bytes: usize,
    },
    /// `**` beside other characters.
    #[error("\"**\" in \"{0}\" is not a whole name between slashes")]
    Wildcard(String),
    /// A name that no path has once it is in its shortest form.
    #[error("\"{0}\" has an empty name, \".\", \"..\" or a zero byte, so that no path fits it")]
    Impossible(String),
}

/// A pattern for paths: `*` is any characters within a name, the name `**` any names, none too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    is_absolute: bool,
}

impl PathPattern {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the pattern.
    fn names(&self) -> Vec<&[u8]> {
        let text = self.text.trim_start_matches('/');
        text.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect()
    }

    /// Compares a path; patterns that are not absolute begin at `home`.
    fn fits(&self, place: &Place<'_>, home: Option<&Place<'_>>) -> Fit {
        let names = self.names();
        let is_above = place.names.first() == Some(&UP);
        if names.first() == Some(&ANY_NAMES) {
            // The pattern takes whatever is before the names that are known, if they fit.
            let known = place.names.iter().position(|name| *name != UP);
            let known = known.and_then(|at| place.names.get(at..)).unwrap_or_default();
            let fits = fit_names(&names, known);
            return if fits || place.is_absolute { Fit::from(fits) } else { Fit::Unknown };
        }
        if self.is_absolute == place.is_absolute && !is_above {
            return Fit::from(fit_names(&names, &place.names));
        }
        // A path is relative only as long as home is not known.
        match home.filter(|home| home.is_absolute && place.is_absolute) {
            Some(home) => match place.names.strip_prefix(home.names.as_slice()) {
                Some(below) => Fit::from(fit_names(&names, below)),
                None => Fit::No,
            },
            None => Fit::Unknown,
        }
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(PathPatternError::Empty);
        }
        if text.len() > PATH_PATTERN_BYTES_MAX {
            return Err(PathPatternError::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix('/');
        // The root alone has no name.
        for name in rest.unwrap_or(text).split('/').filter(|_| text != "/") {
            if name.contains("**") && name != "**" {
                return Err(PathPatternError::Wildcard(text.to_owned()));
            }
            if matches!(name, "" | "." | "..") || name.contains('\0') {
                return Err(PathPatternError::Impossible(text.to_owned()));
            }
        }
        Ok(Self { text: text.to_owned(), is_absolute: rest.is_some() })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name that stands for any names.
const ANY_NAMES: &[u8] = b"**";

/// The name that stands for the directory above.
const UP: &[u8] = b"..";

/// Whether a path fits a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// One is relative to a directory that is not known.
    Unknown,
}

impl Fit {
    /// What is not known is never allowed by a rule, and is refused by the first that could.
    fn is_taken_as(self, action: FileAction) -> bool {
        self == Self::Yes || (self == Self::Unknown && action == FileAction::Refuse)
    }
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }
}

/// A path in its shortest form.
#[derive(Clone, Debug)]
struct Place<'a> {
    names: Vec<&'a [u8]>,
    is_absolute: bool,
    /// Whether a server may take it for another one: it ends it at a zero byte, follows a symbolic
    /// link before it goes up, or goes up where it has a `\`.
    is_doubtful: bool,
}

impl<'a> Place<'a> {
    fn new(path: &'a [u8], home: Option<&Self>) -> Self {
        let mut place = match home {
            Some(home) if !path.starts_with(b"/") => home.clone(),
            _ => {
                Self { names: Vec::new(), is_absolute: path.starts_with(b"/"), is_doubtful: false }
            }
        };
        place.is_doubtful |= path.contains(&0) || goes_up_on_windows(path);
        let home = home.map(|home| home.names.as_slice());
        // A directory above home is as certain as home.
        let mut is_above_home = false;
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                UP if place.names.last().is_some_and(|last| *last != UP) => {
                    is_above_home |= home == Some(place.names.as_slice());
                    place.is_doubtful |= !is_above_home;
                    place.names.pop();
                }
                // Above the root is the root.
                UP if place.is_absolute => {}
                name => {
                    is_above_home = false;
                    place.names.push(name);
                }
            }
        }
        place
    }
}

/// Whether a `..` is beside a `\`, which parts names on Windows.
fn goes_up_on_windows(path: &[u8]) -> bool {
    path.windows(UP.len() + 1).any(|part| matches!(part, br"\.." | br"..\"))
}

/// Compares names with those of a pattern; looks at each pair at most once per `**`.
fn fit_names(pattern: &[&[u8]], names: &[&[u8]]) -> bool {
    fit_sequence(pattern, names, |part| *part == ANY_NAMES, |part, name| fit_name(part, name))
}

/// Compares a name with one of a pattern.
fn fit_name(pattern: &[u8], name: &[u8]) -> bool {
    fit_sequence(pattern, name, |part| *part == b'*', |part, byte| part == byte)
}

/// Compares a sequence with a pattern of which some elements stand for any run. Only the last of
/// those that were met is ever tried again: the ones before it took as little as they could.
fn fit_sequence<T>(
    pattern: &[T],
    sequence: &[T],
    is_any: impl Fn(&T) -> bool,
    fits: impl Fn(&T, &T) -> bool,
) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(element) = sequence.get(at) {
        match pattern.get(in_pattern) {
            Some(part) if is_any(part) => {
                in_pattern += 1;
                retry = Some((at, in_pattern));
            }
            Some(part) if fits(part, element) => {
                at += 1;
                in_pattern += 1;
            }
            Some(_) | None => {
                let Some((from, behind)) = &mut retry else { return false };
                *from += 1;
                (at, in_pattern) = (*from, *behind);
            }
        }
    }
    pattern.iter().skip(in_pattern).all(is_any)
}

#[cfg(test)]
mod tests {
    use super::FileAccess::{Read, Write};
    use super::*;
    use proptest::prelude::*;

    fn rule(operations: &[FileAccess], paths: &[&str], action: FileAction) -> FileRule {
        FileRule {
            operations: operations.to_vec(),
            paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
            bytes_max: None,
            action,
        }
    }

    fn policy(rules: &[FileRule]) -> FilePolicy {
        FilePolicy { name: "p".into(), rules: rules.to_vec() }
    }

    fn allows(policy: &FilePolicy, path: &[u8], home: Option<&[u8]>) -> bool {
        let request = FileRequest { access: Read, path: Some(path), home };
        policy.judge(&request) != FileVerdict::Refuse
    }

    #[test]
    fn which_paths_fit_a_pattern() {
        let home: Option<&[u8]> = Some(b"/h/u");
        let long = [b"/data/".as_slice(), &vec![b'x'; 65_536]].concat();
        let cases: [(&str, &str, &[u8], Option<&[u8]>, bool); 58] = [
            ("literal", "/a/b", b"/a/b", None, true),
            ("case", "/a/b", b"/a/B", None, false),
            ("below", "/a", b"/a/b", None, false),
            ("root", "/", b"/", None, true),
            ("root only", "/", b"/a", None, false),
            ("star", "/a/*.log", b"/a/x.log", None, true),
            ("star takes nothing", "/a/*.log", b"/a/.log", None, true),
            ("star stays in its name", "/a/*", b"/a/b/c", None, false),
            ("star needs a name", "/a/*", b"/a", None, false),
            ("stars", "/*/x*y/c", b"/a/x-x-y/c", None, true),
            ("two stars below", "/data/**", b"/data/a/b", None, true),
            ("two stars itself", "/data/**", b"/data", None, true),
            ("two stars beside", "/data/**", b"/database", None, false),
            ("two stars between", "/a/**/z", b"/a/b/c/z", None, true),
            ("two stars between nothing", "/a/**/z", b"/a/z", None, true),
            ("two stars twice", "/**/b/**/d", b"/a/b/b/c/d/d", None, true),
            ("two stars, other end", "/**/b/**/d", b"/a/b/c", None, false),
            ("up", "/data/**", b"/data/../etc/shadow", None, false),
            ("up and down", "/data/**", b"/etc/../data/x", None, false),
            ("up to where it is", "/data/**", b"/data/a/../b", None, false),
            ("up at the end", "/**", b"/data/a/..", None, false),
            ("above the root", "/etc/*", b"/../../etc/passwd", None, true),
            ("slashes", "/data/x", b"//data///x", None, true),
            ("dots", "/data/x", b"/./data/./x/.", None, true),
            ("slash behind", "/data/x", b"/data/x/", None, true),
            ("not UTF-8", "/data/*", b"/data/\xff\xfe", None, true),
            ("backslash", "/data/*", br"/data/a\b\.c.", None, true),
            ("up behind a backslash", "/data/*", br"/data/x\..\..\y", None, false),
            ("up before a backslash", "/data/*", br"/data/..\y", None, false),
            ("up behind a last backslash", "/data/*", br"/data/x\..", None, false),
            ("newline", "/data/*", b"/data/a\nb", None, true),
            ("zero byte", "/data/**", b"/data/a\0/../../etc", None, false),
            ("zero byte anywhere", "**", b"/a\0", None, false),
            ("long", "/data/**", &long, None, true),
            ("relative, home known", "/h/u/x", b"x", home, true),
            ("relative, out of home", "/h/u/**", b"../v/x", home, false),
            ("up from home", "/h/v/**", b"../v/x", home, true),
            ("up from home, absolute", "/h/v/**", b"/h/u/.././v/x", home, true),
            ("twice up from home", "/h/**", b"../../h/x", home, true),
            ("up from home, then from a name", "/h/**", b"../v/../x", home, false),
            ("up and down to home", "/h/**", b"../u/../x", home, true),
            ("up from below home", "/h/**", b"v/../x", home, false),
            ("up from beside home", "/h/**", b"/h/v/../x", home, false),
            ("up from above home", "/h/**", b"/h/../h/x", home, false),
            ("up, home not known", "/h/v/**", b"/h/u/../v/x", None, false),
            ("home that is not in its shortest form", "/**", b"x", Some(b"/h/v/../u"), false),
            ("empty is home", "/h/u", b"", home, true),
            ("dot is home", "/h/u", b".", home, true),
            ("pattern from home", "up/*", b"/h/u/up/x", home, true),
            ("pattern from home, elsewhere", "up/*", b"/h/v/up/x", home, false),
            ("pattern from home, relative", "up/*", b"./up/x", home, true),
            ("home not known", "/h/u/**", b"x", None, false),
            ("both relative", "up/*", b"up/x", None, true),
            ("both relative, out of home", "up/*", b"up/../../x", None, false),
            ("both relative, above", "*/x", b"../x", None, false),
            ("anywhere", "**/.ssh/*", b".ssh/id", None, true),
            ("anywhere, above", "**/x", b"../x", None, true),
            ("anywhere, above, needs a name", "**/*/x", b"../x", None, false),
        ];
        for (case, pattern, path, home, expected) in cases {
            let allowed = policy(&[rule(&[Read], &[pattern], FileAction::Allow)]);
            assert_eq!(allows(&allowed, path, home), expected, "{case}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let all = rule(&[Read], &["**"], FileAction::Allow);
        let cases: [(&str, &str, &[u8], Option<&[u8]>, bool); 11] = [
            ("known to be elsewhere", "/etc/**", b"/srv/x", None, true),
            ("known to be there", "/etc/**", b"../../etc/x", Some(b"/h/u"), false),
            ("perhaps there", "/etc/**", b"../../etc/x", None, false),
            ("relative, home known", "/etc/**", b"x", Some(b"/h/u"), true),
            ("anywhere, known", "**/.ssh/*", b"x", Some(b"/h/u"), true),
            ("anywhere, fits", "**/.ssh/*", b".ssh/id", None, false),
            ("anywhere, home may be in it", "**/.ssh/*", b"id", None, false),
            ("anywhere, above may be in it", "**/.ssh/*", b"../id", None, false),
            ("anywhere, absolute", "**/.ssh/*", b"/id", None, true),
            ("perhaps in home", "private/**", b"/h/u/private/x", None, false),
            ("not in home", "private/**", b"/h/u/x", Some(b"/h/u"), true),
        ];
        for (case, pattern, path, home, expected) in cases {
            let refused = rule(&[Read], &[pattern], FileAction::Refuse);
            let policy = policy(&[refused, all.clone()]);
            assert_eq!(allows(&policy, path, home), expected, "{case}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let small = FileRule { bytes_max: Some(9), ..rule(&[Read, Write], &[], FileAction::Allow) };
        let other = rule(&[FileAccess::Other], &[], FileAction::Allow);
        let policy = policy(&[
            rule(&[Write], &["/a/**"], FileAction::Refuse),
            rule(&[Write, FileAccess::Other], &["/**"], FileAction::Allow),
            small,
            other,
        ]);
        let judge =
            |access, path: Option<&[u8]>| policy.judge(&FileRequest { access, path, home: None });
        let allow = |bytes_max| FileVerdict::Allow { bytes_max };
        assert_eq!(judge(Write, Some(b"/a/x")), FileVerdict::Refuse);
        assert_eq!(judge(Write, Some(b"/b")), allow(None));
        assert_eq!(judge(Read, Some(b"/a/x")), allow(Some(9)));
        assert_eq!(judge(FileAccess::List, Some(b"/a")), FileVerdict::Refuse);
        assert_eq!(judge(FileAccess::Other, None), allow(None));
        let nothing = FilePolicy { name: "p".into(), rules: vec![] };
        assert!(!allows(&nothing, b"/", None));
    }

    #[test]
    fn refused_patterns() {
        let long = format!("/{}", "a".repeat(4_096));
        let cases = [
            ("", PathPatternError::Empty),
            (long.as_str(), PathPatternError::TooLong { bytes: 4_097 }),
            ("/a**", PathPatternError::Wildcard("/a**".into())),
            ("/***", PathPatternError::Wildcard("/***".into())),
            ("/a//b", PathPatternError::Impossible("/a//b".into())),
            ("/a/", PathPatternError::Impossible("/a/".into())),
            ("./a", PathPatternError::Impossible("./a".into())),
            ("/a/../b", PathPatternError::Impossible("/a/../b".into())),
            ("/a\0", PathPatternError::Impossible("/a\0".into())),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PathPattern>(), Err(error), "{text}");
        }
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
        fn same_as_the_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(fit_name(pattern, name), slow(pattern, name));
        }

        #[test]
        fn no_path_gets_out_of_what_is_allowed(path in "(/|\\.\\.|\\.|a|b|data){0,12}") {
            let allowed = policy(&[rule(&[Read], &["/data/**"], FileAction::Allow)]);
            // What a server makes of it, wherever the names are links to.
            let mut place: Vec<&str> = vec![];
            let mut is_certain = true;
            for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
                if name == ".." { is_certain &= place.pop().is_none(); } else { place.push(name); }
            }
            let inside = path.starts_with('/') && place.first() == Some(&"data") && is_certain;
            prop_assert_eq!(allows(&allowed, path.as_bytes(), None), inside);
        }
    }
}
