//! permessage-deflate: the negotiated parameters, and the number of bytes that are sent and received.

use threadbare::Message;

use crate::payload;
use crate::report::{Failure, Report, expect};
use crate::target::{Deflate, Target, expect_echo, finish};

pub(crate) fn check(report: &mut Report, target: &Target) {
    report.check("extension", || extension(target));
    report.check("wire-text", || text(target));
    report.check("wire-repeated", || repeated(target));
}

fn extension(target: &Target) -> Result<(), Failure> {
    let client = target.connect("/echo")?;
    let header = client.response().header("Sec-WebSocket-Extensions");
    let as_expected = match target.deflate {
        Deflate::Off => header.is_none(),
        Deflate::Alone => header
            .is_some_and(|value| value.contains("permessage-deflate") && value.contains("server_no_context_takeover")),
        Deflate::Takeover => {
            header.is_some_and(|value| value.contains("permessage-deflate") && !value.contains("no_context_takeover"))
        }
    };
    expect(as_expected, || format!("Sec-WebSocket-Extensions is {header:?}"))?;
    finish(&client)
}

/// A text that compresses well is few bytes long in both directions.
fn text(target: &Target) -> Result<(), Failure> {
    let size = 1 << 20;
    let (sent, received) = bytes_on_the_wire(target, 1, &Message::Text(payload::text(size as usize)))?;
    let small = |bytes: u64| if target.deflate == Deflate::Off { bytes > size } else { bytes < size / 8 };
    expect(small(sent) && small(received), || format!("{sent} bytes sent, {received} received"))
}

/// Noise does not compress. With context takeover the same noise is compressed when it is sent again.
fn repeated(target: &Target) -> Result<(), Failure> {
    let size = 2048;
    let (sent, received) = bytes_on_the_wire(target, 10, &Message::Binary(payload::noise(size as usize)))?;
    let few = |bytes: u64| if target.deflate == Deflate::Takeover { bytes < 2 * size } else { bytes > 10 * size };
    expect(few(sent) && few(received), || format!("{sent} bytes sent, {received} received"))
}

/// The bytes that are sent and received for `times` echoes of a message.
fn bytes_on_the_wire(target: &Target, times: usize, message: &Message) -> Result<(u64, u64), Failure> {
    let client = target.connect("/echo")?;
    for _ in 0..times {
        expect_echo(&client, message.clone())?;
    }
    finish(&client)?;
    let stats = client.stats();
    Ok((stats.bytes_sent, stats.bytes_received))
}
