//! Has the random traffic of ../stress run over TLS.

fn main() {
    println!("cargo::rustc-cfg=threadbare_tls_tests");
}
