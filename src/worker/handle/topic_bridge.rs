//! The seam to what carries topics between servers.

use crate::protocol::message::MessageRef;

/// Carries the messages of topics to other servers, and has theirs delivered here by
/// [`Topics::deliver`](crate::worker::handle::topics::Topics::deliver). No call may block.
pub(crate) trait TopicBridge: Send + Sync {
    /// A message was published here, by any thread, and is on its way to the subscribers here.
    fn publish(&self, topic: &str, message: MessageRef<'_>);

    /// The topic has its first subscriber here. Called by one thread at a time, and before the application is told.
    fn first(&self, topic: &str);

    /// The topic has lost its last subscriber here. Called by one thread at a time, and before the application is told.
    fn last(&self, topic: &str);
}
