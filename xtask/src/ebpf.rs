//! Builds `steering-ebpf` for the BPF target, with whatever toolchain can.
//!
//! The target needs `core` compiled from source, so a toolchain that accepts `-Z build-std` and
//! the source itself: a rustup nightly with rust-src, or the system's rustc with its source.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use xshell::{Shell, cmd};

/// The BPF target of this machine's byte order.
const TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// The system's compiler; Debian's packages `rustc-web`, `rust-web-src` and `cargo-web`.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";

/// Where a toolchain keeps the source of `core`, below its root.
const CORE_SOURCE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

/// A toolchain that can build `core` for the BPF target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Nightly, by rustup.
    Nightly,
    /// The system's stable compiler, told to accept unstable options.
    System,
}

/// Builds the programs and gives the path of the object, which changes only when its content does.
pub(crate) fn build(shell: &Shell) -> Result<PathBuf> {
    let toolchain = toolchain(shell).ok_or_else(|| {
        anyhow!(
            "no toolchain can build for {TARGET}: run `cargo xtask setup`, or \
             `rustup toolchain install nightly --component rust-src`"
        )
    })?;
    let linker = find_program("bpf-linker")
        .context("bpf-linker is not installed: run `cargo xtask setup`")?;
    let directory = target_directory()?.join("ebpf");
    let built = compile(shell, toolchain, &linker, &directory.join("build"))?;
    let object = directory.join("steering");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(&object).is_ok_and(|before| before == bytes) {
        println!("{} is up to date", object.display());
    } else {
        fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
        println!("{} written, {} bytes", object.display(), bytes.len());
    }
    Ok(object)
}

/// The toolchain to use: nightly if there is one with the source of `core`, else the system's.
pub(crate) fn toolchain(shell: &Shell) -> Option<Toolchain> {
    let nightly = cmd!(shell, "rustup run nightly rustc --print sysroot");
    if nightly.quiet().ignore_stderr().read().is_ok_and(|root| has_core_source(&root)) {
        return Some(Toolchain::Nightly);
    }
    let system = cmd!(shell, "{SYSTEM_RUSTC} --print sysroot").env_remove("RUSTUP_TOOLCHAIN");
    let usable = Path::new(SYSTEM_CARGO).exists()
        && system.quiet().ignore_stderr().read().is_ok_and(|root| has_core_source(&root));
    usable.then_some(Toolchain::System)
}

/// A program on the search path, or where `cargo install` puts it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let search = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    env::split_paths(&search)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Cargo's target directory for this workspace.
pub(crate) fn target_directory() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => Ok(std::path::absolute(directory)?),
        None => Ok(workspace_root()?.join("target")),
    }
}

/// The root of the workspace.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask is not in a workspace")?.to_owned())
}

fn has_core_source(sysroot: &str) -> bool {
    Path::new(sysroot.trim()).join(CORE_SOURCE).is_file()
}

fn compile(
    shell: &Shell,
    toolchain: Toolchain,
    linker: &Path,
    directory: &Path,
) -> Result<PathBuf> {
    let _workspace = shell.push_dir(workspace_root()?);
    let cargo = match toolchain {
        Toolchain::Nightly => cmd!(shell, "rustup run nightly cargo").env_remove("RUSTC"),
        Toolchain::System => {
            cmd!(shell, "{SYSTEM_CARGO}").env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1")
        }
    };
    // What the calling Cargo and rustup set for their own toolchain, and flags meant for the host.
    let foreign = ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTDOC", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"];
    let cargo = foreign.iter().fold(cargo, |cargo, variable| cargo.env_remove(variable));
    let package = ["--package", "steering-ebpf", "--release", "--locked"];
    cargo
        .args(["build", "--target", TARGET, "-Z", "build-std=core"])
        .args(package)
        .arg("--target-dir")
        .arg(directory)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .env(format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_")), linker)
        // A check leaves a call to panic behind, which the kernel's verifier refuses.
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        // The linker does its own optimization over all crates.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .run()
        .context("cannot build steering-ebpf")?;
    Ok(directory.join(TARGET).join("release/steering"))
}

/// Compiler flags, separated as Cargo wants them.
fn flags() -> Result<String> {
    let arch = match env::consts::ARCH {
        known @ ("x86_64" | "aarch64" | "riscv64" | "s390x" | "powerpc64" | "loongarch64") => known,
        other => bail!("no BPF bindings for {other}"),
    };
    let flags = [
        // The layout of kernel structures differs between machines.
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        // `bpf_loop` needs type information (BTF), which is made from debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    Ok(flags.join("\u{1f}"))
}
