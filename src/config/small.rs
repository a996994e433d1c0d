//! Settings for machines with little memory: the buffer of each worker, the stack of each thread, and a set of limits.

use std::thread;

use super::Config;

impl Config {
    /// Limits for a machine with little memory, such as a router or a single-board computer. Each can be changed afterwards.
    ///
    /// | setting | here | default |
    /// |---|---|---|
    /// | [`max_message_size`](Config::max_message_size) | 64 KiB | 1 MiB |
    /// | [`max_write_buffer_size`](Config::max_write_buffer_size) | 64 KiB | 1 MiB |
    /// | [`max_event_buffer_size`](Config::max_event_buffer_size) | 256 KiB | 4 MiB |
    /// | [`max_memory`](Config::max_memory) | 4 MiB | 520 MiB |
    /// | [`max_head_size`](Config::max_head_size) | 8 KiB | 16 KiB |
    /// | [`max_body_size`](Config::max_body_size) | 8 KiB | 64 KiB |
    /// | [`max_connections`](Config::max_connections) | 16,384 | 65,536 |
    /// | [`read_buffer_size`](Config::read_buffer_size) | 16 KiB | 256 KiB |
    /// | [`thread_stack_size`](Config::thread_stack_size) | 256 KiB | the standard library's, 2 MiB |
    ///
    /// The guide's section on [small machines](crate::guide::small) says what such a program takes.
    ///
    /// ```
    /// use threadbare::{Config, Server};
    ///
    /// let server = Server::builder().config(Config::small().max_message_size(4 << 10)).workers(1).bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn small() -> Config {
        Config::default()
            .max_message_size(64 << 10)
            .max_write_buffer_size(64 << 10)
            .max_event_buffer_size(256 << 10)
            .max_memory(4 << 20)
            .max_head_size(8 << 10)
            .max_body_size(8 << 10)
            .max_connections(16_384)
            .read_buffer_size(16 << 10)
            .thread_stack_size(256 << 10)
    }

    /// The buffer into which a worker reads, in bytes: one for each worker, or for each event loop, whatever the number of
    /// connections. It is also the most that one read takes from a connection. 1 KiB at least. Default: 256 KiB, which is
    /// about what the kernel has ready on a fast path. Larger competes for the processor's cache; smaller reads more often.
    /// The system provides the memory when it is used, so that large reads alone take all of it.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().read_buffer_size(16 << 10); // messages are short
    /// ```
    #[must_use]
    pub fn read_buffer_size(mut self, bytes: usize) -> Config {
        self.read_buffer_size = bytes;
        self
    }

    /// The stack of each thread that the library starts for a server or a client, in bytes. Handlers, the hooks of a server,
    /// and the sources of messages in parts are called on it. Not that of a thread that looks a name up, or of a bridge. 128 KiB at least, of which a worker takes more than half itself in a build without optimization. Default: the standard library's, 2 MiB or what the environment variable
    /// `RUST_MIN_STACK` says. The system provides the memory when it is used, so a smaller stack takes less of the address
    /// space, and less memory only where the system reserves it all.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().thread_stack_size(128 << 10); // the handlers need little
    /// ```
    #[must_use]
    pub fn thread_stack_size(mut self, bytes: usize) -> Config {
        self.thread_stack_size = Some(bytes);
        self
    }

    /// A thread of the library with this name, to be started.
    pub(crate) fn thread(&self, name: String) -> thread::Builder {
        let builder = thread::Builder::new().name(name);
        match self.thread_stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_small_machines_are_valid_and_below_the_defaults() {
        let (small, default) = (Config::small(), Config::default());
        assert_eq!(small.check(), Ok(()));
        assert!(small.memory_limit() < default.memory_limit() && small.read_buffer_size < default.read_buffer_size);
    }

    #[test]
    fn a_buffer_or_a_stack_that_is_too_small_is_refused() {
        let refused = |config: Config| config.check().unwrap_err().to_string();
        let buffer = refused(Config::default().read_buffer_size(1_023));
        assert_eq!(buffer, "read_buffer_size is 1023, but must be at least 1024");
        let stack = refused(Config::small().thread_stack_size(1));
        assert_eq!(stack, "thread_stack_size is 1, but must be at least 131072");
    }

    #[test]
    fn a_thread_has_its_name() {
        let name = || thread::current().name().map(str::to_owned);
        let thread = Config::small().thread("ws-test".into()).spawn(name).expect("a thread");
        assert_eq!(thread.join().expect("no panic").as_deref(), Some("ws-test"));
    }
}
