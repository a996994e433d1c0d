//! The flags of a connection, in one byte.

/// One flag of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    /// The stream is registered for writability, which is not needed before its socket was full once.
    WritableRegistered = 1 << 0,
    /// The poll reported a hangup, which it does once: the stream must be read to its end.
    HangupReported = 1 << 1,
    /// The end of the stream was read: the peer sends no more.
    ReadClosed = 1 << 2,
    /// A keepalive ping was sent, and nothing was heard since.
    PingOutstanding = 1 << 3,
    /// The output was above the high-water mark, and has not moved enough since
    /// [`Conn::since`](super::conn::Conn::since).
    AboveHighWater = 1 << 4,
    /// The closing handshake is complete, or will be with our answer.
    Clean = 1 << 5,
    /// The peer sent data after its close frame.
    DataAfterClose = 1 << 6,
    /// The connection is in the worker's list of those to be driven without an event.
    InReadyList = 1 << 7,
}

/// The flags of a connection. As `bool`s they would make every [`Conn`](super::conn::Conn) eight bytes larger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    #[inline]
    pub(crate) fn contains(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Sets a flag; `false` if it was set.
    #[inline]
    pub(crate) fn insert(&mut self, flag: Flag) -> bool {
        let before = *self;
        self.0 |= flag as u8;
        !before.contains(flag)
    }

    /// Clears a flag; `false` if it was not set.
    #[inline]
    pub(crate) fn remove(&mut self, flag: Flag) -> bool {
        let before = *self;
        self.0 &= !(flag as u8);
        before.contains(flag)
    }

    /// Sets or clears a flag.
    #[inline]
    pub(crate) fn set(&mut self, flag: Flag, value: bool) {
        if value {
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
    fn each_flag_is_independent_of_the_others() {
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
