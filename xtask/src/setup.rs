//! Installs what a bare Debian machine with Rust lacks to build and test the project.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::ebpf;

/// Debian packages, and what each is for.
const PACKAGES: [(&str, &str); 25] = [
    ("build-essential", "compiles the C and assembler parts of the crypto library"),
    ("dropbear-bin", "another client and another server of the tests"),
    ("git", "repositories over SSH in the tests"),
    ("iproute2", "network namespaces of the tests"),
    ("iputils-ping", "packets in the tests that are not TCP"),
    ("krb5-admin-server", "keytabs of the Kerberos realm of the tests"),
    ("krb5-kdc", "the Kerberos realm of the tests"),
    ("krb5-user", "tickets of the tests' users"),
    ("libclang-dev", "reads the headers of the Kerberos library"),
    ("libkrb5-dev", "the Kerberos library"),
    ("libssh-dev", "a library that a client of the tests is built on"),
    ("netcat-openbsd", "plain TCP and UDP peers in the tests"),
    ("openssh-client", "the real client of the tests"),
    ("openssh-server", "the real server of the tests"),
    ("openssh-sftp-server", "file transfers in the tests"),
    ("postgresql", "the database of several nodes in the tests"),
    ("procps", "kernel settings of the tests"),
    ("putty-tools", "another client of the tests"),
    ("python3-gssapi", "Kerberos of a client of the tests"),
    ("python3-venv", "Python packages that are clients of the tests"),
    ("rsync", "files over SSH in the tests"),
    ("ssh-audit", "judges in the tests what clients are offered"),
    ("sshpass", "passwords for the real client"),
    ("tcpdump", "what is on the wire in the tests"),
    ("tmux", "terminals in the tests"),
];

/// Debian packages that only benchmarks of steering need.
const BENCH_PACKAGES: [(&str, &str); 4] = [
    ("ethtool", "interfaces of the benchmark"),
    ("ipset", "sets of addresses that steering is compared with"),
    ("iptables", "rules that steering is compared with"),
    ("nftables", "rules and sets that steering is compared with"),
];

/// A toolchain that can build the steering programs, where rustup has none.
const TOOLCHAIN_PACKAGES: [(&str, &str); 3] = [
    ("rustc-web", "compiles the steering programs"),
    ("rust-web-src", "the source of core, for the BPF target"),
    ("cargo-web", "builds with that compiler"),
];

/// The library that bpf-linker is built on.
const LLVM_PACKAGE: (&str, &str) = ("llvm-22-dev", "builds bpf-linker");

/// Exact versions: these were tested.
const BPF_LINKER_VERSION: &str = "0.13.0";
const NEXTEST_VERSION: &str = "0.9.143";

/// Packages of Python, with exact versions: Ansible and two SSH libraries.
const PYTHON_REQUIREMENTS: &str = "tests/src/peer/requirements.txt";

/// Where they are installed; the tests look here.
const PYTHON_ENVIRONMENT: &str = "target/test-venv";

/// In there, a copy of the requirements that it was made for.
const PYTHON_STAMP: &str = "target/test-venv/requirements.txt";

/// Keeps packages from starting daemons when they are installed (`invoke-rc.d(8)`).
const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// Something this machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// A Debian package, and what it is for.
    Package(&'static str, &'static str),
    /// The linker of the steering programs.
    BpfLinker,
    /// The test runner.
    Nextest,
    /// The Python packages of the tests.
    Python,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name, purpose) => write!(f, "package {name}: {purpose}"),
            Self::BpfLinker => {
                write!(f, "bpf-linker {BPF_LINKER_VERSION}: links the steering programs")
            }
            Self::Nextest => write!(f, "cargo-nextest {NEXTEST_VERSION}: runs the tests"),
            Self::Python => write!(f, "{PYTHON_REQUIREMENTS}: Python packages of the tests"),
        }
    }
}

/// What this machine lacks, packages first.
pub(crate) fn missing(shell: &Shell) -> Vec<Missing> {
    let mut wanted: Vec<_> = PACKAGES.to_vec();
    if ebpf::toolchain(shell).is_none() {
        wanted.extend(TOOLCHAIN_PACKAGES);
    }
    let linker = ebpf::find_program("bpf-linker").is_none();
    if linker {
        wanted.push(LLVM_PACKAGE);
    }
    let mut missing: BTreeSet<_> = absent(shell, &wanted).collect();
    if linker {
        missing.insert(Missing::BpfLinker);
    }
    if ebpf::find_program("cargo-nextest").is_none() {
        missing.insert(Missing::Nextest);
    }
    if !has_python_packages(shell) {
        missing.insert(Missing::Python);
    }
    missing.into_iter().collect()
}

