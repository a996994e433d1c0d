//! What is no Redis, and what no bridge has published.

use std::io::{Read, Write};
use std::net::TcpStream;

use threadbare::Redis;
use threadbare_redis_tests::{FakeRedis, Node, RedisServer, eventually};

fn bridge(url: &str) -> Redis {
    Redis::new(url).expect("a URL")
}

/// Reads until the other side closes.
fn drain(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn r_16_garbage_closes_the_connection_and_is_counted() {
    let answers: [&[u8]; 12] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\0\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$99999999999\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$5\r\nnever\r\n:1\r\n",
        b"*99999999\r\n$7\r\nmessage\r\n",
        b"$-5x\r\n",
        b":99999999999999999999\r\n",
        b"*3\r\n*3\r\n*3\r\n*3\r\n",
        &[b'+'; 5000],
        b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$3\r\nabcdef",
        b"*3\r\n$7\r\nmessage\r\n:1\r\n",
        b"+OK\r\n",
    ];
    for answer in answers {
        let fake = FakeRedis::start(move |stream| {
            let _ = stream.write_all(answer);
            drain(stream);
        });
        let node = Node::start(bridge(&fake.url()), &["t"]);
        eventually("garbage is counted", || node.stats().garbage > 0);
        eventually("it is tried again", || fake.accepted() > 2);
        assert_eq!(node.stats().received, 0);
    }
}

#[test]
fn r_16_garbage_to_a_reader_of_streams_is_counted_too() {
    let answers: [&[u8]; 5] = [
        b"+OK\r\n",
        b":1\r\n*5\r\n",
        b":1\r\n*1\r\n*2\r\n$3\r\nx-y\r\n*2\r\n",
        b":1\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$99999999999\r\n",
        b":1\r\n*0\r\n*1\r\n*3\r\n",
    ];
    for answer in answers {
        let fake = FakeRedis::start(move |stream| {
            let mut stream = stream.try_clone().expect("a descriptor");
            // The second connection is accepted while the first is open.
            std::thread::spawn(move || {
                let _ = stream.write_all(answer);
                drain(&mut stream);
            });
        });
        let node = Node::start(bridge(&fake.url()).streams(100), &["t"]);
        eventually("garbage is counted", || node.stats().garbage > 0);
        assert_eq!(node.stats().received, 0);
    }
}

/// The bytes that are announced are never reserved, and those that come without an end are not kept.
#[test]
fn r_16_a_reply_without_an_end_takes_bounded_memory() {
    let fake = FakeRedis::start(|stream| {
        let _ = stream.write_all(b"*3\r\n$7\r\nmessage\r\n$9\r\n");
        let endless = [b'x'; 64 << 10];
        let mut sent = 0_u64;
        while stream.write_all(&endless).is_ok() {
            sent += endless.len() as u64;
            assert!(sent < 64 << 20, "the bridge reads on");
        }
    });
    let node = Node::start(bridge(&fake.url()), &["t"]);
    eventually("the connection is given up", || fake.accepted() > 2);
    assert!(node.stats().garbage > 0);
}

#[test]
fn r_16_a_connection_that_breaks_within_a_reply_is_made_again() {
    let fake = FakeRedis::start(|stream| {
        let _ = stream.write_all(b"$500\r\nhalf");
    });
    let node = Node::start(bridge(&fake.url()), &["t"]);
    eventually("it is tried again", || node.stats().reconnects > 2);
    assert_eq!((node.stats().garbage, node.stats().received), (0, 0));
}

#[test]
fn what_other_programs_publish_is_counted_and_dropped() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server.url()), &[]), Node::connected(bridge(&server.url()), &["t"]));
    server.command("PUBLISH t hello");
    server.command("PUBLISH t 0123456789012345678901234567890");
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
    assert_eq!((to.stats().garbage, to.stats().reconnects, to.heard().len()), (2, 0, 1));
}

#[test]
fn a_message_that_redis_refuses_is_counted_and_the_next_one_goes_through() {
    let server = RedisServer::start(&[]);
    server.command("ACL SETUSER few on nopass resetchannels &ok +@all");
    let url = server.url().replace("redis://", "redis://few:x@");
    let (from, to) = (Node::connected(bridge(&url), &[]), Node::connected(bridge(&server.url()), &["ok", "no"]));
    assert!(from.publish("no", 1));
    assert!(from.publish("ok", 2));
    to.until_number("ok", 2);
    eventually("both are answered", || from.stats().queued_bytes == 0);
    let stats = from.stats();
    assert_eq!((stats.rejected, stats.sent, stats.reconnects), (1, 1, 0));
    assert_eq!(to.heard().len(), 1);
}
