//! Where trails live: the spool while they are written, the store once they are sealed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proxyd_trail::{Recovery, SigningKey};
use tracing::{error, warn};
use uuid::Uuid;

use super::RecordingError;

/// The end of a trail's file name.
const SUFFIX: &str = ".trail";

/// Trails are for the daemon and for whoever it hands them to.
const FILE_MODE: u32 = 0o600;

/// The two directories of trails.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    spool: PathBuf,
    store: PathBuf,
}

/// A trail that an earlier daemon left open.
#[derive(Debug)]
pub struct Recovered {
    /// Its file name, now in the store.
    pub name: String,
    /// What was found and done.
    pub recovery: Recovery,
    /// The hash that it ends with, in hexadecimal.
    pub hash: String,
}

impl Spool {
    pub(super) fn new(spool: PathBuf, store: PathBuf) -> Result<Self, RecordingError> {
        for directory in [&spool, &store] {
            fs::create_dir_all(directory).map_err(file("make the directory", directory))?;
        }
        Ok(Self { spool, store })
    }

    /// The name of a session's trail: nothing of it comes from a peer.
    pub(super) fn file_name(session: Uuid) -> String {
        format!("{session}{SUFFIX}")
    }

    /// A new file in the spool.
    pub(super) fn create(&self, name: &str) -> Result<(File, PathBuf), RecordingError> {
        let path = self.spool.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let opened = options.open(&path).map_err(file("make the trail", &path))?;
        sync_directory(&self.spool)?;
        Ok((opened, path))
    }

    /// Moves a sealed trail to the store; replaces nothing there.
    pub(super) fn store(&self, name: &str) -> Result<(), RecordingError> {
        let (from, to) = (self.spool.join(name), self.store.join(name));
        match fs::hard_link(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(&from, &to)?,
            Err(source) => {
                return Err(RecordingError::File { doing: "store the trail as", path: to, source });
            }
        }
        sync_directory(&self.store)?;
        fs::remove_file(&from).map_err(file("remove the stored trail from the spool", &from))
    }

    /// Closes and stores what an earlier daemon left; one that resists blocks no other.
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
                Ok((recovery, hash)) => {
                    warn!(trail = name, hash, "Closed a trail that was left open");
                    recovered.push(Recovered { name, recovery, hash });
                }
                Err(error) => {
                    error!(trail = name, %error, source = ?error, "Trail left in the spool");
                }
            }
        }
        Ok(recovered)
    }

    /// Gives what was done, and the hash that the trail ends with.
    fn recover_one(
        &self,
        name: &str,
        signing_key: &SigningKey,
        wall_ns: u64,
    ) -> Result<(Recovery, String), RecordingError> {
        let path = self.spool.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let mut opened = options.open(&path).map_err(file("open the trail", &path))?;
        let reason = "the daemon ended without closing the trail";
        let damaged = |source| RecordingError::Trail { path: path.clone(), source };
        let recovery = proxyd_trail::recover(&mut opened, signing_key, reason, wall_ns)
            .map_err(damaged)?;
        opened.rewind().map_err(file("read the trail", &path))?;
        let report = proxyd_trail::verify(BufReader::new(opened), Some(&signing_key.public()))
            .map_err(damaged)?;
        self.store(name)?;
        Ok((recovery, super::hexadecimal(&report.hash)))
    }
}

/// Copies to another file system, where a link cannot go; the copy is on its disk afterwards.
fn copy(from: &Path, to: &Path) -> Result<(), RecordingError> {
    let doing = "copy the trail to";
    let mut source = File::open(from).map_err(file("open the trail", from))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    let mut target = options.open(to).map_err(file(doing, to))?;
    io::copy(&mut source, &mut target).map_err(file(doing, to))?;
    target.sync_all().map_err(file(doing, to))
}

/// A name is on the disk once its directory is.
fn sync_directory(path: &Path) -> Result<(), RecordingError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(file("flush", path))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
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
        let spool = Spool::new(path("spool"), path("store")).unwrap();
        let name = Spool::file_name(Uuid::now_v7());
        spool.create(&name).unwrap();
        assert!(spool.create(&name).is_err(), "a second trail of the same session");
        spool.store(&name).unwrap();
        assert!(path("store").join(&name).exists());
        assert!(!path("spool").join(&name).exists());
        spool.create(&name).unwrap();
        assert!(spool.store(&name).is_err(), "another trail under the same name");
        assert!(path("spool").join(&name).exists(), "what cannot be stored stays");
    }

    #[test]
    fn one_damaged_trail_blocks_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let spool = Spool::new(path("spool"), path("store")).unwrap();
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
        let (file, _) = spool.create("b.trail").unwrap();
        drop(proxyd_trail::Writer::create(file, &header, &sealing).unwrap());
        let recovered = spool.recover(&key, 2).unwrap();
        assert_eq!(recovered.len(), 1);
        assert_eq!(recovered[0].name, "b.trail");
        let Recovery::Closed { summary, .. } = &recovered[0].recovery else {
            panic!("{:?}", recovered[0].recovery);
        };
        assert_eq!(recovered[0].hash, super::super::hexadecimal(&summary.hash));
        assert!(path("spool").join("a.trail").exists(), "left for an operator");
        let stored = File::open(path("store").join("b.trail")).unwrap();
        assert!(proxyd_trail::verify(stored, Some(&key.public())).unwrap().is_complete());
    }
}
