//! Word from the kernel that interfaces, addresses or policy routing rules have changed, so that a
//! new interface or bridge port is steered at once and not at the next round.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::SteeringError;

/// What is listened to. Routes are not: a routing daemon changes thousands of them a second.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Listens to the changes in the network namespace of the thread that made it.
pub struct Watch {
    /// One for each message that something has changed.
    words: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// When no netlink socket can be had.
    pub fn start() -> Result<Self, SteeringError> {
        let (connection, handle, messages) =
            new_multicast_connection(&GROUPS).map_err(SteeringError::NetlinkSocket)?;
        // The connection moves messages only while it is polled, and it is polled with them.
        let words = stream::unfold(
            (Box::pin(connection), handle, messages),
            |(mut connection, handle, mut messages)| async move {
                tokio::select! {
                    () = &mut connection => None,
                    message = messages.next() => message.map(|_| ()),
                }
                .map(|word| (word, (connection, handle, messages)))
            },
        );
        Ok(Self { words: Box::pin(words) })
    }

    /// Waits until something has changed; for ever, if the kernel ends the conversation. Then the
    /// regular rounds go on alone. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.words.next().await.is_none() {
            tracing::warn!("The kernel tells no more of changed interfaces");
            self.words = Box::pin(stream::pending());
            std::future::pending::<()>().await;
        }
    }
}
