//! The file system that pins stand on: mounting it where none is, and its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::SteeringError;

/// Where bpffs is mounted by convention.
const BPF_ROOT: &str = "/sys/fs/bpf";

/// Source of the mounts that the daemon made at a pin directory: how it knows them again.
const OWN_SOURCE: &str = "proxyd";

/// The mounts of this process (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// What the kernel itself pins in a new bpffs (its `CONFIG_BPF_PRELOAD`).
const KERNEL_PINS: [&str; 2] = ["maps.debug", "progs.debug"];

/// Mounts bpffs where the pins will stand, unless it is there: at its usual place when the pins
/// are below that, at the pin directory otherwise.
pub(crate) fn mount_if_needed(base: &Path) -> Result<(), SteeringError> {
    let existing = base.ancestors().find(|ancestor| ancestor.exists());
    let on_bpffs = existing
        .is_some_and(|path| statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC));
    if on_bpffs {
        return Ok(());
    }
    let (target, source) = if base.starts_with(BPF_ROOT) {
        (Path::new(BPF_ROOT), "bpf")
    } else {
        fs::create_dir_all(base).map_err(at(base))?;
        (base, OWN_SOURCE)
    };
    let nothing = None::<&str>;
    mount(Some(source), target, Some("bpf"), MsFlags::empty(), nothing)
        .map_err(|error| SteeringError::Mount { path: target.to_owned(), source: error.into() })?;
    tracing::info!(path = %target.display(), "Mounted a BPF file system for the pins");
    Ok(())
}

/// Unmounts the bpffs that [`mount_if_needed`] mounted at `base`, if it did and nothing is left in
/// it. The one at the usual place stays, as the system's.
pub(crate) fn unmount_own(base: &Path) -> Result<(), SteeringError> {
    let mounts = fs::read_to_string(MOUNTS).map_err(at(Path::new(MOUNTS)))?;
    // The kernel shows the path without links.
    let Ok(path) = fs::canonicalize(base) else { return Ok(()) };
    let is_kernels = |pin: &PathBuf| KERNEL_PINS.iter().any(|name| pin.ends_with(name));
    if !is_own_mount(&mounts, &path) || !entries(base)?.iter().all(is_kernels) {
        return Ok(());
    }
    umount(base)
        .map_err(|error| SteeringError::Unmount { path: base.to_owned(), source: error.into() })
}

/// Whether `mounts`, as the kernel lists them, have a bpffs of the daemon's at `path`.
fn is_own_mount(mounts: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    let escaped: String = path.chars().map(escape).collect();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(4);
        let at = fields.next();
        let mut after_options = fields.skip_while(|field| *field != "-").skip(1);
        let (kind, source) = (after_options.next(), after_options.next());
        at == Some(&escaped) && kind == Some("bpf") && source == Some(OWN_SOURCE)
    })
}

/// The form in which the kernel lists a character of a mount point.
fn escape(character: char) -> String {
    match character {
        ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(character)),
        _ => character.to_string(),
    }
}

/// What stands in a directory; nothing where there is none.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, SteeringError> {
    match fs::read_dir(directory) {
        Ok(found) => found.map(|entry| Ok(entry.map_err(at(directory))?.path())).collect(),
        Err(error) => unless_absent(error).map(|()| Vec::new()).map_err(at(directory)),
    }
}

/// Removes a file, unless somebody else did.
pub(crate) fn remove_file(path: &Path) -> Result<(), SteeringError> {
    fs::remove_file(path).or_else(unless_absent).map_err(at(path))
}

/// Removes an empty directory, unless somebody else did.
pub(crate) fn remove_directory(path: &Path) -> Result<(), SteeringError> {
    fs::remove_dir(path).or_else(unless_absent).map_err(at(path))
}

fn unless_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// An error of the pin directory at `path`.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> SteeringError + '_ {
    move |source| SteeringError::PinDirectory { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::is_own_mount;

    #[test]
    fn own_mounts() {
        let line = |at: &str, kind: &str, source: &str| {
            format!("36 35 98:0 / {at} rw,noatime shared:1 master:2 - {kind} {source} rw\n")
        };
        for (name, mounts, path, expected) in [
            ("ours", line("/run/pins", "bpf", "proxyd"), "/run/pins", true),
            ("ours, with a space", line("/run/my\\040pins", "bpf", "proxyd"), "/run/my pins", true),
            ("elsewhere", line("/run/pins", "bpf", "proxyd"), "/run/other", false),
            ("the administrator's", line("/run/pins", "bpf", "bpf"), "/run/pins", false),
            ("another kind", line("/run/pins", "tmpfs", "proxyd"), "/run/pins", false),
            ("none", String::new(), "/run/pins", false),
        ] {
            assert_eq!(is_own_mount(&mounts, Path::new(path)), expected, "{name}");
        }
    }
}
