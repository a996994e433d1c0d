//! The heads of requests and responses, the headers of proxies, and URLs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use threadbare::protocol::handshake::client::{self, ClientRequest, Url};
use threadbare::protocol::handshake::server::{self, Parsed};
use threadbare::protocol::handshake::{Accept, OriginPolicy};
use threadbare::protocol::http::{HeadLimits, HeadScanner, ResponseReader};
use threadbare::protocol::proxy_header::ProxyHeader;
use threadbare::{DeflateConfig, PeerAddr, Trusted};

/// Small, so that inputs reach them.
fn limits() -> HeadLimits {
    let mut limits = HeadLimits::default();
    limits.max_head_size = 600;
    limits.max_headers = 12;
    limits
}

/// Where a head ends says the scanner, wherever it was stopped before.
fn request(bytes: &[u8], step: usize) {
    let whole = HeadScanner::new(limits()).scan(bytes);
    let mut scanner = HeadScanner::new(limits());
    let mut stepwise = Ok(None);
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        stepwise = scanner.scan(&bytes[..end]);
        if !matches!(stepwise, Ok(None)) {
            break;
        }
    }
    assert_eq!(stepwise, whole);
    let Ok(Some(size)) = whole else { return };
    match server::parse(&bytes[..size], PeerAddr::Unknown, &limits()) {
        Ok(Parsed::Upgrade(request)) => {
            let deflate = DeflateConfig::default().accept(request.extensions());
            let extensions = deflate.as_ref().map(|(_, response)| response.as_str());
            let response =
                server::respond_with(&request, &Accept::new(), extensions).expect("nothing of it is refused");
            let head = ResponseReader::new(HeadLimits::default()).read(&response).expect("a response");
            assert_eq!(head.map(|(head, size)| (head.status(), size)), Some((101, response.len())));
            let _ = OriginPolicy::SameHost.check(&request);
            let _ = (request.subprotocols().count(), request.cookies().count(), request.query());
        }
        Ok(Parsed::Plain(request)) => drop(request.path().to_owned()),
        Err(refusal) => assert!((400..600).contains(&refusal.status())),
    }
}

fn response(bytes: &[u8], step: usize) {
    let whole = ResponseReader::new(limits()).read(bytes).map(|read| read.map(|(head, size)| (head.status(), size)));
    let mut reader = ResponseReader::new(limits());
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        match reader.read(&bytes[..end]) {
            Ok(None) => continue,
            Ok(Some((head, size))) => {
                assert_eq!(whole, Ok(Some((head.status(), size))));
                let request = ClientRequest::new(Url::parse("ws://a/").expect("a URL"));
                let _ = client::verify(head, &request, [7; 16]).map_err(|error| error.with_body(&bytes[size..]));
            }
            Err(error) => assert_eq!(whole, Err(error)),
        }
        return;
    }
    assert_eq!(whole, Ok(None));
}

fn proxy(bytes: &[u8], step: usize) {
    let whole = ProxyHeader::parse(bytes);
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        match ProxyHeader::parse(&bytes[..end]) {
            Ok(None) => continue,
            found => return assert_eq!(found, whole),
        }
    }
    assert_eq!(whole, Ok(None));
}

fn text(text: &str) {
    if let Ok(url) = Url::parse(text) {
        let _ = (url.authority(), url.target().len(), client::redirect(&url, 301, text));
        let _ = ClientRequest::new(url).encode([7; 16]);
    }
    let _ = Trusted::from([text]).invalid_entry();
}

fuzz_target!(|data: &[u8]| {
    let [kind, step, bytes @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    match kind % 4 {
        0 => request(bytes, step),
        1 => response(bytes, step),
        2 => proxy(bytes, step),
        _ => std::str::from_utf8(bytes).into_iter().for_each(text),
    }
});
