//! Loading, attaching and pinning. Pins outlive the daemon: classification goes on without it,
//! and the next daemon takes over hooks and maps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::interface::Interface;
use super::maps::SHAPES;
use super::stats::Hook;
use super::{SteeringError, maps};

/// The programs, as `cargo xtask build-ebpf` made them; empty in a build that skipped it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PROXYD_EBPF_OBJECT"));

/// Version of the map layouts, in the path of the pins: a daemon with other layouts does not
/// find these.
const LAYOUT: &str = "v1";

/// Where bpffs is mounted by convention.
const BPF_ROOT: &str = "/sys/fs/bpf";

/// A program of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// Router mode, client side.
    Classify,
    /// Router mode, server side.
    ReturnPath,
    /// Bridge mode, ports.
    ClassifyPort,
    /// Bridge mode, the bridge.
    Deliver,
}

impl Program {
    const ALL: [Self; 4] = [Self::Classify, Self::ReturnPath, Self::ClassifyPort, Self::Deliver];

    /// The name in the object and of the pins.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::ReturnPath => "return_path",
            Self::ClassifyPort => "classify_port",
            Self::Deliver => "deliver",
        }
    }
}

/// The directories that pins stand in.
pub(crate) struct Pins {
    base: PathBuf,
    root: PathBuf,
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    /// The pins below `pin_directory`, of this daemon's layout.
    pub(crate) fn new(pin_directory: &Path) -> Self {
        let root = pin_directory.join(LAYOUT);
        Self {
            base: pin_directory.to_owned(),
            maps: root.join("maps"),
            links: root.join("links"),
            root,
        }
    }

    /// Where maps are pinned.
    pub(crate) fn maps(&self) -> &Path {
        &self.maps
    }

    /// The hooks that are pinned.
    pub(crate) fn hooks(&self) -> Result<Vec<Hook>, SteeringError> {
        let mut hooks = Vec::new();
        for entry in fs::read_dir(&self.links).map_err(at(&self.links))? {
            let name = entry.map_err(at(&self.links))?.file_name();
            // A name that is not ours is no hook of ours.
            if let Some((program, ifindex)) = name.to_str().and_then(|name| name.rsplit_once('-'))
                && let Ok(ifindex) = ifindex.parse()
            {
                hooks.push(Hook { program: program.to_owned(), ifindex });
            }
        }
        hooks.sort();
        Ok(hooks)
    }

    /// Makes the directories, on a bpffs that is mounted if there is none.
    fn prepare(&self) -> Result<(), SteeringError> {
        mount_if_needed(&self.base)?;
        fs::create_dir_all(&self.maps).map_err(at(&self.maps))?;
        fs::create_dir_all(&self.links).map_err(at(&self.links))
    }

    fn link(&self, program: Program, ifindex: u32) -> PathBuf {
        self.links.join(format!("{}-{ifindex}", program.name()))
    }

    /// Detaches what is pinned but not in `keep`.
    pub(crate) fn detach_others(&self, keep: &[(Program, u32)]) -> Result<(), SteeringError> {
        for hook in self.hooks()? {
            let kept = keep.iter().any(|(program, ifindex)| {
                program.name() == hook.program && *ifindex == hook.ifindex
            });
            if !kept {
                let path = self.links.join(format!("{}-{}", hook.program, hook.ifindex));
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// Removes every pin: hooks first, so that no program runs without its maps.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        self.detach_others(&[])?;
        for shape in &SHAPES {
            remove_file(&self.maps.join(shape.name))?;
        }
        for directory in [&self.links, &self.maps, &self.root] {
            fs::remove_dir(directory).map_err(at(directory))?;
        }
        Ok(())
    }
}

/// Loads the programs, with the maps already pinned or new ones that are pinned now.
pub(crate) fn load(pins: &Pins) -> Result<Ebpf, SteeringError> {
    if OBJECT.is_empty() {
        return Err(SteeringError::NotEmbedded);
    }
    pins.prepare()?;
    maps::check_pins(&pins.maps)?;
    let mut loader = EbpfLoader::new();
    for shape in &SHAPES {
        loader.map_pin_path(shape.name, pins.maps.join(shape.name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|source| SteeringError::Load(Box::new(source)))?;
    for program in Program::ALL {
        let loaded = find(&mut ebpf, program)?.load();
        loaded.map_err(|source| SteeringError::Program {
            name: program.name(),
            source: Box::new(source),
        })?;
    }
    Ok(ebpf)
}

/// Puts `program` on `interface`, before the programs of others: takes over the hook of a daemon
/// before if there is one, without a moment in which none runs.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    program: Program,
    interface: &Interface,
) -> Result<(), SteeringError> {
    let path = pins.link(program, interface.index);
    let failed = |source| SteeringError::Attach {
        program: program.name(),
        interface: interface.name.clone(),
        source: Box::new(source),
    };
    let classifier = find(ebpf, program)?;
    if path.exists() {
        match take_over(classifier, &path) {
            Ok(()) => return Ok(()),
            // The interface went and came back, or is another one with the number of one gone.
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "Pinned hook is attached anew");
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = classifier
        .attach_with_options(&interface.name, TcAttachType::Ingress, order)
        .map_err(failed)?;
    let link = classifier.take_link(id).map_err(failed)?;
    let link = FdLink::try_from(link).map_err(link_error(&path))?;
    match link.pin(&path) {
        Ok(_pinned) => Ok(()),
        Err(source) => Err(SteeringError::Pin { path, source: Box::new(source) }),
    }
}

fn take_over(classifier: &mut SchedClassifier, path: &Path) -> Result<(), SteeringError> {
    let failed =
        |source| SteeringError::TakeOver { path: path.to_owned(), source: Box::new(source) };
    let link = FdLink::from(PinnedLink::from_pin(path).map_err(link_error(path))?);
    let link = SchedClassifierLink::try_from(link).map_err(link_error(path))?;
    let id = classifier.attach_to_link(link).map_err(failed)?;
    // The pin holds the link; our descriptor of it is closed here.
    drop(classifier.take_link(id).map_err(failed)?);
    Ok(())
}

fn link_error(path: &Path) -> impl Fn(LinkError) -> SteeringError + '_ {
    move |source| SteeringError::Link { path: path.to_owned(), source: Box::new(source) }
}

fn find(ebpf: &mut Ebpf, program: Program) -> Result<&mut SchedClassifier, SteeringError> {
    let name = program.name();
    let found = ebpf.program_mut(name).ok_or(SteeringError::NotInObject { name })?;
    found.try_into().map_err(|source| SteeringError::Program { name, source: Box::new(source) })
}

/// Mounts bpffs where the pins will stand, unless it is there: at its usual place when the pins
/// are below that, at the pin directory otherwise.
fn mount_if_needed(base: &Path) -> Result<(), SteeringError> {
    let existing = base.ancestors().find(|ancestor| ancestor.exists());
    let on_bpffs = existing
        .is_some_and(|path| statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC));
    if on_bpffs {
        return Ok(());
    }
    let target = if base.starts_with(BPF_ROOT) {
        Path::new(BPF_ROOT)
    } else {
        fs::create_dir_all(base).map_err(at(base))?;
        base
    };
    let nothing = None::<&str>;
    mount(Some("bpf"), target, Some("bpf"), MsFlags::empty(), nothing)
        .map_err(|error| SteeringError::Mount { path: target.to_owned(), source: error.into() })?;
    tracing::info!(path = %target.display(), "Mounted a BPF file system for the pins");
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), SteeringError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> SteeringError + '_ {
    move |source| SteeringError::PinDirectory { path: path.to_owned(), source }
}
