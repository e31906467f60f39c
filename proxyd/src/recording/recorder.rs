//! What a session holds to record: batches in memory, a bounded queue, a writer behind it.

use std::time::Duration;

use proxyd_trail::{Batch, Push, Record, Stream, Taken};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::RecordingError;
use crate::clock::Clock;
use crate::session::event::Timed;

/// Encoded records, in bytes, that make a block if the writer is idle: large enough that changing
/// threads for it costs little beside writing it.
const BLOCK_BYTES: usize = 128 * 1024;

/// Encoded records, in bytes, that make a block if it is not: as one is in the making, one waits
/// and one is written, they are about half a MiB together.
const BLOCK_BYTES_MAX: usize = 192 * 1024;

/// Blocks that may wait for the writer. When one does, and the next is whole, the relay stops
/// reading both legs.
pub(super) const BLOCKS_WAITING_MAX: usize = 1;

/// Blocks' memory that may come back and wait for its next use: that of all chunks of one block.
pub(super) const SPARES_MAX: usize = 3;

/// Longest time for which a record is in memory only; promised is one second.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Records of all streams that were made in the same stretch of time.
#[derive(Debug)]
pub(super) struct Block {
    /// The chunks, at most one of each stream.
    pub(super) chunks: Vec<(Stream, Taken)>,
    /// Whether the trail is signed and flushed behind it.
    pub(super) seal: bool,
}

/// The end of a trail.
#[derive(Debug)]
pub(super) struct End {
    /// Why the session ended.
    pub(super) reason: String,
    /// Told once the trail is sealed and stored, or why it is not.
    pub(super) done: oneshot::Sender<Result<String, RecordingError>>,
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    /// Blocks, in order.
    pub(super) blocks: mpsc::Sender<Block>,
    /// The end, once.
    pub(super) end: oneshot::Sender<End>,
    /// Memory of blocks that are written.
    pub(super) spares: mpsc::Receiver<Vec<u8>>,
    /// Why the writer stopped, once it has.
    pub(super) failure: oneshot::Receiver<RecordingError>,
}

/// Records one session.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    started: Duration,
    file_name: String,
    meta: Batch,
    downstream: Batch,
    upstream: Batch,
    flush_at: Option<Duration>,
    backlog: Option<Block>,
    error: Option<RecordingError>,
    queue: Queue,
}

impl Recorder {
    pub(super) fn new(clock: Clock, started: Duration, file_name: String, queue: Queue) -> Self {
        Self {
            clock,
            started,
            file_name,
            meta: Batch::new(),
            downstream: Batch::new(),
            upstream: Batch::new(),
            flush_at: None,
            backlog: None,
            error: None,
            queue,
        }
    }

    /// The trail's file name, in the spool and in the store.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Records a property of the session, which is so from its start on.
    pub(super) fn fact(&mut self, name: &str, value: &str) {
        self.record_at(Stream::Meta, 0, &Record::Fact { name, value });
    }

    /// Records what a step left behind.
    pub fn event(&mut self, timed: &Timed) {
        let fields = timed.event.fields();
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let t_ns = nanoseconds(timed.at);
        self.record_at(Stream::Meta, t_ns, &Record::Event { kind: timed.event.name(), fields });
    }

    /// Records something that happens now.
    ///
    /// Nothing is lost where the queue is full: [`Recorder::is_behind`] says so, and until
    /// [`Recorder::caught_up`] nothing more may be recorded.
    pub fn record(&mut self, stream: Stream, record: &Record<'_>) {
        let t_ns = nanoseconds(self.clock.now().saturating_sub(self.started));
        self.record_at(stream, t_ns, record);
    }

