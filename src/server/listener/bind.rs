//! Opens the listeners of a server.

use crate::config::ConfigError;
use crate::error::BuildError;
use crate::server::listener::open::OpenListener;
#[cfg(unix)]
use crate::server::listener::unix;
use crate::server::listener::{Listener, Listeners, Place, Settings, tcp};

/// Opens all listeners, or none. There is at least one.
pub(in crate::server) fn open_all(listeners: Listeners) -> Result<Vec<OpenListener>, BuildError> {
    if listeners.0.is_empty() {
        return Err(ConfigError::new("listeners", "empty", "one listener at least").into());
    }
    listeners.0.into_iter().map(open).collect()
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
