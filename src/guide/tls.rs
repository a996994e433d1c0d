//! TLS: servers and clients of `wss://`, and their certificates. With the feature `rustls-tls` or one that includes it.
//!
//! # Which feature
//!
//! | feature | servers | clients |
//! | --- | --- | --- |
//! | `rustls-tls-native-roots` | yes | trust the issuers that the system trusts |
//! | `rustls-tls-webpki-roots` | yes | trust the issuers that Mozilla trusts, as of the version of the crate `webpki-roots` |
//! | `rustls-tls` | yes | trust whom the application names, with [`ClientTlsBuilder::root_file`] |
//! | `aws-lc-rs` | beside one of the others: cryptography of AWS in place of ring's | |
//!
//! Both sets of roots together are allowed. `rustls-tls-native-roots` suits a program on a system that somebody looks
//! after, and an authority that a company has installed there is trusted. `rustls-tls-webpki-roots` suits a container
//! without certificates. ring and aws-lc-rs need a C compiler for the build.
//!
//! TLS 1.2 and 1.3 are spoken, by rustls. The application protocol is `http/1.1` (ALPN, RFC 7301), because a WebSocket
//! begins as HTTP/1.1. Early data is off. Revocation of certificates is not looked up.
//!
//! # A server
//!
//! ```no_run
//! use threadbare::{MessageRef, Server, Socket, Tls};
//!
//! let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
//! let server = Server::builder().tls(tls).serve("0.0.0.0:443", |request| {
//!     if let Some(tls) = request.tls() {
//!         println!("{} by {} for {:?}", tls.version(), tls.cipher_suite(), tls.server_name());
//!     }
//!     |socket: &mut Socket<'_>, message: MessageRef<'_>| {
//!         socket.send(message);
//!     }
//! })?;
//! server.join();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * `chain.pem` has the server's own certificate first and then those of its issuers, up to the root, which may be left
//!   out. `certbot` calls this file `fullchain.pem`. A server that leaves out an intermediate certificate works with
//!   browsers that have met it elsewhere, and with no other client.
//! * `key.pem` has the private key in PKCS #8, PKCS #1 or SEC 1, and is not encrypted.
//! * **Take a certificate with an ECDSA key**, such as P-256. A handshake costs the server a seventh of what it costs with
//!   RSA 2048, and TLS handshakes are what a server of many short connections does most. `certbot` takes ECDSA by itself
//!   since version 2, and `certbot --key-type ecdsa` says so.
//! * The reactor does the handshakes, a few steps in each iteration. Established connections of other threads go on. With
//!   one worker, or an [`EventLoop`], the same thread does one step in each iteration: where many clients come at once, have
//!   two workers.
//! * [`handshake_timeout`](crate::Config::handshake_timeout) limits both handshakes together.
//! * Plain HTTP at the port of TLS is answered 400. [`Listener::tls`](crate::Listener::tls) has a server speak TLS at some of
//!   its addresses only, such as `0.0.0.0:443`, and none at `127.0.0.1:8080`.
//! * [`Request::tls`] says what was agreed on, in the hooks and in [`Event::Open`].
//!
//! One server may have several names, each with a certificate of its own. The client says which it wants (SNI, RFC 6066 3):
//!
//! ```no_run
//! use threadbare::{Server, Tls};
//!
//! let tls = Tls::builder()
//!     .host_files("chat.example.com", "chat.pem", "chat.key")
//!     .host_files("*.example.org", "wildcard.pem", "wildcard.key")
//!     .default_files("other.pem", "other.key") // for clients that name another host, or an address
//!     .build()?;
//! let server = Server::builder().tls(tls).bind("0.0.0.0:443")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Renewing certificates
//!
//! [`Tls::reload`] reads the files again. Handshakes from then on see the new certificates, and established connections go
//! on. After an error everything stays as it was, so that a file which is half written does no harm. All clones of a
//! [`Tls`] are one: keep one, and give the other to the server.
//!
//! The simplest is a timer. It needs nothing from the program that renews, and reading the same files again costs little:
//!
//! ```no_run
//! use std::time::Duration;
//! use threadbare::{Server, Tls};
//!
//! let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
//! let server = Server::builder().tls(tls.clone()).bind("0.0.0.0:443")?;
//! std::thread::spawn(move || {
//!     loop {
//!         std::thread::sleep(Duration::from_secs(60 * 60));
//!         if let Err(error) = tls.reload() {
//!             eprintln!("the certificate was not read again: {error}"); // the old one stays
//!         }
//!     }
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Or at SIGHUP, with the crate `signal-hook`. `certbot renew --deploy-hook 'pkill -HUP -x my-server'` sends it:
//!
//! ```no_run
//! # mod signal_hook { pub mod consts { pub const SIGHUP: i32 = 1; } pub mod iterator { pub struct Signals;
//! # impl Signals { pub fn new(_: [i32; 1]) -> std::io::Result<Signals> { Ok(Signals) }
//! # pub fn forever(&mut self) -> std::iter::Empty<i32> { std::iter::empty() } } } }
//! use signal_hook::{consts::SIGHUP, iterator::Signals};
//! use threadbare::{Server, Tls};
//!
//! let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
//! let server = Server::builder().tls(tls.clone()).bind("0.0.0.0:443")?;
//! let mut signals = Signals::new([SIGHUP])?;
//! std::thread::spawn(move || {
//!     for _ in signals.forever() {
//!         match tls.reload() {
//!             Ok(()) => println!("the certificate was read again"),
//!             Err(error) => eprintln!("the certificate was not read again: {error}"), // the old one stays
//!         }
//!     }
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A certificate that does not come from a file is replaced with [`Tls::replace`].
//!
//! # Clients with certificates
//!
//! A server may ask each client for a certificate, and refuses in the handshake of TLS those that have none of an issuer
//! which it was given. [`Request::tls`] has the certificate, for a hook that decides what its holder may do:
//!
//! ```no_run
//! use threadbare::{Accept, Response, Server, Tls};
//!
//! let tls = Tls::builder().default_files("chain.pem", "key.pem").client_roots_file("our-clients-ca.pem").build()?;
//! let server = Server::builder()
//!     .tls(tls)
//!     .on_request(|request| {
//!         // In DER. It was verified; a crate such as `x509-parser` reads the names in it.
//!         match request.tls().and_then(|tls| tls.certificates().next()) {
//!             Some(certificate) => Ok(Accept::new().data(certificate.to_vec())),
//!             None => Err(Response::new(403)),
//!         }
//!     })
//!     .bind("0.0.0.0:443")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```no_run
//! use threadbare::{Client, ClientTls};
//!
//! let tls = ClientTls::builder().certificate_files("device-7.pem", "device-7.key").build()?;
//! let client = Client::builder().tls(tls).connect("wss://devices.example.com/")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In TLS 1.3 a server verifies the client's certificate when the client has already finished its handshake. The client
//! learns of a refusal while it waits for the answer to its opening handshake, and the error is the same as in TLS 1.2:
//! [`ConnectError::Tls`] with [`TlsError::CertificateRequired`] or [`TlsError::Alert`].
//!
//! # A client
//!
//! With one of the features that bring roots, `wss://` needs no setting. A client of one's own authority does:
//!
//! ```no_run
//! use threadbare::{Client, ClientTls};
//!
//! let tls = ClientTls::builder()
//!     .root_file("our-own-ca.pem")
//!     .no_default_roots() // trust nobody else
//!     .build()?;
//! let builder = Client::builder().tls(tls);
//! let client = builder.connect("wss://build.intern.example.com/")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Make one [`ClientTls`] and use it for all connections: it has read the roots, and knows the tickets with which a client
//! comes back quickly. A [`ReconnectingClient`](crate::ReconnectingClient) and a [`ClientPool`](crate::ClientPool) take it
//! from the same builder.
//!
//! What goes wrong is [`ConnectError::Tls`], and says what to do:
//!
//! | [`TlsError`] | mostly |
//! | --- | --- |
//! | `UnknownIssuer` | the issuer is your own: `root_file`. Or the server leaves out an intermediate certificate |
//! | `WrongName` | the URL has another name or an address. The error has the names that the certificate has; [`server_name`](crate::ClientTlsBuilder::server_name) asks for one of them |
//! | `Expired`, `NotYetValid` | the server's certificate, or the clock of this system |
//! | `Certificate` | the certificate is wrong in another way, which the text says: revoked, or not for a server |
//! | `NotTls` | the port is one of `ws://` |
//! | `NoSharedVersion`, `NoSharedCipher` | the server is older than TLS 1.2 |
//! | `NoSharedProtocol` | the server speaks HTTP/2 alone at that port |
//! | `CertificateRequired`, `Alert` | the server wants a certificate of the client, or refuses the one it has |
//! | `Protocol` | something between the two changes what they send |
//! | `Unavailable` | the build has no feature of TLS |
//! | `Setup` | a file can not be used, or no roots are there |
//!
//! Through an HTTP proxy (CONNECT) or SOCKS5 the client does TLS with the server, and the proxy sees none of it.
//!
//! # Certificates for development
//!
//! One line makes a certificate for this machine that is its own issuer:
//!
//! ```sh
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
//!     -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
//!     -keyout key.pem -out cert.pem
//! ```
//!
//! The names must be in `subjectAltName`: nobody reads `CN` any more. Without `CA:FALSE` openssl makes an authority, which
//! rustls does not take as a server. Then, in a clone of the library:
//!
//! ```sh
//! cargo run --release --features rustls-tls-webpki-roots --example echo -- --cert cert.pem --key key.pem
//! cargo run --release --features rustls-tls-webpki-roots --example client -- wss://localhost:8080 --ca cert.pem
//! ```
//!
//! A browser warns of such a certificate, and lets a WebSocket through once the warning on a page of the same host and port
//! was clicked away. Tests make theirs with the crate `rcgen`, at every run. A client that accepts anything
//! ([`danger_accept_any_certificate`](crate::ClientTlsBuilder::danger_accept_any_certificate)) is seldom needed: give it
//! the certificate as a root.
//!
//! # Behind a proxy that ends TLS
//!
//! The server then speaks `ws://` and needs no feature; the [recipes](crate::guide::recipes) have the configurations. Its
//! address must be one that only the proxy can reach. A proxy in front may also pass TLS through, or speak TLS to the
//! server: `proxy_pass https://...` of nginx, `ssl verify required ca-file ca.pem` behind a `server` of HAProxy.
//!
//! [`ClientTls`]: crate::ClientTls
//! [`ClientTlsBuilder::root_file`]: crate::ClientTlsBuilder::root_file
//! [`ConnectError::Tls`]: crate::ConnectError::Tls
//! [`Event::Open`]: crate::Event::Open
//! [`EventLoop`]: crate::EventLoop
//! [`Request::tls`]: crate::Request::tls
//! [`Tls`]: crate::Tls
//! [`Tls::reload`]: crate::Tls::reload
//! [`Tls::replace`]: crate::Tls::replace
//! [`TlsError`]: crate::TlsError
//! [`TlsError::Alert`]: crate::TlsError::Alert
//! [`TlsError::CertificateRequired`]: crate::TlsError::CertificateRequired
