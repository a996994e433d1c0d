//! Pings of the server, by themselves and between the fragments of its messages.

use threadbare::Message;

use crate::payload;
use crate::report::Report;
use crate::target::{Target, comes_back, finish, says};

pub(crate) fn pings(report: &mut Report, target: &Target) {
    report.check("pings", || {
        let client = target.connect("/pings")?;
        says(&client, "3 pongs")?;
        finish(&client)
    });
}

pub(crate) fn fragments(report: &mut Report, target: &Target) {
    // The first cut falls inside a character: only the whole message has to be UTF-8 (RFC 6455 5.6).
    let messages = [
        ("text", Message::Text(payload::text(70_000))),
        ("binary", Message::Binary(payload::binary(70_000))),
        ("noise", Message::Binary(payload::noise(70_000))),
    ];
    for (kind, message) in messages {
        report.check(&format!("fragments-{kind}"), || {
            let client = target.connect("/fragments")?;
            comes_back(&client, message.clone())?;
            comes_back(&client, message)?;
            finish(&client)
        });
    }
}
