//! Where trails live: the spool while they are written, the store once they are sealed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxyd_trail::{Recovery, SigningKey, TrailError};
use tracing::{debug, error, warn};
use uuid::Uuid;

use super::RecordingError;

/// The end of a trail's file name.
const SUFFIX: &str = ".trail";

/// Trails are for the daemon and for whoever it hands them to.
const FILE_MODE: u32 = 0o600;

/// Held by the daemon that serves.
const LOCK: &str = ".lock";

/// The two directories of trails.
///
/// One daemon holds the lock of the spool. Others may still write trails there whose sessions they
/// had before they gave it up; each trail is locked by whoever writes it.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    spool: PathBuf,
    store: PathBuf,
    /// None once it was given up.
    lock: Arc<Mutex<Option<File>>>,
}

/// A new file in the spool.
#[derive(Debug)]
pub(super) struct Created {
    /// To be written.
    pub(super) file: File,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Keeps others from closing the trail, until it is in the store.
    pub(super) lock: File,
}

/// A trail that an earlier daemon left open.
#[derive(Debug)]
pub struct Recovered {
    /// Its file name, now in the store.
    pub name: String,
    /// What was found and done.
    pub recovery: Recovery,
}

/// The file name of a session's trail, in the spool and in the store: nothing of it comes from a
/// peer.
#[must_use]
pub fn trail_name(session: Uuid) -> String {
    format!("{session}{SUFFIX}")
}

impl Spool {
    /// Both directories, made where they are missing; takes the lock, or goes on with the one that
    /// the daemon before has handed over.
    pub(super) fn new(
        spool: PathBuf,
        store: PathBuf,
        handed: Option<OwnedFd>,
    ) -> Result<Self, RecordingError> {
        for directory in [&spool, &store] {
            fs::create_dir_all(directory).map_err(file("make the directory", directory))?;
        }
        let path = spool.join(LOCK);
        let own = File::create(&path).map_err(file("make the lock", &path))?;
        let lock = match handed.map(File::from) {
            Some(handed) => {
                if !is_one_file(&handed, &own).map_err(file("look at the lock", &path))? {
                    return Err(RecordingError::OtherLock { path });
                }
                handed
            }
            None => match own.try_lock() {
                Ok(()) => own,
                // Two daemons that serve would take each other's connections and hooks.
                Err(TryLockError::WouldBlock) => {
                    return Err(RecordingError::Locked { path: spool });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(RecordingError::File {
                        doing: "lock the spool with",
                        path,
                        source,
                    });
                }
            },
        };
        Ok(Self { spool, store, lock: Arc::new(Mutex::new(Some(lock))) })
    }

    /// The lock, for the daemon that takes over; both hold it until one gives it up or ends.
    pub(super) fn share_lock(&self) -> Result<OwnedFd, RecordingError> {
        let gone = || io::Error::other("it was given up");
        let shared = self.lock().as_ref().ok_or_else(gone).and_then(File::try_clone);
        shared.map(OwnedFd::from).map_err(file("share the lock of", &self.spool))
    }

