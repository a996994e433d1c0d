//! A server that publishes each message to all connections, and goes on with those that do not read.

use std::error::Error;
use std::time::Duration;

use threadbare::{Config, Handler, MessageRef, OriginPolicy, Server, Slow, Socket, TopicConfig};

const TOPIC: &str = "everyone";

/// Longer than any measurement: a subscriber that reads nothing is to stay.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

struct Everyone;

impl Handler for Everyone {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket.subscribe(TOPIC); // the name is valid, and the connection is open
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.publish(TOPIC, message);
    }
}

pub(crate) fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let config = Config::default().ping_interval(None).write_timeout(FOREVER);
    let builder = Server::builder().workers(1).origins(OriginPolicy::Any).config(config);
    let builder = builder.topics(|_| TopicConfig::default().slow(Slow::Skip));
    builder.serve(addr, |_request| Everyone)?.join();
    Ok(())
}
