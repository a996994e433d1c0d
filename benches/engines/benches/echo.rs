//! A block of 64 KiB of masked text frames through each engine. Items are messages.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, bench};
use threadbare_engines::{
    Block, Blocking, Channel, Echo, Fastwebsockets, Handler, Tungstenite, TungsteniteSend, ready,
};

const PAYLOADS: [usize; 5] = [16, 32, 125, 1024, 16384];

fn main() {
    divan::main();
}

#[bench(types = [Handler, Blocking, Tungstenite, TungsteniteSend, Fastwebsockets], args = PAYLOADS)]
fn echo<E: Echo>(bencher: Bencher<'_, '_>, payload: usize) {
    let block = Block::of_64_kib(payload);
    let mut engine = ready::<E>(&block);
    bencher
        .counter(ItemsCount::new(block.messages))
        .counter(BytesCount::new(block.messages * payload))
        .bench_local(|| engine.echo());
}

/// From the worker's buffer to owned messages in the application's hands, on one thread.
#[bench(args = [1, 8, 64])]
fn hand_over(bencher: Bencher<'_, '_>, batch: usize) {
    let block = Block::of_messages(batch, 32);
    let mut channel = Channel::new(&block);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| channel.hand_over());
}

/// The same to another thread, which sleeps when there is nothing: 4,096 messages in batches.
#[bench(args = [1, 8, 64])]
fn hand_over_across(bencher: Bencher<'_, '_>, batch: usize) {
    const MESSAGES: usize = 4096;
    let block = Block::of_messages(batch, 32);
    let mut channel = Channel::new(&block);
    let events = channel.events();
    let (done, ends) = std::sync::mpsc::channel();
    let application = std::thread::spawn(move || {
        let mut messages = 0;
        for event in &events {
            drop(event);
            messages += 1;
            if messages % MESSAGES == 0 && done.send(()).is_err() {
                return;
            }
        }
    });
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        for _ in 0..MESSAGES / batch {
            channel.serve();
        }
        ends.recv().expect("the application's thread");
    });
    // The receiver sees the end when the worker goes.
    drop(channel);
    application.join().expect("every message arrived");
}
