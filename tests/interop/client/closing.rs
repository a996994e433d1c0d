//! The closing handshake, from either side, and what each side is told.

use threadbare::{Client, ClientError, CloseCause, CloseCode, CloseReason};

use crate::report::{Failure, Report, expect};
use crate::target::{PATIENCE, Target, comes_back, says, shown};

/// The third is as long as a control frame lets it be.
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
    comes_back(&client, "before".into())?;
    client.close(CloseCode(code), reason)?;
    let ended = end(&client)?;
    // The code is that of the server's answer: the one it was sent, or as aiohttp has it always 1000.
    let answered = ended.code.0 == code || ended.code == CloseCode::NORMAL_CLOSURE;
    expect(answered && ended.cause == CloseCause::Local, || format!("closed with {ended:?}"))?;
    says(&target.connect(&format!("/end?token={token}"))?, &format!("{code} {reason}"))
}

fn by_server(target: &Target, code: u16, reason: &str) -> Result<(), Failure> {
    let token = format!("by-server-{code}");
    let encoded = reason.replace(' ', "+");
    let client = target.connect(&format!("/close?code={code}&reason={encoded}&token={token}"))?;
    says(&client, "before")?;
    let ended = end(&client)?;
    expect(ended == CloseReason::new(CloseCode(code), reason, CloseCause::Peer), || format!("closed with {ended:?}"))?;
    // What reason an answer has is up to the one who answers.
    let told = target.connect(&format!("/end?token={token}"))?.recv_timeout(PATIENCE)?.ok_or("closed")?;
    expect(told.as_bytes().starts_with(format!("{code} ").as_bytes()), || format!("answered: {}", shown(&told)))
}

fn end(client: &Client) -> Result<CloseReason, Failure> {
    match client.recv_timeout(PATIENCE) {
        Err(ClientError::Failed(reason)) => Ok(reason),
        Ok(None) => Ok(client.close_reason().cloned().ok_or("the close has no reason")?),
        Ok(Some(message)) => Err(format!("instead of the end came {}", shown(&message)).into()),
        Err(error) => Err(error.into()),
    }
}