    /// Gives up the lock; trails that are being written can be ended.
    pub(super) fn give_up_lock(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        // Nothing that runs under the lock can panic half way through a change.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any trail is in the spool or the store.
    pub(super) fn holds_trails(&self) -> Result<bool, RecordingError> {
        for directory in [&self.spool, &self.store] {
            for entry in fs::read_dir(directory).map_err(file("read", directory))? {
                let name = entry.map_err(file("read", directory))?.file_name();
                if name.to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A new file in the spool.
    pub(super) fn create(&self, name: &str) -> Result<Created, RecordingError> {
        let (part, path) = (self.spool.join(format!(".{name}.new")), self.spool.join(name));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let opened = options.open(&part).map_err(file("make the trail", &part))?;
        let lock = opened.try_clone().map_err(file("make the trail", &part))?;
        // It has its name only once it is locked: without, a dead daemon has left it.
        lock.try_lock().map_err(io::Error::from).map_err(file("lock the trail", &part))?;
        // Names hold session ids, which never repeat.
        if path.exists() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(RecordingError::File { doing: "make the trail", path, source });
        }
        fs::rename(&part, &path).map_err(file("make the trail", &path))?;
        sync_directory(&self.spool)?;
        Ok(Created { file: opened, path, lock })
    }

    /// Removes a trail whose header could not be written.
    pub(super) fn discard(&self, name: &str) {
        let path = self.spool.join(name);
        if let Err(error) = fs::remove_file(&path) {
            warn!(path = %path.display(), %error, "The rest of a header stays in the spool");
        }
    }

    /// Moves a sealed trail to the store; replaces nothing there.
    ///
    /// The trail has its name in the store only once it is whole there, and leaves the spool only
    /// after that; whatever is cut short is done again at the next start.
    pub(super) fn store(&self, name: &str) -> Result<(), RecordingError> {
        let (from, to) = (self.spool.join(name), self.store.join(name));
        match fs::hard_link(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same(&from, &to)? => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(file("store the trail as", &to)(error));
            }
            // The store is another file system, or one without links.
            Err(_no_link) => self.copy(&from, name)?,
        }
        sync_directory(&self.store)?;
        fs::remove_file(&from).map_err(file("remove the stored trail from the spool", &from))
    }

    /// Copies a trail to the store, reads it back, and gives it its name.
    fn copy(&self, from: &Path, name: &str) -> Result<(), RecordingError> {
        let (part, to) = (self.store.join(format!(".{name}.part")), self.store.join(name));
        let doing = "copy the trail to";
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove the rest of an earlier copy", &part)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut source = File::open(from).map_err(file("open the trail", from))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut target = options.open(&part).map_err(file(doing, &part))?;
        io::copy(&mut source, &mut target).map_err(file(doing, &part))?;
        target.sync_all().map_err(file(doing, &part))?;
        if !same(from, &part)? {
            let source = io::Error::other("the copy is not what was copied");
            return Err(RecordingError::File { doing, path: part, source });
        }
        // Only this daemon writes here, and names hold session ids, which never repeat.
        if to.exists() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(RecordingError::File { doing: "store the trail as", path: to, source });
        }
        fs::rename(&part, &to).map_err(file("store the trail as", &to))
    }

    /// Closes and stores what a dead daemon left; one that resists blocks no other, and one that
    /// is still being written is left alone.
    pub(super) fn recover(
        &self,
        signing_key: &SigningKey,
        wall_ns: u64,
    ) -> Result<Vec<Recovered>, RecordingError> {
        let entries = fs::read_dir(&self.spool).map_err(file("read the spool", &self.spool))?;
        let mut recovered = Vec::new();
        for entry in entries {
            let entry = entry.map_err(file("read the spool", &self.spool))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.ends_with(SUFFIX) {
                continue;
            }
            match self.recover_one(&name, signing_key, wall_ns) {
                Ok(None) => debug!(trail = name, "A daemon still writes this trail"),
                Ok(Some(recovery)) => {
                    warn!(trail = name, ?recovery, "Closed a trail that was left open");
                    recovered.push(Recovered { name, recovery });
                }
                Err(error) => {
                    error!(trail = name, %error, source = ?error, "Trail left in the spool");
                }
            }
        }
        Ok(recovered)
    }

    fn recover_one(
        &self,
        name: &str,
        signing_key: &SigningKey,
        wall_ns: u64,
    ) -> Result<Option<Recovery>, RecordingError> {
        let path = self.spool.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let mut opened = match options.open(&path) {
            // Its daemon has stored it in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(file("open the trail", &path))?,
        };
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(RecordingError::File { doing: "lock the trail", path, source });
            }
        }
        let reason = "the daemon ended without closing the trail";
        let recovery = match proxyd_trail::recover(&mut opened, signing_key, reason, wall_ns) {
            Ok(recovery) => recovery,
            Err(source) => {
                if matches!(source, TrailError::HeaderCut { .. }) {
                    // Nothing was recorded yet; it is kept for whoever wonders, out of the way.
                    let aside = path.with_extension("cut");
                    fs::rename(&path, &aside).map_err(file("move aside", &path))?;
                }
                return Err(RecordingError::Trail { path, source });
            }
        };
        self.store(name)?;
        Ok(Some(recovery))
    }
}

