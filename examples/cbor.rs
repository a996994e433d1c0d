//! Messages with types, in a format of the application's: here CBOR (RFC 8949). A server adds up orders, and a client sends some.
//!
//! ```sh
//! cargo run --release --example cbor
//! ```

use std::error::Error;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use threadbare::{Client, CloseCode, Codec, Message, MessageRef, Server, Socket};

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    article: String,
    count: u32,
    cents: u64,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Sum {
    orders: u32,
    cents: u64,
}

/// Values of any type, as the binary messages that CBOR makes of them.
struct Cbor;

impl<T: Serialize + DeserializeOwned> Codec<T> for Cbor {
    type Error = io::Error;

    fn encode(&self, value: &T) -> io::Result<Message> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(io::Error::other)?;
        Ok(Message::Binary(bytes))
    }

    fn decode(&self, message: MessageRef<'_>) -> io::Result<T> {
        // Its readers are io::Read, and no value has a length that is believed before it arrives.
        ciborium::from_reader(message.as_bytes()).map_err(io::Error::other)
    }
}

/// Answers each order with what its client has ordered so far.
fn serve(socket: &mut Socket<'_>, sum: &mut Sum, order: MessageRef<'_>) -> Result<(), Box<dyn Error>> {
    let order: Order = Cbor.decode(order)?;
    sum.orders += 1;
    sum.cents = sum.cents.saturating_add(order.cents.saturating_mul(order.count.into()));
    socket.send(Cbor.encode(sum)?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_request| {
        let mut sum = Sum { orders: 0, cents: 0 };
        move |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            if let Err(error) = serve(socket, &mut sum, message) {
                println!("{}: {error}", socket.addr());
                // It may be closing already.
                let _ = socket.close(CloseCode::UNSUPPORTED_DATA, "no order in CBOR");
            }
        }
    })?;

    let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    for (article, count, cents) in [("tea", 2, 350), ("cup", 1, 1_200)] {
        client.send(Cbor.encode(&Order { article: article.to_owned(), count, cents })?)?;
        let answer = client.recv()?.ok_or("the server has closed")?;
        let sum: Sum = Cbor.decode((&answer).into())?;
        println!("{count} x {article}: {} orders, {} cents", sum.orders, sum.cents);
    }
    client.send("no CBOR")?;
    while client.recv()?.is_some() {}
    println!("the server closes: {}", client.close_reason().ok_or("it is open")?);
    Ok(())
}
