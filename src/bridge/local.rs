//! The topics of this node, as a bridge sees them.

use std::fmt;
use std::sync::Arc;

use crate::bridge::message::BridgeMessage;
use crate::protocol::contain::contained;

/// What a bridge says to the topics of a node. The server implements it.
pub(crate) trait LocalDelivery: Send + Sync {
    /// Takes a message. It may be held back until the end of the batch.
    fn deliver(&self, topic: &str, message: &BridgeMessage<'_>);

    /// Learns that messages were lost: of one topic or of all, and how many if that is known.
    fn gap(&self, topic: Option<&str>, missed: Option<u64>);

    /// Wakes the thread that is to send what was delivered.
    fn end_batch(&self);
}

/// The topics of this node: where a bridge delivers what other nodes publish. Clones are handles to the same topics.
///
/// No method waits for a worker or for a peer.
///
/// ```
/// use std::sync::mpsc::Receiver;
/// use threadbare::{BridgeMessage, LocalTopics};
///
/// /// The thread of a bridge: delivers what arrives from the engine.
/// fn run(local: &LocalTopics, arriving: Receiver<(String, Vec<u8>)>) {
///     for (topic, payload) in arriving {
///         local.deliver(&topic, &BridgeMessage::binary(&payload));
///     }
///     local.gap(None, None); // the connection is lost, and perhaps some messages with it
/// }
/// ```
#[derive(Clone)]
pub struct LocalTopics {
    delivery: Arc<dyn LocalDelivery>,
}

impl LocalTopics {
    pub(crate) fn new(delivery: Arc<dyn LocalDelivery>) -> LocalTopics {
        LocalTopics { delivery }
    }

    /// Makes topics of a function, which is called with everything that a bridge says: for the test of a bridge, and for
    /// programs that use a bridge without a server. A panic of the function is logged.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use threadbare::{BridgeMessage, LocalEvent, LocalTopics};
    ///
    /// let heard = Arc::new(Mutex::new(Vec::new()));
    /// let recorder = heard.clone();
    /// let topics = LocalTopics::from_fn(move |event| {
    ///     if let LocalEvent::Message { topic, message } = event {
    ///         recorder.lock().unwrap().push((topic.to_owned(), message.payload().to_vec()));
    ///     }
    /// });
    /// topics.deliver("prices", &BridgeMessage::text("7"));
    /// assert_eq!(*heard.lock().unwrap(), [("prices".to_owned(), b"7".to_vec())]);
    /// ```
    pub fn from_fn(heard: impl Fn(LocalEvent<'_>) + Send + Sync + 'static) -> LocalTopics {
        LocalTopics::new(Arc::new(Function(heard)))
    }

    /// Delivers a message to the topic's subscribers on this node.
    ///
    /// ```
    /// use threadbare::{BridgeMessage, LocalTopics};
    ///
    /// let topics = LocalTopics::from_fn(|event| println!("{event:?}")); // in a test; a server gives its own to the bridge
    /// topics.deliver("news", &BridgeMessage::text("sold"));
    /// ```
    pub fn deliver(&self, topic: &str, message: &BridgeMessage<'_>) {
        self.batch().deliver(topic, message);
    }

    /// Begins a batch, whose messages wake each worker at most once.
    ///
    /// ```
    /// use threadbare::{BridgeMessage, LocalTopics};
    ///
    /// let topics = LocalTopics::from_fn(|event| println!("{event:?}"));
    /// let mut batch = topics.batch();
    /// for text in ["one", "two"] {
    ///     batch.deliver("news", &BridgeMessage::text(text));
    /// }
    /// drop(batch); // now the workers are woken
    /// ```
    pub fn batch(&self) -> LocalBatch<'_> {
        LocalBatch { delivery: &*self.delivery }
    }

    /// Tells the subscribers of a topic that `missed` messages were lost, or of every topic if `topic` is `None`. `missed`
    /// is `None` where nobody knows whether any were, as after the loss of a connection.
    ///
    /// ```
    /// use threadbare::LocalTopics;
    ///
    /// let topics = LocalTopics::from_fn(|event| println!("{event:?}"));
    /// topics.gap(Some("news"), Some(3));
    /// topics.gap(None, None); // all topics, and nobody knows how many
    /// ```
    pub fn gap(&self, topic: Option<&str>, missed: Option<u64>) {
        self.delivery.gap(topic, missed);
        self.delivery.end_batch();
    }
}

impl fmt::Debug for LocalTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTopics").finish_non_exhaustive()
    }
}

