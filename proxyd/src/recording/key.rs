//! The key that signs trails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use proxyd_trail::SigningKey;
use tracing::info;
use zeroize::Zeroizing;

use super::RecordingError;
use super::spool::{Spool, file, sync_directory};

/// Permission bits that would let others than the owner read it.
const OTHERS_MODE: u32 = 0o077;

/// The key in `path`; made where there is none and nothing was ever signed.
pub(super) fn read_or_make(path: &Path, spool: &Spool) -> Result<SigningKey, RecordingError> {
    let refused = |what| RecordingError::Key { path: path.to_owned(), what };
    let damaged = |source| RecordingError::Trail { path: path.to_owned(), source };
    match fs::read(path).map(Zeroizing::new) {
        Ok(pkcs8) => {
            let mode = fs::metadata(path).map_err(file("read", path))?.mode();
            if mode & OTHERS_MODE != 0 {
                return Err(refused("can be read by others: run chmod 600 on it"));
            }
            SigningKey::from_pkcs8(&pkcs8).map_err(damaged)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A second key would leave the trails of the first without a proof.
            if spool.holds_trails()? {
                return Err(refused("is missing, but there are trails that it signed: restore it"));
            }
            let key = SigningKey::generate().map_err(damaged)?;
            keep(path, &key.to_pkcs8().map_err(damaged)?)?;
            info!(path = %path.display(), "Made the key that signs trails");
            Ok(key)
        }
        Err(source) => Err(file("read the key", path)(source)),
    }
}

/// Writes the key; it has its name only once it is whole and on the disk.
fn keep(path: &Path, pkcs8: &[u8]) -> Result<(), RecordingError> {
    let part = path.with_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut out: File = options.open(&part).map_err(file("make the key", &part))?;
    out.write_all(pkcs8).and_then(|()| out.sync_all()).map_err(file("write the key", &part))?;
    fs::rename(&part, path).map_err(file("make the key", path))?;
    sync_directory(path.parent().unwrap_or_else(|| Path::new(".")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let spool = Spool::new(at("spool"), at("store"), None).unwrap();
        let made = read_or_make(&at("key"), &spool).unwrap();
        assert_eq!(read_or_make(&at("key"), &spool).unwrap().public(), made.public());
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o640)).unwrap();
        let open = read_or_make(&at("key"), &spool).unwrap_err().to_string();
        assert!(open.contains("can be read by others"), "{open}");
        fs::remove_file(at("key")).unwrap();
        fs::write(at("store").join("a.trail"), b"").unwrap();
        let lost = read_or_make(&at("key"), &spool).unwrap_err().to_string();
        assert!(lost.contains("there are trails that it signed"), "{lost}");
    }
}
