//! Tasks: every one belongs to a group, whose owner joins it.

use tokio_util::task::TaskTracker;
use tracing::error;

/// Owns the tasks it starts.
///
/// A clone starts tasks in the same group; [`Group::join`] waits for all of them.
#[derive(Debug, Clone, Default)]
pub struct Group {
    tracker: TaskTracker,
}

impl Group {
    /// A group without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task; a panic in it is logged as a bug and ends only that task.
    pub fn start<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = self.tracker.spawn(task);
        self.tracker.spawn(async move {
            if let Err(failed) = inner.await
                && failed.is_panic()
            {
                error!(task = name, error = %failed, "A task panicked, which is a bug");
            }
        });
    }

    /// Waits until every task has ended; none can be started in the meantime by this handle.
    pub async fn join(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
