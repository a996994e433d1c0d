//! The closing handshake, started by the client or the server, and the close reason that each of them receives.

use threadbare::{Client, ClientError, CloseCause, CloseCode, CloseReason};

use crate::report::{Failure, Report, expect};
use crate::target::{TIMEOUT, Target, expect_echo, expect_text, summary};

/// Codes and reasons. The third reason has the maximum length.
const CLOSES: [(u16, &str); 4] = [
    (1000, ""),
    (1001, "gone"),
    (
        3000,
        "a hundred and twenty-three bytes in all: \
         .................................................................................",
    ),
    (4999, "zu"),
];

pub(crate) fn check(report: &mut Report, target: &Target) {
    for (code, reason) in CLOSES {
        report.check(&format!("close-by-client-{code}"), || by_client(target, code, reason));
        report.check(&format!("close-by-server-{code}"), || by_server(target, code, reason));
    }
}

fn by_client(target: &Target, code: u16, reason: &str) -> Result<(), Failure> {
    let token = format!("by-client-{code}");
    let client = target.connect(&format!("/echo?token={token}"))?;
    expect_echo(&client, "before".into())?;
    client.close(CloseCode(code), reason)?;
    let closed = close_reason(&client)?;
    // The server answers with the code that it received; aiohttp always with 1000.
    let answered = closed.code.0 == code || closed.code == CloseCode::NORMAL_CLOSURE;
    expect(answered && closed.cause == CloseCause::Local, || format!("closed with {closed:?}"))?;
    expect_text(&target.connect(&format!("/end?token={token}"))?, &format!("{code} {reason}"))
}

fn by_server(target: &Target, code: u16, reason: &str) -> Result<(), Failure> {
    let token = format!("by-server-{code}");
    let encoded = reason.replace(' ', "+");
    let client = target.connect(&format!("/close?code={code}&reason={encoded}&token={token}"))?;
    expect_text(&client, "before")?;
    let closed = close_reason(&client)?;
    let expected = CloseReason::new(CloseCode(code), reason, CloseCause::Peer);
    expect(closed == expected, || format!("closed with {closed:?}"))?;
    // The answer has the same code. Its reason is not specified.
    let answer = target.connect(&format!("/end?token={token}"))?.recv_timeout(TIMEOUT)?.ok_or("closed")?;
    expect(answer.as_bytes().starts_with(format!("{code} ").as_bytes()), || format!("answered: {}", summary(&answer)))
}

/// Waits for the end of the connection.
fn close_reason(client: &Client) -> Result<CloseReason, Failure> {
    match client.recv_timeout(TIMEOUT) {
        Err(ClientError::Failed(reason)) => Ok(reason),
        Ok(None) => Ok(client.close_reason().cloned().ok_or("the close has no reason")?),
        Ok(Some(message)) => Err(format!("received {} instead of a close", summary(&message)).into()),
        Err(error) => Err(error.into()),
    }
}