/// Messages and gaps that arrived together, in their order. The drop ends the batch.
///
/// ```
/// use threadbare::{BridgeMessage, LocalTopics};
///
/// let topics = LocalTopics::from_fn(|event| println!("{event:?}"));
/// let mut batch = topics.batch();
/// batch.deliver("prices", &BridgeMessage::text("7"));
/// batch.gap(Some("prices"), Some(1)); // the next message is missing
/// batch.deliver("prices", &BridgeMessage::text("9"));
/// drop(batch); // now the subscribers get them
/// ```
pub struct LocalBatch<'a> {
    delivery: &'a dyn LocalDelivery,
}

impl LocalBatch<'_> {
    /// Delivers a message; see [`LocalTopics::deliver`].
    ///
    /// ```
    /// use threadbare::{BridgeMessage, LocalTopics};
    ///
    /// let topics = LocalTopics::from_fn(|event| println!("{event:?}"));
    /// topics.batch().deliver("news", &BridgeMessage::binary(&[1, 2]));
    /// ```
    pub fn deliver(&mut self, topic: &str, message: &BridgeMessage<'_>) {
        self.delivery.deliver(topic, message);
    }

    /// Tells of lost messages; see [`LocalTopics::gap`].
    ///
    /// ```
    /// use threadbare::LocalTopics;
    ///
    /// let topics = LocalTopics::from_fn(|event| println!("{event:?}"));
    /// topics.batch().gap(Some("news"), None);
    /// ```
    pub fn gap(&mut self, topic: Option<&str>, missed: Option<u64>) {
        self.delivery.gap(topic, missed);
    }
}

impl Drop for LocalBatch<'_> {
    fn drop(&mut self) {
        self.delivery.end_batch();
    }
}

impl fmt::Debug for LocalBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBatch").finish_non_exhaustive()
    }
}

/// What a bridge says to the topics of a node.
///
/// ```
/// use threadbare::{LocalEvent, LocalTopics};
///
/// let topics = LocalTopics::from_fn(|event| match event {
///     LocalEvent::Message { topic, message } => println!("{topic}: {} bytes", message.payload().len()),
///     LocalEvent::Gap { topic: Some(topic), missed } => println!("{topic}: {missed:?} messages are lost"),
///     _ => {}
/// });
/// topics.gap(Some("prices"), Some(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalEvent<'a> {
    /// Another node published a message.
    Message {
        /// The topic.
        topic: &'a str,
        /// The message.
        message: BridgeMessage<'a>,
    },
    /// Messages of other nodes were lost.
    Gap {
        /// The topic, or `None` for every topic.
        topic: Option<&'a str>,
        /// How many, or `None` if that is not known. Nothing may be lost then.
        missed: Option<u64>,
    },
    /// All that arrived together was told.
    EndOfBatch,
}

struct Function<F>(F);

impl<F: Fn(LocalEvent<'_>)> Function<F> {
    /// A panic must not end the thread that receives.
    fn tell(&self, event: LocalEvent<'_>) {
        if let Err(text) = contained(|| self.0(event)) {
            log::error!("a function that takes a bridge's messages panicked: {text}");
        }
    }
}

impl<F: Fn(LocalEvent<'_>) + Send + Sync> LocalDelivery for Function<F> {
    fn deliver(&self, topic: &str, message: &BridgeMessage<'_>) {
        self.tell(LocalEvent::Message { topic, message: *message });
    }

    fn gap(&self, topic: Option<&str>, missed: Option<u64>) {
        self.tell(LocalEvent::Gap { topic, missed });
    }

    fn end_batch(&self) {
        self.tell(LocalEvent::EndOfBatch);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_batch_ends_once_and_single_calls_are_batches_of_one() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let recorder = heard.clone();
        let topics = LocalTopics::from_fn(move |event| {
            recorder.lock().expect("no panic").push(match event {
                LocalEvent::Message { topic, message } => format!("{topic}: {:?}", message.as_message()),
                LocalEvent::Gap { topic, missed } => format!("gap {topic:?} {missed:?}"),
                LocalEvent::EndOfBatch => "end".to_owned(),
            });
        });
        let mut batch = topics.batch();
        batch.deliver("a", &BridgeMessage::text("1"));
        batch.gap(Some("b"), Some(2));
        drop(batch);
        topics.deliver("c", &BridgeMessage::binary(b"3"));
        topics.clone().gap(None, None);
        let expected =
            ["a: Text(\"1\")", "gap Some(\"b\") Some(2)", "end", "c: Binary([51])", "end", "gap None None", "end"];
        assert_eq!(*heard.lock().expect("no panic"), expected);
    }
}
