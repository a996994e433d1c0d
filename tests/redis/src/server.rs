//! A redis-server of a test's own, in a directory of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process};

use crate::eventually;

/// A process that ends with this value, and its directory.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    directory: PathBuf,
    settings: Vec<String>,
}

impl RedisServer {
    /// Starts a server with settings as on its command line, such as `--requirepass`, and waits until it answers.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not answer.
    pub fn start(settings: &[&str]) -> RedisServer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("threadbare-redis-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let port = free_port();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let child = spawn(port, &directory, &settings);
        let mut server = RedisServer { child, port, directory, settings };
        server.await_answer();
        server
    }

    /// A port where no server answers yet; [`restart`](RedisServer::restart) starts it.
    pub fn absent() -> RedisServer {
        let mut server = RedisServer::start(&[]);
        server.kill();
        server
    }

    /// Its URL, without user and password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its URL by a Unix socket.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("an end");
    }

    /// Starts it again on the same port, with what it has on its disk, and waits until it answers.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.settings);
        self.await_answer();
    }

    /// Stops it as a debugger does. Its sockets stay open.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(status.expect("a shell").success());
    }

    /// Sends a command of words without spaces, and returns the reply as it is on the wire.
    pub fn command(&self, command: &str) -> String {
        self.try_command(command).expect("a reply")
    }

    fn try_command(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        // QUIT ends the reply.
        write!(stream, "{command}\r\nQUIT\r\n").ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        reply.strip_suffix("+OK\r\n").map(str::to_owned)
    }

    fn await_answer(&mut self) {
        eventually("redis-server answers", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("redis-server ended with {status}: see {}", self.directory.join("log").display());
            }
            // A server that loads its data, or wants a password, answers too.
            self.try_command("PING").is_some_and(|reply| reply == "+PONG\r\n" || reply.starts_with("-NOAUTH"))
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn spawn(port: u16, directory: &Path, settings: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log")).expect("a log");
    let started = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(directory)
        .arg("--unixsocket")
        .arg(directory.join("redis.sock"))
        .args(settings)
        .stdin(Stdio::null())
        .stdout(log)
        .spawn();
    started
        .unwrap_or_else(|error| panic!("these tests need redis-server (Debian: apt-get install redis-server): {error}"))
}
