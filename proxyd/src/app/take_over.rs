//! The new daemon's side of a hand-over.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixStream;
use tracing::info;

use crate::control::Request;
use crate::handover::{Handed, HandoverError, Link, Step, VERSION};

/// How long the old daemon may take to offer: it reads the configuration file.
const OFFER_LIMIT: Duration = Duration::from_secs(60);

/// The connection to the daemon that is taken over from.
pub(super) struct TakeOver {
    link: Link,
}

impl TakeOver {
    /// Asks the daemon behind `socket`, which runs with the configuration `file`, for its
    /// listeners and its lock. It goes on as before until [`TakeOver::finish`].
    pub(super) async fn ask(socket: &Path, file: &Path) -> anyhow::Result<(Self, Handed)> {
        let config = std::fs::canonicalize(file)
            .with_context(|| format!("cannot find {}", file.display()))?;
        let stream = UnixStream::connect(socket).await.with_context(|| {
            format!("no gateway to take over from answers at {}; is it running?", socket.display())
        })?;
        let mut link = Link::new(stream);
        let failed = "cannot take over";
        link.say(&Request::TakeOver { version: VERSION, config }).await.context(failed)?;
        let handed = link.offered(OFFER_LIMIT).await.context(failed)?;
        info!("The running gateway hands over");
        Ok((Self { link }, handed))
    }

    /// Says that this daemon steers; returns when the old one has let go of everything but its
    /// sessions.
    pub(super) async fn finish(mut self) -> Result<(), HandoverError> {
        self.link.say(&Step::Ready).await?;
        self.link.granted().await
    }
}
