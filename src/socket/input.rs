//! The receive buffers of blocking sockets. A socket has a small one of its own, and a large one only while its stream has
//! much to read.

use std::sync::{Mutex, PoisonError};

use crate::transport::buffer::Input;

/// The receive buffer has 16 KiB, enough for several small messages; the payload of a large one has a buffer of its
/// own. Larger uses more memory for each connection; smaller reads more often.
pub(super) const INPUT_SIZE: usize = 16 << 10;

/// A read that follows one which filled its buffer takes up to 256 KiB. Larger competes for the processor's cache; smaller
/// reads more often.
const LARGE_SIZE: usize = 256 << 10;

/// At most 4 large buffers are kept while no socket uses them. Larger keeps more memory; smaller allocates more often
/// where many sockets receive much at the same time.
const MAX_IDLE: usize = 4;

static IDLE: Mutex<Vec<Input>> = Mutex::new(Vec::new());

/// The receive buffer of a socket.
#[derive(Debug)]
pub(super) struct SocketInput {
    pub(super) current: Input,
    /// The socket's own buffer, while a large one is in its place.
    own: Option<Input>,
}

impl SocketInput {
    /// A buffer that holds what arrived with the opening handshake.
    pub(super) fn holding(leftover: Vec<u8>) -> SocketInput {
        let current = if leftover.is_empty() { Input::with_size(INPUT_SIZE) } else { Input::holding(leftover) };
        SocketInput { current, own: None }
    }

    /// Whether everything is decoded.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Chooses the buffer for the next read. To be called only when everything that was received is decoded.
    ///
    /// After a read that did not fill its buffer the stream has no more for now, and the next one may wait for long. So a
    /// socket that waits has its own buffer alone.
    pub(super) fn choose(&mut self, expects: Expected) {
        match (expects, self.current.size()) {
            (Expected::Much, INPUT_SIZE) => self.own = Some(std::mem::replace(&mut self.current, take_large())),
            (Expected::Much, LARGE_SIZE) | (Expected::Unknown, INPUT_SIZE) => {}
            (_, size) => {
                let own = self.own.take().unwrap_or_else(|| Input::with_size(INPUT_SIZE));
                let before = std::mem::replace(&mut self.current, own);
                // Bytes that came with the handshake had a buffer of another size.
                if size == LARGE_SIZE {
                    keep(before, &mut idle());
                }
            }
        }
    }
}

/// What the next read is expected to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// More than the socket's own buffer takes.
    Much,
    /// Nothing is known.
    Unknown,
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Input>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_large() -> Input {
    let kept = idle().pop();
    kept.unwrap_or_else(|| Input::with_size(LARGE_SIZE))
}

/// Keeps a large buffer for the next socket, unless enough are kept.
fn keep(mut input: Input, idle: &mut Vec<Input>) {
    if idle.len() < MAX_IDLE {
        input.fill(0);
        idle.push(input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_large_buffer_only_while_there_is_much_to_read() {
        let mut input = SocketInput::holding(Vec::new());
        let mut sizes = Vec::new();
        for expects in [Expected::Unknown, Expected::Much, Expected::Much, Expected::Unknown, Expected::Unknown] {
            input.choose(expects);
            sizes.push((input.current.size(), input.own.is_some()));
        }
        let (small, large) = ((INPUT_SIZE, false), (LARGE_SIZE, true));
        assert_eq!(sizes, [small, large, large, small, small]);
    }

    #[test]
    fn what_came_with_the_handshake_makes_room_for_the_own_buffer() {
        for size in [1, INPUT_SIZE - 1, INPUT_SIZE + 1, LARGE_SIZE + 1] {
            let mut input = SocketInput::holding(vec![0; size]);
            assert_eq!(input.current.filled_mut().len(), size);
            input.choose(Expected::Unknown);
            assert_eq!((input.current.size(), input.current.is_empty()), (INPUT_SIZE, true), "{size}");
        }
    }

    #[test]
    fn a_limited_number_of_large_buffers_is_kept() {
        let mut idle = Vec::new();
        for count in 1..=MAX_IDLE + 2 {
            keep(Input::holding(vec![0; 10]), &mut idle);
            assert_eq!(idle.len(), count.min(MAX_IDLE));
            assert!(idle.iter().all(Input::is_empty), "nobody else's bytes are decoded");
        }
    }
}
