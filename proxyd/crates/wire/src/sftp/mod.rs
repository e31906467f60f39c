//! SFTP as it passes (draft-ietf-secsh-filexfer-02, OpenSSH `PROTOCOL` section 4): which files are
//! read, written and changed, and how that ends.
//!
//! Of each packet only the fields before its content are kept, and only until the packet is
//! understood. Under [`Mode::Enforce`] they are held back for as long, and a request that is
//! refused goes on in the same length as one that every server refuses:
//!
//! ```text
//! length | type                | number | length | first string | rest
//! length | 200 (an extension)  | number | length | "????…"      | rest
//! ```
//!
//! The server answers "operation unsupported", which is changed to "permission denied" on its way
//! back. So no byte is added or taken away, and window credit needs no care.

mod answer;
mod cursor;
mod enforce;
mod error;
pub mod limits;
mod op;
mod request;
mod table;
#[cfg(test)]
mod tests;

pub use error::SftpError;

use answer::FromServer;
use cursor::{LENGTH_BYTES, Stop};
use enforce::{FILL, Judged};
use limits::VERSION;
use request::{FromClient, INIT, Request};
use table::{Effect, Table};

use crate::files::{FileId, Mode, Peer, Watch};

/// One channel that carries SFTP.
#[derive(Debug)]
pub struct Sftp {
    mode: Mode,
    requests: Half,
    answers: Half,
    /// Whether the first packet of the client, and of the server, were here.
    offered: bool,
    agreed: bool,
    table: Table,
}

