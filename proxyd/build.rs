//! Finds the steering object that the daemon embeds.
//!
//! `PROXYD_EBPF_OBJECT` names it; without, it is where `cargo xtask build-ebpf` puts it. With
//! `AYA_BUILD_SKIP=1` nothing is embedded: enough for editors and clippy, not for steering.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Names the object to embed, for the build script by the user and for the source by us.
const OBJECT: &str = "PROXYD_EBPF_OBJECT";
/// Embeds nothing when it is `1`.
const SKIP: &str = "AYA_BUILD_SKIP";
/// Marks the root of a target directory; Cargo writes it.
const TARGET_TAG: &str = "CACHEDIR.TAG";
/// Where `cargo xtask build-ebpf` puts the object, below the target directory.
const OBJECT_IN_TARGET: &str = "ebpf/steering";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    println!("cargo::rerun-if-env-changed={SKIP}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by Cargo only")?);
    let object = if env::var(SKIP).as_deref() == Ok("1") {
        let empty = out.join("empty-object");
        fs::write(&empty, [])?;
        empty
    } else {
        find(&out)?
    };
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env={OBJECT}={}", object.display());
    Ok(())
}

fn find(out: &Path) -> Result<PathBuf, String> {
    let object = match env::var_os(OBJECT) {
        Some(path) => PathBuf::from(path),
        None => out
            .ancestors()
            .find(|directory| directory.join(TARGET_TAG).is_file())
            .ok_or_else(|| format!("no target directory above {}", out.display()))?
            .join(OBJECT_IN_TARGET),
    };
    if object.is_file() {
        return Ok(object);
    }
    println!("cargo::rerun-if-changed={}", object.display());
    Err(format!(
        "{} does not exist: run `cargo xtask build-ebpf` once, or set {SKIP}=1 to build a daemon \
         that cannot steer",
        object.display()
    ))
}
