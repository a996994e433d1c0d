//! Pings of the server, between messages and between the fragments of a message.

use threadbare::Message;

use crate::payload;
use crate::report::Report;
use crate::target::{Target, expect_echo, expect_text, finish};

pub(crate) fn pings(report: &mut Report, target: &Target) {
    report.check("pings", || {
        let client = target.connect("/pings")?;
        expect_text(&client, "3 pongs")?;
        finish(&client)
    });
}

pub(crate) fn fragments(report: &mut Report, target: &Target) {
    // The first fragment ends inside a character: only the whole message must be UTF-8 (RFC 6455 5.6).
    let messages = [
        ("text", Message::Text(payload::text(70_000))),
        ("binary", Message::Binary(payload::binary(70_000))),
        ("noise", Message::Binary(payload::noise(70_000))),
    ];
    for (kind, message) in messages {
        report.check(&format!("fragments-{kind}"), || {
            let client = target.connect("/fragments")?;
            expect_echo(&client, message.clone())?;
            expect_echo(&client, message)?;
            finish(&client)
        });
    }
}
