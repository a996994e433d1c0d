//! A server that is no Redis.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Greets each connection as Redis does, and then sends it what it was made with.
#[derive(Debug)]
pub struct FakeRedis {
    port: u16,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeRedis {
    /// Starts one that sends `answer` to whatever follows the first PING, and closes the connection if `closes`.
    pub fn start(answer: impl Fn(&mut TcpStream) + Send + 'static) -> FakeRedis {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (accepted, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (accepted.clone(), stopped.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let mut stream = stream.expect("a connection");
                let mut ping = [0; 14];
                if stream.read_exact(&mut ping).is_ok() && stream.write_all(b"+PONG\r\n").is_ok() {
                    answer(&mut stream);
                }
            }
        });
        FakeRedis { port, accepted, stopped, thread: Some(thread) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections it has had.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Ends the accept.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}
