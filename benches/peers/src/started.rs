//! Programs that are measured, each in a process of its own.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;

/// A program must listen or connect within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that ends when this is dropped.
pub struct Started {
    child: Child,
    pub process: Process,
}

impl Started {
    /// Starts a program without standard input and output.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn new(command: &mut Command) -> io::Result<Started> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        match Process::new(child.id()) {
            Ok(process) => Ok(Started { child, process }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Connects to the program as soon as it listens.
    ///
    /// # Errors
    ///
    /// It ends, or does not listen.
    pub fn connect(&mut self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.wait_for("listen", || match TcpStream::connect(addr) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Accepts the program's connection.
    ///
    /// # Errors
    ///
    /// It ends, or does not connect.
    pub fn accept(&mut self, listener: &TcpListener) -> io::Result<TcpStream> {
        listener.set_nonblocking(true)?;
        self.wait_for("connect", || match listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(false).map(|()| Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn wait_for<T>(&mut self, what: &str, mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the program ended: {status}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("the program does not {what}")));
            }
            thread::yield_now();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // An error means that it has ended.
    let _ = child.kill();
    let _ = child.wait();
}
