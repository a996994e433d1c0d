//! Each engine echoes a block of 64 KiB of masked text frames. Items are messages.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, bench};
use threadbare_engines::{
    Block, Blocking, Channel, Echo, Fastwebsockets, Handler, Tungstenite, TungsteniteSend, warmed_up,
};

const PAYLOADS: [usize; 5] = [16, 32, 125, 1024, 16384];

fn main() {
    divan::main();
}

#[bench(types = [Handler, Blocking, Tungstenite, TungsteniteSend, Fastwebsockets], args = PAYLOADS)]
fn echo<E: Echo>(bencher: Bencher<'_, '_>, payload: usize) {
    let block = Block::of_64_kib(payload);
    let mut engine = warmed_up::<E>(&block);
    bencher
        .counter(ItemsCount::new(block.messages))
        .counter(BytesCount::new(block.messages * payload))
        .bench_local(|| engine.echo());
}

/// From the worker's buffer to owned messages that the application has taken, on one thread.
#[bench(args = [1, 8, 64])]
fn deliver(bencher: Bencher<'_, '_>, batch: usize) {
    let block = Block::of_messages(batch, 32);
    let mut channel = Channel::new(&block);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| channel.deliver());
}

/// The same to another thread, which sleeps while the channel is empty: 4,096 messages in batches.
#[bench(args = [1, 8, 64])]
fn deliver_to_thread(bencher: Bencher<'_, '_>, batch: usize) {
    const MESSAGES: usize = 4096;
    let block = Block::of_messages(batch, 32);
    let mut channel = Channel::new(&block);
    let events = channel.events();
    let (done, finished) = std::sync::mpsc::channel();
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
        finished.recv().expect("the application's thread");
    });
    // Dropping the worker ends the receiver's loop.
    drop(channel);
    application.join().expect("every message arrived");
}
