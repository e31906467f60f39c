//! Documents that are made from the code: written, or compared with what is committed.

use std::fs;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

/// The reference of the configuration file.
const REFERENCE: &str = "docs/config.md";

/// Writes the documents.
pub(crate) fn write(shell: &Shell) -> Result<()> {
    shell.write_file(REFERENCE, reference(shell)?)?;
    println!("{REFERENCE} written");
    Ok(())
}

/// Fails where a committed document is not what the code says.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    let committed = fs::read_to_string(shell.current_dir().join(REFERENCE))
        .with_context(|| format!("cannot read {REFERENCE}"))?;
    if committed != reference(shell)? {
        bail!("{REFERENCE} is not what the code says: run `cargo xtask docs`");
    }
    // Whoever reads this code reads the private parts too.
    let scope = ["--workspace", "--exclude", "steering-ebpf", "--locked"];
    cmd!(shell, "cargo doc {scope...} --no-deps --document-private-items")
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .run()?;
    Ok(())
}

fn reference(shell: &Shell) -> Result<String> {
    let run = ["run", "--quiet", "--locked", "--package", "proxyd", "--bin", "proxyd"];
    let mut text = cmd!(shell, "cargo {run...} -- reference").quiet().read()?;
    // What is read from a command comes without its last line end.
    text.push('\n');
    Ok(text)
}
