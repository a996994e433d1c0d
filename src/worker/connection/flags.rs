//! What is so or not of a connection, in one byte.

/// Something that is so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    /// The poll reports when the socket has room, which is no news before an output was stuck.
    WritableRegistered = 1 << 0,
    /// The socket reported its end, so that it must be read until that comes.
    HangupReported = 1 << 1,
    /// The end was read: the peer sends no more.
    ReadClosed = 1 << 2,
    /// A ping of ours is out and nothing was heard since.
    PingOutstanding = 1 << 3,
    /// The output stands above its mark; it last moved at [`Conn::since`](super::core::Core::since).
    AboveHighWater = 1 << 4,
    /// The closing handshake is complete, or will be with our answer.
    Clean = 1 << 5,
    /// The peer sent more behind its close frame.
    DataAfterClose = 1 << 6,
    /// It waits in the worker's list of connections that go on without an event.
    InReadyList = 1 << 7,
}

/// What is so. As `bool`s in a [`Conn`](super::core::Core) these would make every connection eight bytes larger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    #[inline]
    pub(crate) fn contains(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Whether it was not so before.
    #[inline]
    pub(crate) fn insert(&mut self, flag: Flag) -> bool {
        let before = *self;
        self.0 |= flag as u8;
        !before.contains(flag)
    }

    /// Whether it was so before.
    #[inline]
    pub(crate) fn remove(&mut self, flag: Flag) -> bool {
        let before = *self;
        self.0 &= !(flag as u8);
        before.contains(flag)
    }

    /// Makes it so, or not.
    #[inline]
    pub(crate) fn set(&mut self, flag: Flag, is_so: bool) {
        if is_so {
            self.insert(flag);
        } else {
            self.remove(flag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Flag; 8] = [
        Flag::WritableRegistered,
        Flag::HangupReported,
        Flag::ReadClosed,
        Flag::PingOutstanding,
        Flag::AboveHighWater,
        Flag::Clean,
        Flag::DataAfterClose,
        Flag::InReadyList,
    ];

    #[test]
    fn each_mark_is_apart_from_the_others() {
        for flag in ALL {
            let mut flags = Flags::default();
            assert!(flags.insert(flag) && !flags.insert(flag));
            assert_eq!(ALL.map(|other| flags.contains(other)), ALL.map(|other| other == flag));
            for other in ALL {
                flags.set(other, true);
            }
            assert!(flags.remove(flag) && !flags.remove(flag));
            assert_eq!(ALL.map(|other| flags.contains(other)), ALL.map(|other| other != flag));
            flags.set(flag, true);
            assert!(ALL.into_iter().all(|other| flags.contains(other)));
        }
    }
}
