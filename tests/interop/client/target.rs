//! The server, and how to connect to it.

use std::time::Duration;

use threadbare::{Client, ClientBuilder, Config, ConnectError, DeflateConfig, Message};

use crate::report::{Failure, expect};

/// How long anything may take. It ends a check that hangs, and is not to be met.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const MAX_MESSAGE: usize = 16 << 20;

/// What the server was told of permessage-deflate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deflate {
    Off,
    /// Each message is compressed by itself.
    Alone,
    /// Messages refer to the ones before.
    Takeover,
}

impl Deflate {
    pub(crate) fn parse(text: &str) -> Result<Deflate, &'static str> {
        match text {
            "off" => Ok(Deflate::Off),
            "alone" => Ok(Deflate::Alone),
            "takeover" => Ok(Deflate::Takeover),
            _ => Err("off, alone or takeover"),
        }
    }
}

pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) deflate: Deflate,
}

impl Target {
    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder().no_proxy().config(self.config())
    }

    /// The compression is what the server was told. It is offered to one without too, which then declines it.
    pub(crate) fn config(&self) -> Config {
        let alone = self.deflate == Deflate::Alone;
        // Even the smallest messages are compressed.
        let deflate =
            DeflateConfig::default().server_no_context_takeover(alone).client_no_context_takeover(alone).threshold(0);
        Config::default().max_message_size(MAX_MESSAGE).deflate(deflate)
    }

    pub(crate) fn connect(&self, path: &str) -> Result<Client, ConnectError> {
        self.builder().connect(&self.at(path))
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

/// Sends a message and compares what comes back, kind and bytes.
pub(crate) fn comes_back(client: &Client, message: Message) -> Result<(), Failure> {
    client.send_timeout(message.clone(), PATIENCE)?;
    let answer = client.recv_timeout(PATIENCE)?.ok_or("closed")?;
    expect(answer == message, || format!("sent {}, and back came {}", shown(&message), shown(&answer)))
}

/// Closes, and looks whether that was done in order.
pub(crate) fn finish(client: &Client) -> Result<(), Failure> {
    let reason = client.finish(PATIENCE)?;
    expect(reason.is_clean() && reason.code.0 == 1000, || format!("not closed in order: {reason:?}"))
}

/// The next message, which has to be this text.
pub(crate) fn says(client: &Client, wanted: &str) -> Result<(), Failure> {
    let message = client.recv_timeout(PATIENCE)?.ok_or("closed")?;
    expect(message == Message::from(wanted), || format!("wanted {wanted:?}, and {} came", shown(&message)))
}

/// A message for people: not megabytes.
pub(crate) fn shown(message: &Message) -> String {
    let start: String = format!("{message:?}").chars().take(60).collect();
    format!("{} bytes, {start}", message.len())
}
