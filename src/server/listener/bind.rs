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
    pairs.map(|(Listener { settings, .. }, given)| adopt(settings, given)).collect()
}

#[cfg(all(target_os = "linux", feature = "handover"))]
fn adopt(settings: Settings, given: SharedListener) -> Result<OpenListener, BuildError> {
    let SharedListener { addr, file, socket } = given;
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
