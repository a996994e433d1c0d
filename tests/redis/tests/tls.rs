//! The bridge over TLS.

use std::{env, fs, net, process};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use threadbare::{ClientTls, Redis};
use threadbare_redis_tests::{Node, RedisServer, eventually};

fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    (cert.pem(), signing_key.serialize_pem())
}

fn trusting(root: &str) -> ClientTls {
    ClientTls::builder().root_pem(root).no_default_roots().build().expect("a root")
}

#[test]
fn rediss_is_tls_with_a_certificate_that_is_verified() {
    let directory = env::temp_dir().join(format!("threadbare-redis-tls-{}", process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let (root, key) = certificate();
    let file = |name: &str, pem: &str| {
        fs::write(directory.join(name), pem).expect("a file");
        directory.join(name).display().to_string()
    };
    let (cert_file, key_file) = (file("cert.pem", &root), file("key.pem", &key));
    let port = net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let server = RedisServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &cert_file,
        "--tls-key-file",
        &key_file,
        "--tls-ca-cert-file",
        &cert_file,
        "--tls-auth-clients",
        "no",
    ]);
    let bridge = |root: &str| Redis::new(&format!("rediss://127.0.0.1:{port}")).expect("a URL").tls(trusting(root));
    let (from, to) = (Node::connected(bridge(&root), &[]), Node::connected(bridge(&root), &["t"]));
    let plain = Node::connected(Redis::new(&server.url()).expect("a URL"), &["t"]);
    for number in 0..5_000 {
        assert!(from.publish("t", number));
    }
    for node in [&to, &plain] {
        node.until_number("t", 4_999);
        assert!(node.numbers("t").into_iter().eq(0..5_000));
    }
    let stranger = Node::start(bridge(&certificate().0), &["t"]);
    assert!(from.publish("t", 5_000));
    eventually("all hear it", || [&to, &plain].iter().all(|node| node.numbers("t").last() == Some(&5_000)));
    assert!(!stranger.stats().connected && stranger.heard().is_empty());
    fs::remove_dir_all(&directory).expect("it was there");
}
