//! The opening handshake: headers, subprotocols, refusals.

use threadbare::{ConnectError, HandshakeError};

use crate::report::{Failure, Report, expect};
use crate::target::{Target, finish};

pub(crate) fn check(report: &mut Report, target: &Target) {
    report.check("header", || header(target));
    report.check("subprotocol", || subprotocol(target));
    report.check("refusal", || refusal(target));
}

fn header(target: &Target) -> Result<(), Failure> {
    let value = "one, two; three=\"4\"";
    let client = target.builder().header("X-Echo", value).connect(&target.at("/echo"))?;
    let answer = client.response().header("X-Echo");
    expect(answer == Some(value), || format!("X-Echo is {answer:?}"))?;
    expect(client.subprotocol().is_none(), || format!("the subprotocol is {:?}", client.subprotocol()))?;
    finish(&client)
}

fn subprotocol(target: &Target) -> Result<(), Failure> {
    let client = target.builder().subprotocols(["numbers.v3", "numbers.v2"]).connect(&target.at("/echo"))?;
    expect(client.subprotocol() == Some("numbers.v2"), || format!("it is {:?}", client.subprotocol()))?;
    finish(&client)
}

fn refusal(target: &Target) -> Result<(), Failure> {
    match target.connect("/refuse") {
        Err(ConnectError::Handshake { source: HandshakeError::Refused(refusal), .. }) => {
            let received = (refusal.status(), refusal.head().header("WWW-Authenticate"), refusal.body());
            expect(received == (401, Some("Bearer"), b"no entry without a pass"), || format!("{refusal}: {received:?}"))
        }
        other => Err(format!("not refused: {other:?}").into()),
    }
}