impl Sftp {
    /// A channel of which nothing has passed.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            requests: Half::default(),
            answers: Half::default(),
            offered: false,
            agreed: false,
            table: Table::default(),
        }
    }

    /// Takes what a peer sent and gives what is to be sent on in its place: the same bytes, or
    /// under [`Mode::Enforce`] those of `out`.
    ///
    /// # Errors
    /// Fails when what passes can no longer be followed; `self` is of no use then.
    pub fn pass<'b>(
        &mut self,
        from: Peer,
        bytes: &'b [u8],
        out: &'b mut Vec<u8>,
        watch: &mut impl Watch,
    ) -> Result<&'b [u8], SftpError> {
        out.clear();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(from, rest, out, watch)?;
        }
        Ok(match self.mode {
            Mode::Observe => bytes,
            Mode::Enforce => out,
        })
    }

    /// What was held back and is not a whole request: it goes on before a peer's end of file.
    pub fn end(&mut self, from: Peer) -> Vec<u8> {
        let head = std::mem::take(&mut self.half(from).head);
        match self.mode {
            Mode::Observe => Vec::new(),
            Mode::Enforce => head,
        }
    }

    /// Tells what the end of the channel leaves without an answer or open.
    pub fn finish(&mut self, watch: &mut impl Watch) {
        self.table.finish(watch);
    }

    const fn half(&mut self, from: Peer) -> &mut Half {
        match from {
            Peer::Client => &mut self.requests,
            Peer::Server => &mut self.answers,
        }
    }

    /// Takes what belongs together from the front of `bytes`; gives the rest.
    fn step<'b>(
        &mut self,
        from: Peer,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        watch: &mut impl Watch,
    ) -> Result<&'b [u8], SftpError> {
        let mode = self.mode;
        let half = self.half(from);
        if half.body_bytes > 0 {
            return Ok(half.body(mode, bytes, out, watch));
        }
        let rest = half.collect(bytes);
        let mut head = std::mem::take(&mut half.head);
        let understood = match from {
            Peer::Client => self.request(&mut head, watch),
            Peer::Server => self.answer(&mut head, watch),
        };
        let half = self.half(from);
        match understood {
            Ok(()) => {
                half.begin_body(&head);
                if mode == Mode::Enforce {
                    out.extend_from_slice(&head);
                }
                head.clear();
                half.head = head;
                Ok(rest)
            }
            Err(Stop::Need(bytes)) => {
                half.head = head;
                half.needed = bytes;
                Ok(rest)
            }
            Err(Stop::Bad(error)) => Err(error),
        }
    }

    fn request(&mut self, head: &mut [u8], watch: &mut impl Watch) -> Result<(), Stop> {
        let judged = match request::decode(head)? {
            FromClient::Init { .. } if self.offered => {
                return Err(Stop::Bad(SftpError::OutOfTurn(INIT)));
            }
            FromClient::Init { version } => {
                self.offered = true;
                // A request that is judged before the version is agreed on has to be of this one.
                if self.mode == Mode::Enforce && version > VERSION {
                    enforce::set_version(head, VERSION);
                }
                return Ok(());
            }
            FromClient::Request(_) if !self.offered => {
                return Err(Stop::Bad(SftpError::OutOfTurn(kind(head))));
            }
            FromClient::Request(request) => self.judge(&request, watch).map_err(Stop::Bad)?,
        };
        match judged {
            Judged::Passes => {}
            Judged::Shortened(length) => enforce::shorten(head, length),
            Judged::Refused => self.requests.fill_bytes = enforce::spoil(head),
        }
        Ok(())
    }

    fn judge(
        &mut self,
        request: &Request<'_>,
        watch: &mut impl Watch,
    ) -> Result<Judged, SftpError> {
        let judged = match self.mode {
            Mode::Observe => Judged::Passes,
            Mode::Enforce => enforce::judge(request, &self.table, watch),
        };
        let content = self.table.begin(request, judged == Judged::Refused, watch)?;
        self.requests.carry(content, request.length);
        Ok(judged)
    }

    fn answer(&mut self, head: &mut [u8], watch: &mut impl Watch) -> Result<(), Stop> {
        match answer::decode(head)? {
            FromServer::Version(version) => {
                if self.agreed || !self.offered {
                    return Err(Stop::Bad(SftpError::OutOfTurn(answer::VERSION)));
                }
                if !(1..=VERSION).contains(&version) {
                    return Err(Stop::Bad(SftpError::Version(version)));
                }
                self.agreed = true;
            }
            FromServer::Answer { kind, .. } if !self.agreed => {
                return Err(Stop::Bad(SftpError::OutOfTurn(kind)));
            }
            FromServer::Answer { id, kind, answer } => {
                let effect = self.table.end(id, kind, &answer, watch).map_err(Stop::Bad)?;
                match (effect, answer) {
                    (Effect::Refused, _) => enforce::deny(head),
                    (Effect::Content(file), answer::Answer::Data(length)) => {
                        self.answers.carry(Some(file), length);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The packets of one direction.
#[derive(Debug)]
struct Half {
    /// The start of a packet that is not understood yet.
    head: Vec<u8>,
    /// How much of it has to be here before another look at it.
    needed: usize,
    /// Bytes of the packet that are still to come, once it is understood.
    body_bytes: usize,
    /// Bytes of those that are to be filled.
    fill_bytes: usize,
    /// The file whose content they begin with, and how much of it is still to come.
    content: Option<(FileId, usize)>,
}

impl Default for Half {
    fn default() -> Self {
        let needed = LENGTH_BYTES;
        Self { head: Vec::new(), needed, body_bytes: 0, fill_bytes: 0, content: None }
    }
}

impl Half {
    /// Takes as much as is needed; gives the rest.
    fn collect<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let missing = self.needed.saturating_sub(self.head.len());
        let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(taken);
        rest
    }

    /// What follows the head is content of a file.
    fn carry(&mut self, file: Option<FileId>, length: u64) {
        self.content = file.zip(usize::try_from(length).ok());
    }

    /// The head is understood.
    fn begin_body(&mut self, head: &[u8]) {
        let length = head.first_chunk().copied().map(u32::from_be_bytes).unwrap_or_default();
        let packet = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(LENGTH_BYTES);
        self.body_bytes = packet.saturating_sub(head.len());
        self.needed = LENGTH_BYTES;
    }

    /// Takes what belongs to the packet; gives the rest.
    fn body<'b>(
        &mut self,
        mode: Mode,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        watch: &mut impl Watch,
    ) -> &'b [u8] {
        let (body, rest) = bytes.split_at_checked(self.body_bytes).unwrap_or((bytes, &[]));
        self.body_bytes -= body.len();
        if let Some((file, left)) = &mut self.content {
            let content = body.get(..*left).unwrap_or(body);
            *left -= content.len();
            if !content.is_empty() {
                watch.content(*file, content);
            }
        }
        if mode == Mode::Enforce {
            let filled = self.fill_bytes.min(body.len());
            self.fill_bytes -= filled;
            out.resize(out.len() + filled, FILL);
            out.extend_from_slice(body.get(filled..).unwrap_or_default());
        }
        rest
    }
}

/// The type of a packet whose head is here.
fn kind(head: &[u8]) -> u8 {
    head.get(LENGTH_BYTES).copied().unwrap_or_default()
}
