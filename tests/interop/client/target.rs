//! The server, and how to connect to it.

use std::time::Duration;

use threadbare::{Client, ClientBuilder, Config, ConnectError, DeflateConfig, Message};

use crate::report::{Failure, expect};

/// The timeout of every call. Only a check that fails waits this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

const MAX_MESSAGE: usize = 16 << 20;

/// The server's setting of permessage-deflate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deflate {
    Off,
    /// Without context takeover.
    Alone,
    /// With context takeover.
    Takeover,
}

impl Deflate {
    pub(crate) fn parse(text: &str) -> Result<Deflate, &'static str> {
        match text {
            "off" => Ok(Deflate::Off),
            "alone" => Ok(Deflate::Alone),
            "takeover" => Ok(Deflate::Takeover),
            _ => Err("expected off, alone or takeover"),
        }
    }
}

pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) deflate: Deflate,
    /// Whom it trusts.
    pub(crate) builder: ClientBuilder,
}

impl Target {
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.builder.clone().config(self.config())
    }

    /// The client offers compression in every mode. A server without compression declines it.
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

/// Sends a message, and compares the type and the payload of the echo.
pub(crate) fn expect_echo(client: &Client, message: Message) -> Result<(), Failure> {
    client.send_timeout(message.clone(), TIMEOUT)?;
    let answer = client.recv_timeout(TIMEOUT)?.ok_or("closed")?;
    expect(answer == message, || format!("sent {}, received {}", summary(&message), summary(&answer)))
}

/// Closes the connection, and checks that the close was clean.
pub(crate) fn finish(client: &Client) -> Result<(), Failure> {
    let reason = client.finish(TIMEOUT)?;
    expect(reason.is_clean() && reason.code.0 == 1000, || format!("not a clean close: {reason:?}"))
}

/// Receives a message, which must be this text.
pub(crate) fn expect_text(client: &Client, wanted: &str) -> Result<(), Failure> {
    let message = client.recv_timeout(TIMEOUT)?.ok_or("closed")?;
    expect(message == Message::from(wanted), || format!("expected {wanted:?}, received {}", summary(&message)))
}

/// The length and the beginning of a message, for an error.
pub(crate) fn summary(message: &Message) -> String {
    let start: String = format!("{message:?}").chars().take(60).collect();
    format!("{} bytes, {start}", message.len())
}
