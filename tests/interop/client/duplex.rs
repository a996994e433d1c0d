//! Full duplex: one thread sends and another one receives at full speed, and the server does the same.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use threadbare::{Client, Message};

use crate::numbered::{Numbered, SequenceCheck};
use crate::report::{Failure, Report, expect};
use crate::target::{TIMEOUT, Target, finish, summary};

const SOCKET_BUFFER: usize = 128 << 10;

pub(crate) fn check(report: &mut Report, target: &Target, size: usize, duration: Duration) {
    report.check(&format!("duplex-{size}"), || duplex(target, size, duration));
}

/// What the receiving thread received.
struct Received {
    echoes: usize,
    own: usize,
    /// How often an echo followed one of the server's own messages, or the reverse.
    alternations: usize,
    /// The counts that the server sends at the end.
    counts: Value,
}

fn duplex(target: &Target, size: usize, duration: Duration) -> Result<(), Failure> {
    let numbered = Numbered::new(size);
    // With small buffers both directions are often full, and little is in flight at the end. The slowest server needs ten
    // seconds for a mebibyte of small compressed messages.
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
            client.abort(); // the sender may wait for room
        }
        (sending.join(), received)
    });
    // The receiver's failure is reported first: it may be the cause of the sender's.
    let received = received?;
    let sent = sent.map_err(|_| "the sending thread panicked")??;
    let Received { echoes, own, alternations, counts } = &received;
    let megabytes = |count: usize| (count * size) as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!(
        "   ({}: {sent} echoed at {:.1} MB/s, {own} of the server at {:.1} MB/s, {alternations} alternations)",
        target.at(&format!("/duplex {size}")),
        megabytes(sent),
        megabytes(*own),
    );

    let number = |name: &str| counts[name].as_u64().map(|number| number as usize);
    expect(counts["wrong"].is_null(), || format!("the server received {}", counts["wrong"]))?;
    expect(number("received") == Some(sent), || format!("sent {sent}, and the server received {counts}"))?;
    expect(*echoes == sent, || format!("sent {sent}, and {echoes} were echoed"))?;
    expect(number("sent") == Some(*own), || format!("received {own}, and the server sent {counts}"))?;
    expect(number("pings") == number("pongs"), || format!("pings are not answered: {counts}"))?;
    let least = [sent, *own, *alternations, number("pongs").unwrap_or_default()];
    let full_duplex = least.into_iter().all(|count| count >= 2);
    expect(full_duplex, || format!("not at once: {sent} sent, {alternations} alternations, {counts}"))?;
    finish(&client)
}

/// Sends as fast as possible for `duration`, and returns the number of messages.
fn send(client: &Client, numbered: &Numbered, duration: Duration) -> Result<usize, Failure> {
    let end = Instant::now() + duration;
    let mut count = 0;
    while Instant::now() < end {
        client.send_timeout(numbered.message('c', count), TIMEOUT)?;
        count += 1;
    }
    client.send_timeout("end", TIMEOUT)?;
    Ok(count)
}

fn receive(client: &Client, numbered: &Numbered) -> Result<Received, Failure> {
    let mut echoes = SequenceCheck::new(numbered, 'c');
    let mut own = SequenceCheck::new(numbered, 's');
    let (mut alternations, mut last) = (0, b'c');
    loop {
        let message = client.recv_timeout(TIMEOUT)?.ok_or("closed")?;
        let sender = message.as_bytes().first().copied().unwrap_or_default();
        alternations += usize::from(sender != last);
        last = sender;
        match (sender, &message) {
            (b'c', _) => echoes.check(&message)?,
            (b's', _) => own.check(&message)?,
            (b'{', Message::Text(json)) => {
                let counts = serde_json::from_str(json)?;
                return Ok(Received { echoes: echoes.count, own: own.count, alternations, counts });
            }
            _ => return Err(format!("unexpected message: {}", summary(&message)).into()),
        }
    }
}
