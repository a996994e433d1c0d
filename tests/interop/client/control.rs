//! Pings of both ends, between messages and between the fragments of a message.

use std::io::{Read, Write};
use std::time::Instant;

use threadbare::{Client, Message, Receive, StreamOptions};

use crate::payload;
use crate::report::{Failure, Report, expect};
use crate::target::{TIMEOUT, Target, expect_echo, expect_text, finish, summary};

pub(crate) fn pings(report: &mut Report, target: &Target) {
    report.check("pings", || {
        let client = target.connect("/pings")?;
        expect_text(&client, "3 pongs")?;
        finish(&client)
    });
}

pub(crate) fn fragments(report: &mut Report, target: &Target) {
    // The first fragment ends inside a character: only the whole message must be UTF-8 (RFC 6455 5.6).
    for (kind, message) in messages() {
        report.check(&format!("fragments-{kind}"), || {
            let client = target.connect("/fragments")?;
            expect_echo(&client, message.clone())?;
            expect_echo(&client, message)?;
            finish(&client)
        });
    }
}

/// Sends fragments, the first of which may end inside a character, with a ping behind each.
pub(crate) fn parts(report: &mut Report, target: &Target) {
    for (kind, message) in messages() {
        report.check(&format!("parts-{kind}"), || {
            let client = target.connect("/fragments")?;
            let (bytes, mut writer) = (message.as_bytes(), client.writer(options(&message)));
            for part in [&bytes[..2], &bytes[2..500], &bytes[500..40_000], &bytes[40_000..]] {
                writer.write_all(part)?;
                writer.flush()?;
                client.ping(b"between")?;
            }
            writer.finish()?;
            let answer = client.recv_timeout(TIMEOUT)?.ok_or("closed")?;
            expect(answer == message, || format!("received {}", summary(&answer)))?;
            finish(&client)
        });
    }
}

/// Sends the second fragment when the first has come back.
pub(crate) fn streams(report: &mut Report, target: &Target) {
    for (kind, message) in messages() {
        report.check(&format!("stream-{kind}"), || {
            let config = target.config().receive(Receive::Fragments { max_size: None });
            let client = target.builder().config(config).connect(&target.at("/stream"))?;
            stream(&client, &message)?;
            stream(&client, &message)?;
            finish(&client)
        });
    }
}

fn stream(client: &Client, message: &Message) -> Result<(), Failure> {
    let bytes = message.as_bytes();
    // A text comes back up to the last whole character.
    let middle = (500..504).find(|at| message.as_text().is_none_or(|text| text.is_char_boundary(*at)));
    let (first, rest) = bytes.split_at(middle.ok_or("a character of more than four bytes")?);
    let mut writer = client.writer(options(message));
    writer.write_all(first)?;
    writer.flush()?;
    let mut reader = client.recv_reader_timeout(TIMEOUT)?.ok_or("closed")?;
    reader.set_deadline(Instant::now() + TIMEOUT);
    expect(reader.is_text() == message.is_text(), || "another type".to_owned())?;
    let mut received = vec![0; first.len()];
    reader.read_exact(&mut received)?;
    client.ping(b"between")?;
    writer.write_all(rest)?;
    writer.finish()?;
    reader.read_to_end(&mut received)?;
    expect(received == bytes, || format!("{} bytes of {} came back", received.len(), bytes.len()))
}

fn messages() -> [(&'static str, Message); 3] {
    [
        ("text", Message::Text(payload::text(70_000))),
        ("binary", Message::Binary(payload::binary(70_000))),
        ("noise", Message::Binary(payload::noise(70_000))),
    ]
}

fn options(message: &Message) -> StreamOptions {
    if message.is_text() { StreamOptions::text() } else { StreamOptions::binary() }
}
