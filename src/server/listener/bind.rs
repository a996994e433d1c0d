//! Opens the listeners of a server.

use crate::config::ConfigError;
use crate::error::BuildError;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::protocol::PeerAddr;
use crate::server::listener::open::OpenListener;
#[cfg(unix)]
use crate::server::listener::unix;
use crate::server::listener::{Listener, Listeners, Place, Settings, tcp};
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::server::reactor::hand_over_command::SharedListener;

/// Opens all listeners, or none. There is at least one.
pub(in crate::server) fn open_all(listeners: Listeners) -> Result<Vec<OpenListener>, BuildError> {
    if listeners.0.is_empty() {
        return Err(ConfigError::new("listeners", "empty", "one listener at least").into());
    }
    listeners.0.into_iter().map(open).collect()
}

/// Uses the sockets of another process, which gives them, with the settings of these listeners.
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(in crate::server) fn adopt_all(
    listeners: Listeners,
    given: Vec<SharedListener>,
) -> Result<Vec<OpenListener>, BuildError> {
    if listeners.0.len() != given.len() {
        const NEEDED: &str = "as many as the server has that is taken over";
        return Err(ConfigError::new("listeners", listeners.0.len(), NEEDED).into());
    }
    let pairs = listeners.0.into_iter().zip(given);
    pairs.map(|(listener, given)| adopt(listener, given)).collect()
}

#[cfg(all(target_os = "linux", feature = "handover"))]
impl Place {
    /// Whether a listener of this place may have this address.
    fn is_at(&self, addr: &PeerAddr) -> bool {
        match (self, addr) {
            (Place::Tcp(Ok(places)), PeerAddr::Ip(addr)) => {
                places.iter().any(|place| place.ip() == addr.ip() && [addr.port(), 0].contains(&place.port()))
            }
            (Place::Unix(path), PeerAddr::Unix(Some(other))) => path == other,
            // What was made elsewhere has the address that it was given there.
            (Place::GivenTcp(_), PeerAddr::Ip(_)) | (Place::GivenUnix(_), PeerAddr::Unix(_)) => true,
            _ => false,
        }
    }
}

#[cfg(all(target_os = "linux", feature = "handover"))]
fn adopt(Listener { place, settings }: Listener, given: SharedListener) -> Result<OpenListener, BuildError> {
    let SharedListener { addr, file, socket } = given;
    if !place.is_at(&addr) {
        log::warn!("the server listens on {addr}, as before: to change that takes a restart without a hand-over");
    }
    let listener = match &addr {
        PeerAddr::Unix(_) => unix::adopt(socket.into(), settings)?,
        _ => tcp::adopt(socket.into(), settings)?,
    };
    // A Unix socket says under which name it was made.
    Ok(OpenListener { addr, shared_file: file, ..listener })
}

fn open(Listener { place, settings }: Listener) -> Result<OpenListener, BuildError> {
    settings.check(&place)?;
    match place {
        Place::Tcp(addrs) => tcp::bind(addrs, settings),
        Place::GivenTcp(listener) => tcp::adopt(listener, settings),
        #[cfg(unix)]
        Place::Unix(path) => unix::bind(&path, settings),
        #[cfg(unix)]
        Place::GivenUnix(listener) => unix::adopt(listener, settings),
        #[cfg(not(unix))]
        Place::Unix(path) => {
            let unsupported = std::io::Error::new(std::io::ErrorKind::Unsupported, "this system has no Unix sockets");
            Err(BuildError::io(format!("unix:{} can not be bound", path.display()))(unsupported))
        }
    }
}

impl Settings {
    fn check(&self, place: &Place) -> Result<(), ConfigError> {
        if let Some(mode) = self.mode {
            let is_file = matches!(place, Place::Unix(path) if !path.as_os_str().as_encoded_bytes().starts_with(b"@"));
            let shown = format!("{mode:#o}");
            if !is_file {
                return Err(ConfigError::new(
                    "mode",
                    shown,
                    "unset, because only a listener on unix:PATH makes a file",
                ));
            }
            if mode > 0o777 {
                return Err(ConfigError::new("mode", shown, "0o777 at most"));
            }
        }
        match self.backlog {
            Some(backlog) if i32::try_from(backlog).is_err() => {
                Err(ConfigError::new("backlog", backlog, "2147483647 at most"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, target_os = "linux", feature = "handover"))]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_another_process_gives_is_compared_with_what_was_asked_for() {
        let ip = |addr: &str| PeerAddr::Ip(addr.parse().expect("an address"));
        let unix = PeerAddr::Unix(Some("/run/app.sock".into()));
        for (asked, given, is_same) in [
            ("127.0.0.1:8080", ip("127.0.0.1:8080"), true),
            ("127.0.0.1:0", ip("127.0.0.1:8080"), true),
            ("127.0.0.1:8081", ip("127.0.0.1:8080"), false),
            ("127.0.0.2:8080", ip("127.0.0.1:8080"), false),
            ("unix:/run/app.sock", unix.clone(), true),
            ("unix:/run/other.sock", unix.clone(), false),
            ("127.0.0.1:8080", unix, false),
            ("unix:/run/app.sock", ip("127.0.0.1:8080"), false),
        ] {
            assert_eq!(Listener::from(asked).place.is_at(&given), is_same, "{asked} and {given}");
        }
    }
}