/// Whether both are the same file.
fn is_one_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Whether two files hold the same bytes.
fn same(one: &Path, other: &Path) -> Result<bool, RecordingError> {
    let open = |path: &Path| File::open(path).map_err(file("open the trail", path));
    let (mut one_file, mut other_file) = (open(one)?, open(other)?);
    let (mut one_bytes, mut other_bytes) = (Vec::new(), Vec::new());
    loop {
        let read = |from: &mut File, into: &mut Vec<u8>, path: &Path| {
            into.clear();
            from.take(COMPARED_BYTES).read_to_end(into).map_err(file("read the trail", path))
        };
        let count = read(&mut one_file, &mut one_bytes, one)?;
        read(&mut other_file, &mut other_bytes, other)?;
        if one_bytes != other_bytes {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Bytes of each file compared at a time.
const COMPARED_BYTES: u64 = 256 * 1024;

/// A name is on the disk once its directory is.
pub(super) fn sync_directory(path: &Path) -> Result<(), RecordingError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(file("flush", path))
}

/// An error of a file while `doing` something with it.
pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
    let path = path.to_owned();
    move |source| RecordingError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_trail_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let spool = Spool::new(path("spool"), path("store"), None).unwrap();
        let name = trail_name(Uuid::now_v7());
        spool.create(&name).unwrap();
        assert!(spool.create(&name).is_err(), "a second trail of the same session");
        spool.store(&name).unwrap();
        assert!(path("store").join(&name).exists());
        assert!(!path("spool").join(&name).exists());
        fs::write(path("spool").join(&name), b"another").unwrap();
        assert!(spool.store(&name).is_err(), "another trail under the same name");
        assert!(path("spool").join(&name).exists(), "what cannot be stored stays");
    }

    #[test]
    fn one_damaged_trail_blocks_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let spool = Spool::new(path("spool"), path("store"), None).unwrap();
        let key = SigningKey::generate().unwrap();
        fs::write(path("spool").join("a.trail"), b"no trail").unwrap();
        fs::write(path("spool").join("notes"), b"somebody's").unwrap();
        let (_, recipient) = proxyd_trail::keygen();
        let sealing = proxyd_trail::Sealing::new(&[vec![recipient]], &[], key.clone()).unwrap();
        let header = proxyd_trail::Header {
            session_id: [1; 16],
            created_ns: 1,
            protocol: "ssh".to_owned(),
            connection_policy: "linux".to_owned(),
        };
        let Created { file, lock, .. } = spool.create("b.trail").unwrap();
        drop(proxyd_trail::Writer::create(file, &header, &sealing).unwrap());
        assert_eq!(spool.recover(&key, 2).unwrap().len(), 0, "its writer lives");
        drop(lock);
        let recovered = spool.recover(&key, 2).unwrap();
        assert_eq!(recovered.len(), 1);
        assert_eq!(recovered[0].name, "b.trail");
        assert!(matches!(recovered[0].recovery, Recovery::Closed { .. }));
        assert!(path("spool").join("a.trail").exists(), "left for an operator");
        let stored = File::open(path("store").join("b.trail")).unwrap();
        assert!(proxyd_trail::verify(stored, Some(&key.public())).unwrap().is_recovered());
    }

    #[test]
    fn a_spool_has_one_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let first = Spool::new(path("spool"), path("store"), None).unwrap();
        let second = Spool::new(path("spool"), path("store"), None);
        assert!(matches!(second, Err(RecordingError::Locked { .. })), "{second:?}");
        drop(first);
        Spool::new(path("spool"), path("store"), None).unwrap();
    }

    #[test]
    fn the_lock_is_handed_over_without_a_moment_in_which_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let open = |handed| Spool::new(path("spool"), path("store"), handed);
        let old = open(None).unwrap();
        let new = open(Some(old.share_lock().unwrap())).unwrap();
        old.give_up_lock();
        assert!(matches!(open(None), Err(RecordingError::Locked { .. })));
        old.share_lock().unwrap_err();
        drop(new);
        let third = open(None).unwrap();
        let other = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(matches!(open(Some(other)), Err(RecordingError::OtherLock { .. })));
        drop(third);
    }

    #[test]
    fn storing_is_done_again_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let spool = Spool::new(path("spool"), path("store"), None).unwrap();
        // Stored, but not yet gone from the spool.
        fs::write(path("spool").join("a.trail"), b"whole").unwrap();
        fs::write(path("store").join("a.trail"), b"whole").unwrap();
        spool.store("a.trail").unwrap();
        assert!(!path("spool").join("a.trail").exists());
        // Half copied.
        fs::write(path("spool").join("b.trail"), b"whole").unwrap();
        fs::write(path("store").join(".b.trail.part"), b"wh").unwrap();
        spool.copy(&path("spool").join("b.trail"), "b.trail").unwrap();
        assert_eq!(fs::read(path("store").join("b.trail")).unwrap(), b"whole");
        assert!(!path("store").join(".b.trail.part").exists());
        assert!(spool.holds_trails().unwrap());
    }
}