/// The packages that are not installed.
fn absent(shell: &Shell, wanted: &[(&'static str, &'static str)]) -> impl Iterator<Item = Missing> {
    let absent = wanted.iter().filter(|(name, _)| !is_installed(shell, name));
    absent.map(|(name, purpose)| Missing::Package(name, purpose))
}

/// Installs what is missing, saying what; does nothing when nothing is.
pub(crate) fn install(shell: &Shell) -> Result<()> {
    install_all(shell, &missing(shell))
}

/// Installs what is missing to build and run the gateway. What runs the tests is left out: it takes
/// minutes to build.
pub(crate) fn install_to_run(shell: &Shell) -> Result<()> {
    let mut missing = missing(shell);
    missing.retain(|item| !matches!(item, Missing::Nextest | Missing::Python));
    install_all(shell, &missing)
}

/// Installs what is missing to compare steering with the kernel's own tools.
pub(crate) fn install_to_compare(shell: &Shell) -> Result<()> {
    install_all(shell, &absent(shell, &BENCH_PACKAGES).collect::<Vec<_>>())
}

/// Fails for anybody but root, saying `why`.
pub(crate) fn require_root(shell: &Shell, why: &str) -> Result<()> {
    if !is_root(shell)? {
        bail!("{why}: run as root");
    }
    Ok(())
}

fn install_all(shell: &Shell, missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    println!("this machine lacks:");
    for item in missing {
        println!("  {item}");
    }
    let packages: Vec<_> = missing
        .iter()
        .filter_map(|item| match item {
            Missing::Package(name, _) => Some(*name),
            Missing::BpfLinker | Missing::Nextest | Missing::Python => None,
        })
        .collect();
    if !packages.is_empty() {
        install_packages(shell, &packages)?;
    }
    if missing.contains(&Missing::BpfLinker) {
        let options = ["--locked", "--no-default-features", "--features", "llvm-22"];
        cmd!(shell, "cargo install bpf-linker --version {BPF_LINKER_VERSION} {options...}")
            .env("LLVM_PREFIX", "/usr/lib/llvm-22")
            .run()?;
    }
    if missing.contains(&Missing::Nextest) {
        cmd!(shell, "cargo install cargo-nextest --version {NEXTEST_VERSION} --locked").run()?;
    }
    if missing.contains(&Missing::Python) {
        install_python_packages(shell)?;
    }
    Ok(())
}

/// Whether they are there in the versions that are asked for.
fn has_python_packages(shell: &Shell) -> bool {
    let wanted = shell.read_file(PYTHON_REQUIREMENTS);
    let present = shell.read_file(PYTHON_STAMP);
    matches!((wanted, present), (Ok(wanted), Ok(present)) if wanted == present)
}

fn install_python_packages(shell: &Shell) -> Result<()> {
    // Debian's own: another Python of the machine may lack what the packages are built for.
    cmd!(shell, "/usr/bin/python3 -m venv --clear {PYTHON_ENVIRONMENT}").run()?;
    let pip = format!("{PYTHON_ENVIRONMENT}/bin/pip");
    cmd!(shell, "{pip} install --quiet --no-deps --requirement {PYTHON_REQUIREMENTS}").run()?;
    shell.copy_file(PYTHON_REQUIREMENTS, PYTHON_STAMP)?;
    Ok(())
}

fn is_root(shell: &Shell) -> Result<bool> {
    Ok(cmd!(shell, "id -u").quiet().read()? == "0")
}

fn is_installed(shell: &Shell, package: &str) -> bool {
    // `${Status}` is a format of dpkg's own.
    let format = "--showformat=${Status}";
    let status = cmd!(shell, "dpkg-query --show {format} {package}").quiet().ignore_stderr();
    status.read().is_ok_and(|status| status == "install ok installed")
}

fn install_packages(shell: &Shell, packages: &[&str]) -> Result<()> {
    if !is_root(shell)? {
        let list = packages.join(" ");
        bail!("packages can only be installed by root: run `apt-get install {list}` as root");
    }
    let _quiet = NoDaemons::enter()?;
    cmd!(shell, "apt-get update").run()?;
    cmd!(shell, "apt-get install --yes --no-install-recommends {packages...}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    Ok(())
}

/// While it lives, installed packages start no daemons. A machine with a policy of its own keeps
/// that.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn enter() -> Result<Self> {
        let path = Path::new(POLICY_FILE);
        if path.exists() {
            return Ok(Self { ours: false });
        }
        let guard = Self { ours: true };
        fs::write(path, POLICY).with_context(|| format!("cannot write {POLICY_FILE}"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY_FILE)
        {
            println!(
                "cannot remove {POLICY_FILE}: {error}; remove it, or no package starts daemons"
            );
        }
    }
}
