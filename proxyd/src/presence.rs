//! Which daemons of one gateway live: each holds a locked file for as long as it does.
//!
//! The kernel gives up the lock with the process, however that ends, so nobody has to be told.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// This daemon's own file.
#[derive(Debug)]
pub struct Presence {
    directory: PathBuf,
    id: Uuid,
    _locked: File,
}

/// The other daemons that have a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// They hold it.
    pub living: Vec<Uuid>,
    /// They died with it.
    pub dead: Vec<Uuid>,
}

impl Presence {
    /// Makes a daemon known, under a new id, in a directory that only the daemons of its gateway
    /// use; it is made where it is missing.
    pub fn announce(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let id = Uuid::now_v7();
        let part = directory.join(format!("{id}.part"));
        let locked = File::create_new(&part)?;
        // It has its name only once it is locked: without the lock, it is that of a dead daemon.
        locked.try_lock().map_err(io::Error::from)?;
        fs::rename(&part, file(directory, id))?;
        Ok(Self { directory: directory.to_owned(), id, _locked: locked })
    }

    /// The id of this daemon.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The others, in the order in which they started.
    pub fn others(&self) -> io::Result<Others> {
        let mut others = Others::default();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            match id {
                Some(id) if id != self.id => match is_held(&file(&self.directory, id))? {
                    Some(true) => others.living.push(id),
                    Some(false) => others.dead.push(id),
                    None => {}
                },
                Some(_) | None => {}
            }
        }
        others.living.sort();
        others.dead.sort();
        Ok(others)
    }

    /// Removes the file of a dead daemon, once nothing that it left has to be looked after.
    pub fn forget(&self, dead: Uuid) -> io::Result<()> {
        remove(&file(&self.directory, dead))
    }

    /// Removes this daemon's own file; nothing that it did is left to be looked after.
    pub fn leave(self) -> io::Result<()> {
        remove(&file(&self.directory, self.id))
    }
}

fn file(directory: &Path, id: Uuid) -> PathBuf {
    directory.join(id.to_string())
}

/// Whether its daemon holds the file; none where it has gone in the meantime.
fn is_held(path: &Path) -> io::Result<Option<bool>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(false)),
        Err(TryLockError::WouldBlock) => Ok(Some(true)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let at = &directory.path().join("daemons");
        let own = Presence::announce(at).unwrap();
        fs::write(at.join("notes"), b"").unwrap();
        fs::write(at.join(format!("{}.part", Uuid::now_v7())), b"").unwrap();
        assert_eq!(own.others().unwrap(), Others::default());
        let (other, dying) = (Presence::announce(at).unwrap(), Presence::announce(at).unwrap());
        let (living, dead) = (other.id(), dying.id());
        // As the kernel does for a process that was killed.
        drop(dying);
        assert_eq!(own.others().unwrap(), Others { living: vec![living], dead: vec![dead] });
        own.forget(dead).unwrap();
        own.forget(dead).unwrap();
        assert_eq!(own.others().unwrap(), Others { living: vec![living], dead: vec![] });
        other.leave().unwrap();
        assert_eq!(own.others().unwrap(), Others::default());
    }
}
