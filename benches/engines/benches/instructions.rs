//! Counts the instructions of each engine for one block, with Callgrind. `.ci/instructions` runs this and compares.
#![allow(missing_docs, reason = "the macros make public items")]

use std::hint::black_box;

use gungraun::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use threadbare_engines::{
    Block, Blocking, Channel, Echo, Fastwebsockets, Handler, Tungstenite, TungsteniteSend, warmed_up,
};

fn engine<E: Echo>(payload: usize) -> E {
    warmed_up(&Block::of_64_kib(payload))
}

fn channel(batch: usize) -> Box<Channel> {
    Box::new(Channel::new(&Block::of_messages(batch, 32)))
}

// A returned value is dropped outside the measurement.

#[library_benchmark]
#[bench::of_16(args = (16), setup = engine::<Handler>)]
#[bench::of_32(args = (32), setup = engine::<Handler>)]
#[bench::of_125(args = (125), setup = engine::<Handler>)]
#[bench::of_1024(args = (1024), setup = engine::<Handler>)]
#[bench::of_16384(args = (16384), setup = engine::<Handler>)]
fn threadbare_handler(mut engine: Handler) -> Handler {
    black_box(&mut engine).echo();
    engine
}

#[library_benchmark]
#[bench::of_16(args = (16), setup = engine::<Blocking>)]
#[bench::of_32(args = (32), setup = engine::<Blocking>)]
#[bench::of_125(args = (125), setup = engine::<Blocking>)]
#[bench::of_1024(args = (1024), setup = engine::<Blocking>)]
#[bench::of_16384(args = (16384), setup = engine::<Blocking>)]
fn threadbare_blocking(mut engine: Blocking) -> Blocking {
    black_box(&mut engine).echo();
    engine
}

#[library_benchmark]
#[bench::batch_of_1(args = (1), setup = channel)]
#[bench::batch_of_8(args = (8), setup = channel)]
#[bench::batch_of_64(args = (64), setup = channel)]
fn threadbare_channel(mut channel: Box<Channel>) -> Box<Channel> {
    black_box(&mut *channel).deliver();
    channel
}

#[library_benchmark]
#[bench::of_16(args = (16), setup = engine::<Tungstenite>)]
#[bench::of_32(args = (32), setup = engine::<Tungstenite>)]
#[bench::of_125(args = (125), setup = engine::<Tungstenite>)]
#[bench::of_1024(args = (1024), setup = engine::<Tungstenite>)]
#[bench::of_16384(args = (16384), setup = engine::<Tungstenite>)]
fn tungstenite(mut engine: Tungstenite) -> Tungstenite {
    black_box(&mut engine).echo();
    engine
}

#[library_benchmark]
#[bench::of_16(args = (16), setup = engine::<TungsteniteSend>)]
#[bench::of_32(args = (32), setup = engine::<TungsteniteSend>)]
#[bench::of_125(args = (125), setup = engine::<TungsteniteSend>)]
#[bench::of_1024(args = (1024), setup = engine::<TungsteniteSend>)]
#[bench::of_16384(args = (16384), setup = engine::<TungsteniteSend>)]
fn tungstenite_send(mut engine: TungsteniteSend) -> TungsteniteSend {
    black_box(&mut engine).echo();
    engine
}

#[library_benchmark]
#[bench::of_16(args = (16), setup = engine::<Fastwebsockets>)]
#[bench::of_32(args = (32), setup = engine::<Fastwebsockets>)]
#[bench::of_125(args = (125), setup = engine::<Fastwebsockets>)]
#[bench::of_1024(args = (1024), setup = engine::<Fastwebsockets>)]
#[bench::of_16384(args = (16384), setup = engine::<Fastwebsockets>)]
fn fastwebsockets(mut engine: Fastwebsockets) -> Fastwebsockets {
    black_box(&mut engine).echo();
    engine
}

library_benchmark_group!(
    name = engines,
    benchmarks =
        [threadbare_handler, threadbare_blocking, threadbare_channel, tungstenite, tungstenite_send, fastwebsockets]
);

main!(
    // The C library chooses a memcpy by the processor. With these settings it is the same one everywhere.
    config = LibraryBenchmarkConfig::default()
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM"),
    library_benchmark_groups = engines
);