    /// Whether the writer is so far behind that the session has to wait.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.backlog.is_some() || self.error.is_some()
    }

    /// Why what was recorded last is not; nothing may pass before that was asked.
    pub const fn take_failure(&mut self) -> Option<RecordingError> {
        self.error.take()
    }

    /// When a flush is due; none where nothing is in memory only.
    #[must_use]
    pub const fn flush_at(&self) -> Option<Duration> {
        self.flush_at
    }

    /// Hands everything in memory to the writer if that is due; while there is nothing, gives back
    /// the memory for it.
    pub fn flush_if_due(&mut self) {
        if self.flush_at.is_none() {
            while self.queue.spares.try_recv().is_ok() {}
        }
        if self.flush_at.is_some_and(|at| at <= self.clock.now()) && self.backlog.is_none() {
            self.flush(true);
        }
    }

    /// Waits until the writer has room again; fails once it has stopped. Cancel-safe.
    pub async fn caught_up(&mut self) -> Result<(), RecordingError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.backlog.is_none() {
            return Ok(());
        }
        let room = self.queue.blocks.reserve().await.is_ok_and(|permit| {
            if let Some(block) = self.backlog.take() {
                permit.send(block);
            }
            true
        });
        if !room {
            return Err(failure(&mut self.queue));
        }
        // What came behind the backlog is a block of its own by now.
        if self.waiting_bytes() >= BLOCK_BYTES {
            self.flush(false);
        }
        Ok(())
    }

    /// Seals the trail and waits until it is stored; gives the hash it ends with, in hexadecimal.
    pub async fn finish(mut self, reason: &str) -> Result<String, RecordingError> {
        self.caught_up().await?;
        self.flush(true);
        self.caught_up().await?;
        let (done, stored) = oneshot::channel();
        let Queue { blocks, end, mut failure, spares: _ } = self.queue;
        let told = end.send(End { reason: reason.to_owned(), done });
        drop(blocks);
        match (told, stored.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(failure.try_recv().unwrap_or(RecordingError::WriterGone)),
        }
    }

    fn record_at(&mut self, stream: Stream, t_ns: u64, record: &Record<'_>) {
        let batch = match stream {
            Stream::Meta => &mut self.meta,
            Stream::Downstream => &mut self.downstream,
            Stream::Upstream => &mut self.upstream,
        };
        if batch.is_empty()
            && let Ok(memory) = self.queue.spares.try_recv()
        {
            batch.reuse(memory);
        }
        match batch.push(t_ns, record) {
            Ok(Push::Added) => {}
            // Behind a backlog comes at most the rest of one message, for which there is room.
            Ok(Push::Full) => self.error = Some(RecordingError::Overfull),
            Err(error) => self.error = Some(RecordingError::Record(error)),
        }
        if self.flush_at.is_none() {
            self.flush_at = Some(self.clock.now().saturating_add(FLUSH_INTERVAL));
        }
        let writer_is_idle = self.queue.blocks.capacity() > 0;
        let enough = if writer_is_idle { BLOCK_BYTES } else { BLOCK_BYTES_MAX };
        if self.waiting_bytes() >= enough && self.backlog.is_none() {
            let due = self.flush_at.is_some_and(|at| at <= self.clock.now());
            self.flush(due);
        }
    }

    fn waiting_bytes(&self) -> usize {
        self.meta.len() + self.downstream.len() + self.upstream.len()
    }

    /// Makes a block of what is in memory, and sends it or keeps it as the backlog.
    fn flush(&mut self, seal: bool) {
        let batches = [
            (Stream::Meta, &mut self.meta),
            (Stream::Downstream, &mut self.downstream),
            (Stream::Upstream, &mut self.upstream),
        ];
        let taken = batches.into_iter().filter_map(|(stream, batch)| Some((stream, batch.take()?)));
        let chunks: Vec<_> = taken.collect();
        if seal {
            self.flush_at = None;
        }
        match self.queue.blocks.try_send(Block { chunks, seal }) {
            Ok(()) => {}
            Err(TrySendError::Full(block)) => self.backlog = Some(block),
            Err(TrySendError::Closed(_)) => self.error = Some(failure(&mut self.queue)),
        }
    }
}

/// Why the writer has stopped.
fn failure(queue: &mut Queue) -> RecordingError {
    queue.failure.try_recv().unwrap_or(RecordingError::WriterGone)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
