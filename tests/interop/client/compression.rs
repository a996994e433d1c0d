//! permessage-deflate: what was agreed on, and whether the bytes on the wire show it.

use threadbare::Message;

use crate::payload;
use crate::report::{Failure, Report, expect};
use crate::target::{Deflate, Target, comes_back, finish};

pub(crate) fn check(report: &mut Report, target: &Target) {
    report.check("extension", || extension(target));
    report.check("wire-text", || text(target));
    report.check("wire-repeated", || repeated(target));
}

fn extension(target: &Target) -> Result<(), Failure> {
    let client = target.connect("/echo")?;
    let agreed = client.response().header("Sec-WebSocket-Extensions");
    let as_told = match target.deflate {
        Deflate::Off => agreed.is_none(),
        Deflate::Alone => agreed
            .is_some_and(|value| value.contains("permessage-deflate") && value.contains("server_no_context_takeover")),
        Deflate::Takeover => {
            agreed.is_some_and(|value| value.contains("permessage-deflate") && !value.contains("no_context_takeover"))
        }
    };
    expect(as_told, || format!("Sec-WebSocket-Extensions is {agreed:?}"))?;
    finish(&client)
}

/// A text that compresses well takes few bytes, there and back.
fn text(target: &Target) -> Result<(), Failure> {
    let size = 1 << 20;
    let (sent, received) = on_the_wire(target, 1, &Message::Text(payload::text(size as usize)))?;
    let small = |bytes: u64| if target.deflate == Deflate::Off { bytes > size } else { bytes < size / 8 };
    expect(small(sent) && small(received), || format!("{sent} bytes sent, {received} received"))
}

/// Noise can not be compressed, but the same noise again can refer to the message before, where that was agreed on.
fn repeated(target: &Target) -> Result<(), Failure> {
    let size = 2048;
    let (sent, received) = on_the_wire(target, 10, &Message::Binary(payload::noise(size as usize)))?;
    let few = |bytes: u64| if target.deflate == Deflate::Takeover { bytes < 2 * size } else { bytes > 10 * size };
    expect(few(sent) && few(received), || format!("{sent} bytes sent, {received} received"))
}

/// What it costs to have a message sent back so many times.
fn on_the_wire(target: &Target, times: usize, message: &Message) -> Result<(u64, u64), Failure> {
    let client = target.connect("/echo")?;
    for _ in 0..times {
        comes_back(&client, message.clone())?;
    }
    finish(&client)?;
    let stats = client.stats();
    Ok((stats.bytes_sent, stats.bytes_received))
}
