//! What is so or not of a connection, in one byte.

/// Something that is so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// The poll reports when the socket has room, which is no news before an output was stuck.
    RoomReported = 1 << 0,
    /// The socket reported its end, so that it must be read until that comes.
    EndReported = 1 << 1,
    /// The end was read: the peer sends no more.
    ReadClosed = 1 << 2,
    /// A ping of ours is out and nothing was heard since.
    Pinged = 1 << 3,
    /// The output stands above its mark; it last moved at [`Core::since`](super::core::Core::since).
    Stalled = 1 << 4,
    /// The closing handshake is complete, or will be with our answer.
    Clean = 1 << 5,
    /// The peer sent more behind its close frame.
    Trailing = 1 << 6,
    /// It waits in the worker's list of connections that go on without an event.
    Listed = 1 << 7,
}

/// What is so. As `bool`s in a [`Core`](super::core::Core) these would make every connection eight bytes larger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks(u8);

impl Marks {
    #[inline]
    pub(crate) fn contains(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }

    /// Whether it was not so before.
    #[inline]
    pub(crate) fn insert(&mut self, mark: Mark) -> bool {
        let before = *self;
        self.0 |= mark as u8;
        !before.contains(mark)
    }

    /// Whether it was so before.
    #[inline]
    pub(crate) fn remove(&mut self, mark: Mark) -> bool {
        let before = *self;
        self.0 &= !(mark as u8);
        before.contains(mark)
    }

    /// Makes it so, or not.
    #[inline]
    pub(crate) fn set(&mut self, mark: Mark, is_so: bool) {
        if is_so {
            self.insert(mark);
        } else {
            self.remove(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Mark; 8] = [
        Mark::RoomReported,
        Mark::EndReported,
        Mark::ReadClosed,
        Mark::Pinged,
        Mark::Stalled,
        Mark::Clean,
        Mark::Trailing,
        Mark::Listed,
    ];

    #[test]
    fn each_mark_is_apart_from_the_others() {
        for mark in ALL {
            let mut marks = Marks::default();
            assert!(marks.insert(mark) && !marks.insert(mark));
            assert_eq!(ALL.map(|other| marks.contains(other)), ALL.map(|other| other == mark));
            for other in ALL {
                marks.set(other, true);
            }
            assert!(marks.remove(mark) && !marks.remove(mark));
            assert_eq!(ALL.map(|other| marks.contains(other)), ALL.map(|other| other != mark));
            marks.set(mark, true);
            assert!(ALL.into_iter().all(|other| marks.contains(other)));
        }
    }
}
