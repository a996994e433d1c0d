//! An echo server that a service manager gives its sockets to, and that says when it is ready. systemd listens before the
//! server runs: the first client starts it, and while it is started again, clients wait in the queue and none is refused.
//!
//! ```ini
//! # /etc/systemd/system/echo.socket
//! [Socket]
//! ListenStream=8080
//! ListenStream=/run/echo.sock
//! SocketMode=0660
//! Backlog=4096
//!
//! [Install]
//! WantedBy=sockets.target
//!
//! # /etc/systemd/system/echo.service
//! [Service]
//! Type=notify
//! ExecStart=/usr/local/bin/echo-server
//! ```

use std::process::ExitCode;

const USAGE: &str = "\
Echoes messages, on the sockets that the service manager opened (LISTEN_FDS).

Usage: systemd [ADDR]

  ADDR    where to listen if there are none (default 127.0.0.1:8080; port 0 picks a free port; unix:PATH is a Unix socket)
  --help  this text
";

fn main() -> ExitCode {
    common::main(USAGE, common::parse_addr, serve)
}

#[cfg(not(unix))]
fn serve(_: String) -> Result<(), Box<dyn std::error::Error>> {
    Err("this needs a service manager of Unix".into())
}

#[cfg(unix)]
use unix::serve;

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::time::Duration;

    use listenfd::ListenFd;
    use sd_notify::NotifyState;
    use threadbare::{Handler, Listener, MessageRef, Server, Socket};

    /// How long clients have to complete the closing handshake.
    const GRACE: Duration = Duration::from_secs(5);

    struct Echo;

    impl Handler for Echo {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
        }
    }

    pub(super) fn serve(addr: String) -> Result<(), Box<dyn Error>> {
        let mut listeners = inherited()?;
        if listeners.is_empty() {
            listeners.push(Listener::from(addr));
        }
        let server = Server::builder().serve(listeners, |_request| Echo)?;
        let handle = server.handle();
        ctrlc::set_handler(move || {
            tell(&[NotifyState::Stopping]);
            let report = handle.shutdown(GRACE);
            log::info!("{report}");
        })?;
        common::print_urls("ws", server.local_addrs())?;
        tell(&[NotifyState::Ready]);
        server.join();
        Ok(())
    }

    /// The sockets of the service manager: TCP or Unix.
    fn inherited() -> std::io::Result<Vec<Listener>> {
        let mut given = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..given.len() {
            let listener = match given.take_tcp_listener(index) {
                Ok(tcp) => tcp.map(Listener::from),
                Err(_) => given.take_unix_listener(index)?.map(Listener::from),
            };
            listeners.extend(listener);
        }
        Ok(listeners)
    }

    /// Tells the service manager, if there is one.
    fn tell(state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            log::warn!("the service manager is not told: {error}");
        }
    }
}
