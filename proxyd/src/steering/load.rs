//! Loading and pinning. Pins outlive the daemon: classification goes on without it,
//! and the next daemon takes over hooks and maps.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use steering_common::compile::Compiled;

use super::bpffs::{at, entries, remove_directory, remove_file};
use super::hook::Links;
use super::interface::Interface;
use super::maps::SHAPES;
use super::stats::Hook;
use super::{SteeringError, bpffs, maps, table};

/// The programs, as `cargo xtask build-ebpf` made them; empty in a build that skipped it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PROXYD_EBPF_OBJECT"));

/// Version of the map layouts, in the path of the pins: a daemon with other layouts does not
/// take these over, it removes them once its own programs run.
const LAYOUT: &str = "v3";
/// What the directories of all layouts begin with.
const LAYOUT_PREFIX: char = 'v';

/// Directories of the pins, below that of their layout.
const MAPS: &str = "maps";
const LINKS: &str = "links";

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
    /// Router mode, both sides, where the fast path is at the driver.
    Fast,
    /// Attached nowhere: tells what the table says.
    Judge,
}

impl Program {
    const ALL: [Self; 6] = [
        Self::Classify,
        Self::ReturnPath,
        Self::ClassifyPort,
        Self::Deliver,
        Self::Fast,
        Self::Judge,
    ];

    /// The name in the object and of the pins.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::ReturnPath => "return_path",
            Self::ClassifyPort => "classify_port",
            Self::Deliver => "deliver",
            Self::Fast => "fast",
            Self::Judge => "judge",
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
            maps: root.join(MAPS),
            links: root.join(LINKS),
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

    /// Keeps other daemons from using the pins, as long as the result lives; none where one does.
    pub(crate) fn lock(&self) -> Result<Option<Flock<File>>, SteeringError> {
        let directory = File::open(&self.base).map_err(at(&self.base))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_directory, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_directory, error)) => Err(at(&self.base)(error.into())),
        }
    }

    /// Makes the directories, on a bpffs that is mounted if there is none.
    pub(crate) fn prepare(&self) -> Result<(), SteeringError> {
        bpffs::mount_if_needed(&self.base)?;
        fs::create_dir_all(&self.maps).map_err(at(&self.maps))?;
        fs::create_dir_all(&self.links).map_err(at(&self.links))
    }

    /// The pin of a hook.
    pub(crate) fn link(&self, program: Program, ifindex: u32) -> PathBuf {
        self.links.join(format!("{}-{ifindex}", program.name()))
    }

    /// Whether a daemon of this layout pinned something before.
    pub(crate) fn exist(&self) -> bool {
        self.root.exists()
    }

    /// Detaches what is pinned but not in `keep`: all are tried, the first failure is told.
    pub(crate) fn detach_others(&self, keep: &[(Program, u32)]) -> Result<(), SteeringError> {
        let mut outcome = Ok(());
        for hook in self.hooks()? {
            let kept = keep.iter().any(|(program, ifindex)| {
                program.name() == hook.program && *ifindex == hook.ifindex
            });
            if !kept {
                let path = self.links.join(format!("{}-{}", hook.program, hook.ifindex));
                outcome = outcome.and(remove_file(&path));
            }
        }
        outcome
    }

    /// Removes every pin: hooks first, so that no program runs without its maps. All are tried,
    /// the first failure is told.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        remove_pins(&self.root)
    }

    /// Unmounts what was mounted for the pins, if nothing is left there.
    pub(crate) fn unmount(&self) -> Result<(), SteeringError> {
        bpffs::unmount_own(&self.base)
    }

    /// Removes the pins of daemons with other layouts, whose programs would steer beside ours.
    pub(crate) fn remove_other_layouts(&self) -> Result<(), SteeringError> {
        let mut outcome = Ok(());
        for root in self.other_layouts()? {
            tracing::info!(path = %root.display(), "Removing the steering of another version");
            outcome = outcome.and(remove_pins(&root));
        }
        outcome
    }

    /// The directories of the other layouts that are there.
    pub(crate) fn other_layouts(&self) -> Result<Vec<PathBuf>, SteeringError> {
        let is_layout = |name: &str| {
            name.strip_prefix(LAYOUT_PREFIX).is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let mut layouts = entries(&self.base)?;
        layouts.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            *path != self.root && name.is_some_and(is_layout)
        });
        Ok(layouts)
    }
}

/// Removes the links, then all other pins below `root`, then the directories.
fn remove_pins(root: &Path) -> Result<(), SteeringError> {
    let mut outcome = Ok(());
    for directory in [root.join(LINKS), root.join(MAPS)] {
        match entries(&directory) {
            Ok(pins) => {
                for pin in pins {
                    outcome = outcome.and(remove_file(&pin));
                }
            }
            Err(error) => outcome = outcome.and(Err(error)),
        }
        outcome = outcome.and(remove_directory(&directory));
    }
    outcome.and(remove_directory(root))
}

/// Pins the maps that outlive a generation of the table, unless they are there.
pub(crate) fn make_maps(pins: &Pins) -> Result<(), SteeringError> {
    maps::check_pins(&pins.maps)?;
    load_object(&mut loader(pins)).map(|_programs_not_loaded| ())
}

/// Loads the programs with the pinned maps, and maps of their own as large as `table` needs.
pub(crate) fn load(pins: &Pins, table: &Compiled) -> Result<Ebpf, SteeringError> {
    let mut loader = loader(pins);
    table::size(&mut loader, table);
    let mut ebpf = load_object(&mut loader)?;
    for program in Program::ALL {
        let loaded = match program {
            Program::Fast => find::<Xdp>(&mut ebpf, program)?.load(),
            Program::Classify
            | Program::ReturnPath
            | Program::ClassifyPort
            | Program::Deliver
            | Program::Judge => find::<SchedClassifier>(&mut ebpf, program)?.load(),
        };
        loaded.map_err(|source| SteeringError::Program {
            name: program.name(),
            source: Box::new(source),
        })?;
    }
    Ok(ebpf)
}

/// A loader that uses what is pinned, and pins what is not.
fn loader(pins: &Pins) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for shape in &SHAPES {
        loader.map_pin_path(shape.name, pins.maps.join(shape.name));
    }
    loader
}

fn load_object(loader: &mut EbpfLoader<'_>) -> Result<Ebpf, SteeringError> {
    if OBJECT.is_empty() {
        return Err(SteeringError::NotEmbedded);
    }
    loader.load(OBJECT).map_err(|source| SteeringError::Load(Box::new(source)))
}

/// Puts `program` on `interface`, unless it is there; see [`Links::attach`].
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    links: &mut Links,
    program: Program,
    interface: &Interface,
) -> Result<(), SteeringError> {
    let (name, pin) = (program.name(), pins.link(program, interface.index));
    match program {
        Program::Fast => links.attach::<Xdp>(find(ebpf, program)?, name, interface, &pin),
        Program::Classify
        | Program::ReturnPath
        | Program::ClassifyPort
        | Program::Deliver
        | Program::Judge => {
            links.attach::<SchedClassifier>(find(ebpf, program)?, name, interface, &pin)
        }
    }
}

/// A program of a loaded object, of the kind that it is.
pub(crate) fn find<'e, P>(ebpf: &'e mut Ebpf, program: Program) -> Result<&'e mut P, SteeringError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program, Error = ProgramError>,
{
    let name = program.name();
    let found = ebpf.program_mut(name).ok_or(SteeringError::NotInObject { name })?;
    found.try_into().map_err(|source| SteeringError::Program { name, source: Box::new(source) })
}
