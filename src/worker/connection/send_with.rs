//! Sending with options from the worker's own thread, which never waits.

use crate::config::SlowConsumer;
use crate::config::send_options::SendOptions;
use crate::protocol::message::CowMessage;
use crate::worker::connection::active::ActiveConn;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::latest::{KeyedMessage, NotKept};
use crate::worker::handle::prepared::Prepared;

impl ActiveConn<'_> {
    /// Queues a message as its options say; `false` if it is not sent.
    #[inline]
    pub(crate) fn send_with(&mut self, message: CowMessage<'_>, options: SendOptions) -> bool {
        if let Some(key) = options.latest
            && !message.as_message().opcode().is_control()
            && self.must_keep()
        {
            return self.keep_or_apply(key, KeyedMessage::new(message, options.compression), options);
        }
        if let Some(policy) = options.slow_consumer
            && !message.as_message().opcode().is_control()
            && self.is_above_high_water()
        {
            return self.apply_policy(policy);
        }
        self.send_message(message, options.compression)
    }

    /// Queues a message that was encoded before, as its options say; `false` if it is not sent.
    #[inline]
    pub(crate) fn send_prepared(&mut self, prepared: &Prepared) -> bool {
        if let Some(key) = prepared.key()
            && self.must_keep()
        {
            let role = self.conn.endpoint.connection.role();
            return self.keep_or_apply(key, KeyedMessage::prepared(prepared, role), prepared.options());
        }
        if let Some(policy) = prepared.options().slow_consumer
            && prepared.is_data()
            && self.is_above_high_water()
        {
            return self.apply_policy(policy);
        }
        self.push_prepared(prepared)
    }

    /// Has a message wait under its key, or does what the policy says if there is no room for the key; `false` if it is
    /// not sent.
    #[cold]
    fn keep_or_apply(&mut self, key: u64, message: KeyedMessage, options: SendOptions) -> bool {
        if !self.conn.takes_messages() {
            return false;
        }
        match self.keep_latest(key, message) {
            Ok(()) => true,
            Err(NotKept::Ended) => false,
            Err(NotKept::Full) => {
                let policy = options.slow_consumer.unwrap_or_else(|| self.peer().slow_consumer());
                self.apply_policy(policy)
            }
        }
    }

    /// Does what the policy says about a message for which there is no room; `false` if the caller is to know.
    #[cold]
    fn apply_policy(&mut self, policy: SlowConsumer) -> bool {
        if !self.conn.takes_messages() {
            return false;
        }
        match policy {
            SlowConsumer::Block | SlowConsumer::Refuse => false,
            SlowConsumer::Drop => {
                self.context.count_dropped(self.info(), 1);
                true
            }
            SlowConsumer::Disconnect => {
                // After the callback that is under way.
                self.context.inbox.send(Command::Disconnect { to: self.state.key });
                false
            }
        }
    }
}
