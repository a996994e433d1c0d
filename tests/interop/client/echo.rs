//! Echoes of messages of every size and kind.

use threadbare::Message;

use crate::payload::{self, SIZES};
use crate::report::Report;
use crate::target::{Target, expect_echo, finish};

type Make = fn(usize) -> Message;

pub(crate) fn check(report: &mut Report, target: &Target) {
    let kinds: [(&str, Make); 3] = [
        ("text", |size| Message::Text(payload::text(size))),
        ("binary", |size| Message::Binary(payload::binary(size))),
        ("noise", |size| Message::Binary(payload::noise(size))),
    ];
    for (kind, message) in kinds {
        for size in SIZES {
            report.check(&format!("echo-{kind}-{size}"), || {
                let client = target.connect("/echo")?;
                expect_echo(&client, message(size))?;
                finish(&client)
            });
        }
    }
}
