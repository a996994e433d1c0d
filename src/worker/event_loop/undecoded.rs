//! Input that was read and could not be decoded at once. Each connection that sends more than a drive decodes has some, so
//! that many of them have much: then less is read at once, and the rest stays with the kernel.

use crate::transport::buffer::Input;
use crate::worker::connection::context::WorkerContext;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;

/// While much is undecoded, a read takes at most 4 KiB. Larger lets many connections that flood exceed the limit by more;
/// smaller reads more often.
const MIN_READ: usize = 4 << 10;

/// The connections of all workers have at most 4 MiB undecoded before less is read at once, or
/// [`max_event_buffer_size`](crate::Config::max_event_buffer_size) if that is less. More takes more memory; with less,
/// fewer connections that flood are read with few system calls.
const MAX_UNDECODED: usize = 4 << 20;

impl WorkerContext {
    /// Has the worker read less at once while much is undecoded. `input` is its buffer, whose content is lost.
    #[cold]
    pub(super) fn limit_reads(&self, input: &mut Input) {
        let limit = self.config.max_event_buffer_size.min(MAX_UNDECODED) / self.publisher.workers().max(1);
        // To grow again, the buffer is initialised again, which costs as much as to read into it.
        let size = match self.undecoded {
            held if held > limit => MIN_READ.min(self.config.read_buffer_size),
            held if held <= limit / 2 => self.config.read_buffer_size,
            _ => return,
        };
        if input.size() != size {
            input.resize(size);
        }
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Keeps what is not decoded.
    #[cold]
    pub(super) fn keep_undecoded(&mut self, rest: Box<Input>) {
        self.conn.endpoint.keep_carry(rest);
        self.context.undecoded += self.conn.endpoint.undecoded();
    }

    /// Takes what was kept.
    #[inline(always)]
    pub(super) fn take_undecoded(&mut self) -> Option<Box<Input>> {
        let rest = self.conn.endpoint.take_carry()?;
        self.context.undecoded -= rest.as_slice().len();
        Some(rest)
    }

    /// Gives up what was received and not delivered, and decodes nothing more.
    pub(super) fn give_up_input(&mut self) {
        self.context.undecoded -= self.conn.endpoint.undecoded();
        self.conn.endpoint.give_up_input();
    }
}
