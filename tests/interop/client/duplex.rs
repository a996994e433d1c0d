//! Both directions at full speed at once: one thread sends, another receives, and the server does both too.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use threadbare::{Client, Message};

use crate::numbered::{Numbered, Tally};
use crate::report::{Failure, Report, expect};
use crate::target::{PATIENCE, Target, finish, shown};

const SOCKET_BUFFER: usize = 128 << 10;

pub(crate) fn check(report: &mut Report, target: &Target, size: usize, duration: Duration) {
    report.check(&format!("duplex-{size}"), || duplex(target, size, duration));
}

/// What the receiving thread has seen.
struct Received {
    echoes: usize,
    own: usize,
    /// How often an echo followed a message of the server's own, or the other way round.
    turns: usize,
    /// What the server says at the end.
    told: Value,
}

fn duplex(target: &Target, size: usize, duration: Duration) -> Result<(), Failure> {
    let numbered = Numbered::new(size);
    // Small buffers, so that both directions are often full, and what is in flight at the end is soon through:
    // compressed, a mebibyte of small messages keeps the slowest server busy for ten seconds.
    let config = target.config().max_write_buffer_size((16 * size).clamp(64 << 10, 1 << 20));
    let builder = target.builder().config(config).socket_hook(|stream| {
        let socket = SockRef::from(stream);
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)
    });
    let client = builder.connect(&target.at(&format!("/duplex?size={size}")))?;
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&client, &numbered, duration));
        let received = receive(&client, &numbered);
        if received.is_err() {
            client.abort(); // a sender that waits for room is not to wait any longer
        }
        (sending.join(), received)
    });
    // The receiver's failure comes first: the sender's may follow from it.
    let received = received?;
    let sent = sent.map_err(|_| "the sending thread panicked")??;
    let Received { echoes, own, turns, told } = &received;
    let megabytes = |count: usize| (count * size) as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!(
        "   ({}: {sent} sent and back at {:.1} MB/s, {own} of the server's at {:.1} MB/s, {turns} turns)",
        target.at(&format!("/duplex {size}")),
        megabytes(sent),
        megabytes(*own),
    );

    let number = |name: &str| told[name].as_u64().map(|number| number as usize);
    expect(told["wrong"].is_null(), || format!("the server received {}", told["wrong"]))?;
    expect(number("received") == Some(sent), || format!("sent {sent}, and the server says {told}"))?;
    expect(*echoes == sent, || format!("sent {sent}, and {echoes} came back"))?;
    expect(number("sent") == Some(*own), || format!("{own} of the server's came, and it says {told}"))?;
    expect(number("pings") == number("pongs"), || format!("pings are unanswered: {told}"))?;
    let least = [sent, *own, *turns, number("pongs").unwrap_or_default()];
    expect(least.into_iter().all(|count| count >= 2), || format!("not at once: {sent} sent, {turns} turns, {told}"))?;
    finish(&client)
}

/// Sends as fast as it is taken; gives the number of messages.
fn send(client: &Client, numbered: &Numbered, duration: Duration) -> Result<usize, Failure> {
    let end = Instant::now() + duration;
    let mut count = 0;
    while Instant::now() < end {
        client.send_timeout(numbered.message('c', count), PATIENCE)?;
        count += 1;
    }
    client.send_timeout("end", PATIENCE)?;
    Ok(count)
}

fn receive(client: &Client, numbered: &Numbered) -> Result<Received, Failure> {
    let mut echoes = Tally::new(numbered, 'c');
    let mut own = Tally::new(numbered, 's');
    let (mut turns, mut last) = (0, b'c');
    loop {
        let message = client.recv_timeout(PATIENCE)?.ok_or("closed")?;
        let sender = message.as_bytes().first().copied().unwrap_or_default();
        turns += usize::from(sender != last);
        last = sender;
        match (sender, &message) {
            (b'c', _) => echoes.check(&message)?,
            (b's', _) => own.check(&message)?,
            (b'{', Message::Text(told)) => {
                let told = serde_json::from_str(told)?;
                return Ok(Received { echoes: echoes.count, own: own.count, turns, told });
            }
            _ => return Err(format!("not expected: {}", shown(&message)).into()),
        }
    }
}
