//! Where on the server the entries of a copy are.

use super::command::{Command, Direction, Path};
use crate::files::{join, parent};

/// The directories that a sender has entered, below the paths of the command.
#[derive(Debug)]
pub(super) struct Place {
    command: Command,
    entered: Vec<Vec<u8>>,
}

impl Place {
    pub(super) const fn new(command: Command) -> Self {
        Self { command, entered: Vec::new() }
    }

    pub(super) const fn direction(&self) -> Direction {
        self.command.direction
    }

    /// Bytes of the names of directories that were entered, each with its slash.
    pub(super) fn entered_bytes(&self) -> usize {
        self.entered.iter().map(|name| name.len() + 1).sum()
    }

    pub(super) fn enter(&mut self, name: &[u8]) {
        self.entered.push(name.to_owned());
    }

    pub(super) fn leave(&mut self) -> bool {
        self.entered.pop().is_some()
    }

    /// The only path of the command, for what is about none of its entries; else empty.
    pub(super) fn root(&self) -> &[u8] {
        match self.command.paths.as_slice() {
            [path] => &path.bytes,
            _ => b"",
        }
    }

    /// Every path that an entry of this name may have; the first is the likeliest. None for one
    /// that the command does not ask for.
    pub(super) fn candidates(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut names: Vec<&[u8]> = self.entered.iter().map(Vec::as_slice).collect();
        names.push(name);
        let paths = self.command.paths.iter();
        match self.command.direction {
            Direction::ToServer => paths.flat_map(|path| self.received(path, &names)).collect(),
            Direction::ToClient => paths.filter_map(|path| sent(path, &names)).collect(),
        }
    }

    /// What is received at a path is put into it if that is a directory, which cannot be seen, and
    /// else has the path as its own.
    fn received(&self, path: &Path, names: &[&[u8]]) -> Vec<Vec<u8>> {
        let inside = join(&path.bytes, &names.join(b"/".as_slice())).into_owned();
        if self.is_directory(path) {
            return vec![inside];
        }
        let below = names.get(1..).unwrap_or_default();
        let instead = [&[path.bytes.as_slice()], below].concat().join(b"/".as_slice());
        // A tree is put into a directory more often than a file is.
        if below.is_empty() { vec![instead, inside] } else { vec![inside, instead] }
    }

    /// Whether a path is a directory for certain.
    fn is_directory(&self, path: &Path) -> bool {
        self.command.is_directory || matches!(last_name(&path.bytes), b"" | b"." | b"..")
    }
}

/// What is sent has the last name of a path, or one that fits it.
fn sent(path: &Path, names: &[&[u8]]) -> Option<Vec<u8>> {
    let end = path.bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let trimmed = path.bytes.get(..end).unwrap_or_default();
    let is_named = path.is_wild || names.first().copied() == Some(last_name(trimmed));
    is_named.then(|| join(parent(trimmed), &names.join(b"/".as_slice())).into_owned())
}

/// What is behind the last slash.
fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates() {
        let cases: [(&str, &[&str], &str, &[&str]); 13] = [
            ("scp -t /tmp/x", &[], "a", &["/tmp/x", "/tmp/x/a"]),
            ("scp -t /tmp/", &[], "a", &["/tmp/a"]),
            ("scp -t .", &[], "a", &["./a"]),
            ("scp -t ''", &[], "a", &["a"]),
            ("scp -d -t /tmp", &[], "a", &["/tmp/a"]),
            ("scp -r -t /tmp/x", &["d"], "a", &["/tmp/x/d/a", "/tmp/x/a"]),
            ("scp -r -t /tmp/x", &["d", "e"], "a", &["/tmp/x/d/e/a", "/tmp/x/e/a"]),
            ("scp -rdt x", &["d", "e"], "a", &["x/d/e/a"]),
            ("scp -f /etc/a /srv/b", &[], "a", &["/etc/a"]),
            ("scp -f a", &[], "a", &["a"]),
            ("scp -f /etc/* /srv/*", &[], "a", &["/etc/a", "/srv/a"]),
            ("scp -r -f /srv/d/", &["d"], "a", &["/srv/d/a"]),
            ("scp -f /etc/a", &[], "b", &[]),
        ];
        for (command, entered, name, expected) in cases {
            let mut place = Place::new(Command::parse(command.as_bytes()).unwrap().0);
            for directory in entered {
                place.enter(directory.as_bytes());
            }
            let got = place.candidates(name.as_bytes());
            let expected: Vec<_> = expected.iter().map(|path| path.as_bytes()).collect();
            assert_eq!(got, expected, "{command}");
        }
    }
}
