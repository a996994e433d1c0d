//! A server that takes over from another, if there is one, and is handed over itself later.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConfigError};
use crate::error::BuildError;
use crate::server::builder::ServerBuilder;
use crate::server::control::ServerHandle;
use crate::server::hand_over::giver::{Giver, GiverEnd};
use crate::server::hand_over::taker::Taker;
use crate::server::listener::Listeners;
use crate::server::listener::bind::{adopt_all, open_all};
use crate::server::listener::open::OpenListener;
use crate::server::listener::unix::{PrivateSocket, check_place};
use crate::server::reactor::command::ReactorCommand;
use crate::server::reactor::hand_over_command::{HandOverCommand, SharedListener};

/// A server between the time when it has asked for what another has, and when it serves.
pub(in crate::server) struct Succession {
    taker: Option<(Taker, Vec<SharedListener>)>,
    socket: PrivateSocket,
    giver: Giver,
    end: Option<GiverEnd>,
}

impl Succession {
    /// Begins, if the server is to be handed over.
    ///
    /// # Errors
    /// As for [`at`](Succession::at).
    pub(in crate::server) fn begin(builder: &ServerBuilder) -> Result<Option<Succession>, BuildError> {
        builder.hand_over.as_deref().map(Succession::at).transpose()
    }

    /// Asks the server at `path`, if one runs there.
    ///
    /// # Errors
    /// It does not answer as it should, or the socket for the next server can not be made.
    pub(super) fn at(path: &Path) -> Result<Succession, BuildError> {
        if path.as_os_str().is_empty() {
            return Err(ConfigError::new("hand_over", "an empty path", "the path of a Unix socket").into());
        }
        let cannot = || format!("the server can not be handed over at {}", path.display());
        check_place(path).map_err(BuildError::io(cannot()))?;
        let taker = Taker::connect(path)?;
        // A process that takes over is the only one, once the old one has answered.
        let socket = if taker.is_some() { PrivateSocket::bind_of_successor(path) } else { PrivateSocket::bind(path) };
        let socket = socket.map_err(BuildError::io(cannot()))?;
        let (giver, end) = Giver::new().map_err(BuildError::io(cannot()))?;
        Ok(Succession { taker, socket, giver, end: Some(end) })
    }

    /// Whether there is a server to take over from.
    pub(in crate::server) fn has_predecessor(&self) -> bool {
        self.taker.is_some()
    }

    /// What ends the wait for the next server, as it is dropped.
    pub(in crate::server) fn take_end(&mut self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.end.take().map(|end| Arc::new(end) as Arc<dyn Any + Send + Sync>)
    }

    /// The listeners: those of the old server with the settings of these, or these.
    pub(in crate::server) fn listeners(&mut self, listeners: Listeners) -> Result<Vec<OpenListener>, BuildError> {
        match &mut self.taker {
            Some((_, shared)) => adopt_all(listeners, std::mem::take(shared)),
            None => open_all(listeners).map_err(|error| self.explain(error)),
        }
    }

    /// Says that nobody has answered, if the address belongs to another process, which may be the server that runs.
    fn explain(&self, error: BuildError) -> BuildError {
        match error {
            BuildError::Io { operation, source } if source.kind() == io::ErrorKind::AddrInUse => {
                let path = self.socket.path().display();
                BuildError::io(format!("{operation}; no server to take over from answers at {path}"))(source)
            }
            other => other,
        }
    }

    /// Takes the connections over, once the threads of the server run and accept nothing yet. Then waits for the next server,
    /// on a thread.
    ///
    /// # Errors
    /// Nothing was taken over, and the old server serves on.
    pub(in crate::server) fn complete(self, server: &ServerHandle, config: &Config) -> Result<(), BuildError> {
        let no_thread = |error: io::Error| BuildError::io("no thread")(error);
        let (sender, published) = crossbeam_channel::bounded(1);
        let (server_of_giver, giver, drop_timeout) = (server.clone(), self.giver, config.drop_timeout);
        let state = giver.state();
        let run = move || {
            if let Ok(listener) = published.recv() {
                giver.run(listener, &server_of_giver, drop_timeout);
            }
        };
        // Before the connections are this process's, because the system may refuse a thread.
        config.thread("ws-hand-over".into()).spawn(run).map_err(no_thread)?;
        let taken = self.taker.map(|(taker, _)| taker.take(server)).transpose()?;
        if let Some((taken, _)) = &taken {
            server.control.reactor.send(ReactorCommand::HandOver(HandOverCommand::OwnListeners));
            log::info!("{taken} connections were taken over");
        }
        match self.socket.publish() {
            Ok(socket) => {
                let (listener, file) = socket.into_parts();
                // Before the server can end.
                state.set_file(file);
                // The thread waits for it.
                let _ = sender.send(listener);
            }
            Err(error) => log::error!("the server can not be handed over: {error}"),
        }
        // The old process may end now, for all that this thread has to do.
        drop(taken);
        Ok(())
    }
}

/// The clocks of connections reach as far back as the longest time that the server looks back to.
pub(in crate::server) fn clock_reach(config: &Config) -> Duration {
    let keepalive = config.ping_interval.unwrap_or_default().saturating_add(config.pong_timeout);
    let lifetime = config.max_lifetime.unwrap_or_default();
    [keepalive, lifetime, config.write_timeout].into_iter().fold(Duration::ZERO, Duration::max)
}
