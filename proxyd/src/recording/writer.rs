//! The writer of one trail: compresses, encrypts, chains and writes, away from the relay.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use proxyd_trail::{Header, Sealing, Stream, Taken, Writer};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::keyframes::Keyframes;
use super::recorder::{BLOCKS_WAITING_MAX, Block, End, Queue, SPARES_MAX};
use super::spool::{Created, Spool};
use super::{RecordingError, hexadecimal};
use crate::clock::Clock;
use crate::task::Group;

/// Blocks written in one go; then the thread is free for the trails of others.
const BLOCKS_IN_ONE_GO: usize = 64;

/// Time without a block after which a writer gives back the memory that it has used under load:
/// longer than a pause within a transfer.
const QUIET: Duration = Duration::from_secs(2);

/// A trail that is being written.
struct Open {
    writer: Writer<File>,
    lock: File,
    path: PathBuf,
    clock: Clock,
    spares: mpsc::Sender<Vec<u8>>,
    keyframes: Keyframes,
}

/// Opens a trail in the spool and starts its writer.
pub(super) async fn start(
    spool: &Spool,
    clock: Clock,
    tasks: &Group,
    name: String,
    header: Header,
    sealing: Sealing,
) -> Result<Queue, RecordingError> {
    let (spares, written) = mpsc::channel(SPARES_MAX);
    let (create_in, create_name) = (spool.clone(), name.clone());
    let open = blocking(move || {
        let Created { file, path, lock } = create_in.create(&create_name)?;
        match Writer::create(file, &header, &sealing) {
            Ok(writer) => {
                let keyframes = Keyframes::default();
                Ok(Open { writer, lock, path, clock, spares, keyframes })
            }
            Err(source) => {
                // Nothing was recorded; what there is of a header is of no use to anybody.
                create_in.discard(&create_name);
                Err(RecordingError::Trail { path, source })
            }
        }
    })
    .await?;
    let (blocks, waiting) = mpsc::channel(BLOCKS_WAITING_MAX);
    let (end, ending) = oneshot::channel();
    let (failed, failure) = oneshot::channel();
    let spool = spool.clone();
    tasks.start("trail writer", async move {
        if let Err(stopped) = write(open, &spool, name, waiting, ending).await {
            error!(error = %stopped, source = ?stopped, "A trail can no longer be written");
            // The session reads this when it next records; it may have gone already.
            drop(failed.send(stopped));
        }
    });
    Ok(Queue { blocks, end, failure, spares: written })
}

/// Writes blocks until the session ends it, or is gone.
async fn write(
    mut open: Open,
    spool: &Spool,
    name: String,
    mut waiting: mpsc::Receiver<Block>,
    ending: oneshot::Receiver<End>,
) -> Result<(), RecordingError> {
    while let Some(block) = open.next(&mut waiting).await {
        (open, waiting) = blocking(move || {
            open.blocks(block, &mut waiting)?;
            Ok((open, waiting))
        })
        .await?;
    }
    // A session that ended without a word has panicked; its trail ends here all the same.
    let (reason, done) = match ending.await {
        Ok(End { reason, done }) => (reason, Some(done)),
        Err(_gone) => ("the session ended by a bug".to_owned(), None),
    };
    let spool = spool.clone();
    let result = blocking(move || {
        let (hash, _lock) = open.end(&reason)?;
        spool.store(&name)?;
        Ok(hash)
    })
    .await;
    match done {
        // Whoever waits is told, also about the failure; it logs it.
        Some(done) => {
            drop(done.send(result));
            Ok(())
        }
        None => result.map(|_hash| ()),
    }
}

impl Open {
    /// The next block; none once the session has ended.
    async fn next(&mut self, waiting: &mut mpsc::Receiver<Block>) -> Option<Block> {
        if !self.writer.holds_memory() {
            return waiting.recv().await;
        }
        let quiet_at = self.clock.now().saturating_add(QUIET);
        tokio::select! {
            block = waiting.recv() => return block,
            () = self.clock.sleep_until(quiet_at) => {
                self.writer.release_memory();
                self.keyframes.release_memory();
            }
        }
        waiting.recv().await
    }

    /// Writes a block and those that came meanwhile: under load, changing threads for each would
    /// cost as much as writing it.
    fn blocks(
        &mut self,
        first: Block,
        waiting: &mut mpsc::Receiver<Block>,
    ) -> Result<(), RecordingError> {
        self.block(first)?;
        for _block in 1..BLOCKS_IN_ONE_GO {
            let Ok(block) = waiting.try_recv() else { break };
            self.block(block)?;
        }
        Ok(())
    }

    fn block(&mut self, block: Block) -> Result<(), RecordingError> {
        let keyframes = self.keyframes.follow(&block.chunks);
        for (stream, Taken { records, first_t_ns }) in block.chunks {
            self.tried(|open| open.writer.chunk(stream, &records, first_t_ns))?;
            // With enough of it in use, or nobody to use it, it is freed.
            let _freed = self.spares.try_send(records);
        }
        if let Some(Taken { records, first_t_ns }) = keyframes {
            let stream = Stream::Downstream;
            self.tried(|open| open.writer.chunk(stream, &records, first_t_ns))?;
        }
        if block.seal {
            let wall_ns = self.clock.wall_ns();
            self.tried(|open| open.writer.seal(wall_ns))?;
        }
        Ok(())
    }

    /// Gives the hash that the trail ends with, and the lock that keeps it from others.
    fn end(self, reason: &str) -> Result<(String, File), RecordingError> {
        let wall_ns = self.clock.wall_ns();
        match self.writer.end(reason, wall_ns) {
            Ok(summary) => Ok((hexadecimal(&summary.hash), self.lock)),
            Err(source) => Err(RecordingError::Trail { path: self.path, source }),
        }
    }

    fn tried(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), proxyd_trail::TrailError>,
    ) -> Result<(), RecordingError> {
        step(self).map_err(|source| RecordingError::Trail { path: self.path.clone(), source })
    }
}

/// Runs the disk's work where it blocks nobody else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordingError> + Send + 'static,
) -> Result<T, RecordingError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_panicked) => Err(RecordingError::WriterGone),
    }
}
