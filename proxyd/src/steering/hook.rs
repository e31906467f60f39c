//! Hooks: a program on an interface, kept there by a link that is pinned.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::SteeringError;
use super::bpffs::remove_file;
use super::interface::Interface;

/// A kind of program that is put on interfaces.
pub(crate) trait Attach {
    /// Whether the kernel runs this very program on `interface`. A pin does not say so: its link
    /// outlives the interface.
    fn runs_on(&self, interface: &Interface) -> Result<bool, ProgramError>;

    /// Puts the program on `interface`.
    fn put_on(&mut self, interface: &Interface) -> Result<FdLink, AttachError>;

    /// Makes the link of another program this one's; none where it is not on `interface`.
    fn take_over(
        &mut self,
        link: FdLink,
        interface: &Interface,
    ) -> Result<Option<FdLink>, AttachError>;
}

/// Why a program is not on an interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The kernel refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The link is not one of this kind.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Attach for SchedClassifier {
    fn runs_on(&self, interface: &Interface) -> Result<bool, ProgramError> {
        let own = self.info()?.id();
        let (_revision, programs) = Self::query_tcx(&interface.name, TcAttachType::Ingress)?;
        Ok(programs.iter().any(|program| program.id() == own))
    }

    /// Before the programs of others.
    fn put_on(&mut self, interface: &Interface) -> Result<FdLink, AttachError> {
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = self.attach_with_options(&interface.name, TcAttachType::Ingress, order)?;
        Ok(FdLink::try_from(self.take_link(id)?)?)
    }

    fn take_over(
        &mut self,
        link: FdLink,
        interface: &Interface,
    ) -> Result<Option<FdLink>, AttachError> {
        let id = self.attach_to_link(SchedClassifierLink::try_from(link)?)?;
        let link = FdLink::try_from(self.take_link(id)?)?;
        Ok(self.runs_on(interface)?.then_some(link))
    }
}

impl Attach for Xdp {
    fn runs_on(&self, interface: &Interface) -> Result<bool, ProgramError> {
        Ok(interface.xdp_program == Some(self.info()?.id()))
    }

    /// At the driver and nowhere else: behind it, where the kernel would put it otherwise, it would
    /// only cost time.
    fn put_on(&mut self, interface: &Interface) -> Result<FdLink, AttachError> {
        let id = self.attach_to_if_index(interface.index, XdpMode::Driver)?;
        Ok(FdLink::try_from(self.take_link(id)?)?)
    }

    fn take_over(
        &mut self,
        link: FdLink,
        interface: &Interface,
    ) -> Result<Option<FdLink>, AttachError> {
        if interface.xdp_program.is_none() {
            return Ok(None);
        }
        // Refused where the interface of the link is gone.
        let id = self.attach_to_link(XdpLink::try_from(link)?)?;
        Ok(Some(FdLink::try_from(self.take_link(id)?)?))
    }
}

/// The links of all hooks, by their pins. A hook stays as long as its link is held, whatever
/// becomes of the pin; the pin keeps it when the daemon is gone.
#[derive(Debug, Default)]
pub(crate) struct Links {
    held: HashMap<PathBuf, FdLink>,
}

impl Links {
    /// Puts the program called `name` on `interface` and pins its link at `pin`, unless it is
    /// there. Takes over the hook of a daemon before if there is one, without a moment in which
    /// none runs.
    pub(crate) fn attach<P: Attach>(
        &mut self,
        program: &mut P,
        name: &'static str,
        interface: &Interface,
        pin: &Path,
    ) -> Result<(), SteeringError> {
        let failed = |error| match error {
            AttachError::Program(source) => SteeringError::Attach {
                program: name,
                interface: interface.name.clone(),
                source: Box::new(source),
            },
            AttachError::Link(source) => {
                SteeringError::Link { path: pin.to_owned(), source: Box::new(source) }
            }
        };
        if let Some(link) = self.take(pin) {
            if program.runs_on(interface).map_err(|error| failed(error.into()))? {
                return self.keep(pin, link);
            }
            match program.take_over(link, interface) {
                Ok(Some(link)) => return self.keep(pin, link),
                // The interface went and came back, or is another one with the number of one gone.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, path = %pin.display(), "Hook is attached anew");
                }
            }
        }
        remove_file(pin)?;
        let link = program.put_on(interface).map_err(failed)?;
        self.keep(pin, link)
    }

    /// Gives up the links that are not in `pins`.
    pub(crate) fn keep_only(&mut self, pins: &[PathBuf]) {
        self.held.retain(|pin, _| pins.contains(pin));
    }

    /// The link that is held, or else pinned.
    fn take(&mut self, pin: &Path) -> Option<FdLink> {
        let held = self.held.remove(pin);
        held.or_else(|| PinnedLink::from_pin(pin).ok().map(FdLink::from))
    }

    fn keep(&mut self, pin: &Path, link: FdLink) -> Result<(), SteeringError> {
        let link = if pin.exists() {
            link
        } else {
            let pinned = link.pin(pin);
            let failed =
                |source| SteeringError::Pin { path: pin.to_owned(), source: Box::new(source) };
            FdLink::from(pinned.map_err(failed)?)
        };
        self.held.insert(pin.to_owned(), link);
        Ok(())
    }
}
