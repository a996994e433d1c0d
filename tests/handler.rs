//! What a connection's handler is made of, and what it is told of the handshake.

mod common;

use common::{Client, Frame, text};
use threadbare::{MessageRef, Server, Socket};

#[test]
fn a_closure_is_a_handler_with_a_state_of_its_own_for_each_connection() {
    let server = Server::builder()
        .workers(1)
        .serve("127.0.0.1:0", |request| {
            let (path, mut count) = (request.path().to_owned(), 0);
            move |socket: &mut Socket<'_>, message: MessageRef<'_>| {
                count += 1;
                socket.send(format!("{path} {count} {message}"));
            }
        })
        .expect("a server");
    let mut clients = [Client::open(server.local_addr()), Client::open(server.local_addr())];
    for count in 1..=3 {
        for client in &mut clients {
            client.send(&text("hello"));
            assert_eq!(client.expect_frame(), Frame::text(&format!("/ {count} hello")));
        }
    }
}
