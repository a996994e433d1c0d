use super::*;

/// Returns a server's answer to this field value.
fn answered(config: &DeflateConfig, field: &str) -> Option<(DeflateParams, String)> {
    config.accept(extension_offers(field.as_bytes()).map_while(Result::ok))
}

fn answer(config: &DeflateConfig, field: &str) -> Option<String> {
    answered(config, field).map(|(_, answer)| answer)
}

/// The configuration of a server that requests no parameters.
fn lenient() -> DeflateConfig {
    DeflateConfig::default().server_no_context_takeover(false).client_no_context_takeover(false)
}

fn sides(params: DeflateParams) -> [(bool, u8); 2] {
    [params.compress, params.decompress].map(|side| (side.takeover, side.window_bits))
}

#[test]
fn the_server_accepts_the_first_acceptable_offer() {
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let table = [
        ("permessage-deflate", Some("permessage-deflate")),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
        (both, Some(both)),
        ("permessage-deflate; server_max_window_bits=15", Some("permessage-deflate; server_max_window_bits=15")),
        ("permessage-deflate; server_max_window_bits=\"10\"", Some("permessage-deflate; server_max_window_bits=10")),
        ("permessage-deflate; client_max_window_bits=9", Some("permessage-deflate")),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12",
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        ("permessage-deflate; unknown, permessage-deflate", Some("permessage-deflate")),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("Permessage-deflate", Some("permessage-deflate")),
        ("permessage-deflate2, permessage", None),
        ("", None),
    ];
    for (offers, expected) in table {
        assert_eq!(answer(&lenient(), offers).as_deref(), expected, "{offers}");
    }
    assert_eq!(answer(&DeflateConfig::default(), "permessage-deflate").as_deref(), Some(both));
}

#[test]
fn a_18_an_offer_with_an_invalid_parameter_is_declined() {
    let bad_bits =
        ["7", "16", "0", "007", "08", "+9", "-1", "9999999999999999999", "10.0", "1e1", "0xa", "ten", "\"\\7\""];
    for bits in bad_bits {
        for name in [SERVER_MAX_WINDOW_BITS, CLIENT_MAX_WINDOW_BITS] {
            let offer = format!("permessage-deflate; {name}={bits}");
            assert_eq!(answer(&lenient(), &offer), None, "{offer}");
            let confirmed = lenient().confirm([offer.as_bytes()]);
            assert_eq!(confirmed, Err(NegotiationError::Parameter(name.to_owned())), "{offer}");
        }
    }
    let bad = [
        "unknown",
        "unknown=1",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=10; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits",
        "Server_no_context_takeover",
    ];
    for parameters in bad {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(&lenient(), &offer), None, "{offer}");
        let name = parameters.split(['=', ';']).next().unwrap_or_default().to_owned();
        assert_eq!(lenient().confirm([offer.as_bytes()]), Err(NegotiationError::Parameter(name)), "{offer}");
    }
}

#[test]
fn the_answer_of_the_server_states_its_parameters() {
    let strict = DeflateConfig::default().server_max_window_bits(11).client_max_window_bits(10);
    let none = "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits";
    let table = [
        // RFC 7692 7.1.2.2: no client_max_window_bits in the answer to a client that has not offered it.
        ("", "=11", [(false, 11), (false, 15)]),
        ("; client_max_window_bits", "=11; client_max_window_bits=10", [(false, 11), (false, 10)]),
        ("; client_max_window_bits=15", "=11; client_max_window_bits=10", [(false, 11), (false, 10)]),
        ("; client_max_window_bits=\"15\"", "=11; client_max_window_bits=10", [(false, 11), (false, 10)]),
        ("; client_max_window_bits=\"10\"", "=11", [(false, 11), (false, 10)]),
        ("; client_max_window_bits=9", "=11", [(false, 11), (false, 9)]),
        ("; client_max_window_bits=8", "=11", [(false, 11), (false, 8)]),
        ("; server_max_window_bits=9", "=9", [(false, 9), (false, 15)]),
        ("; server_max_window_bits=14", "=11", [(false, 11), (false, 15)]),
    ];
    for (offer, expected, agreed) in table {
        let (params, answer) = answered(&strict, &format!("permessage-deflate{offer}")).expect("accepted");
        assert_eq!(answer, format!("permessage-deflate{none}{expected}"), "{offer}");
        assert_eq!(sides(params), agreed, "{offer}");
    }
    let takeover = |offer| sides(answered(&lenient(), offer).expect("accepted").0).map(|(takeover, _)| takeover);
    assert_eq!(takeover("permessage-deflate"), [true, true]);
    assert_eq!(takeover("permessage-deflate; server_no_context_takeover"), [false, true]);
    assert_eq!(takeover("permessage-deflate; client_no_context_takeover"), [true, false]);
}

#[test]
fn the_client_offers_its_configuration() {
    let all = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits";
    assert_eq!(DeflateConfig::default().offer(), all);
    assert_eq!(lenient().offer(), "permessage-deflate; client_max_window_bits");
    assert_eq!(
        lenient().server_max_window_bits(10).client_max_window_bits(12).offer(),
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"
    );
}

#[test]
fn the_client_accepts_answers_that_match_its_offer() {
    let strict = DeflateConfig::default().server_max_window_bits(11).client_max_window_bits(10);
    let table = [
        (lenient(), "", [(true, 15), (true, 15)]),
        (lenient(), "; server_no_context_takeover", [(true, 15), (false, 15)]),
        (lenient(), "; client_no_context_takeover", [(false, 15), (true, 15)]),
        (lenient(), "; server_max_window_bits=8; client_max_window_bits=8", [(true, 8), (true, 8)]),
        (lenient(), "; server_max_window_bits=\"9\"; client_max_window_bits=\"10\"", [(true, 10), (true, 9)]),
        (lenient(), "; client_no_context_takeover; server_max_window_bits=9", [(false, 15), (true, 9)]),
        // The server may omit parameters that were requested of it. The client keeps to the parameters that it offered.
        (strict.clone(), "", [(false, 10), (true, 15)]),
        (strict.clone(), "; server_max_window_bits=11; client_max_window_bits=9", [(false, 9), (true, 11)]),
    ];
    for (config, answer, agreed) in table {
        let params = config.confirm([format!("permessage-deflate{answer}").as_bytes()]);
        assert_eq!(params.map(|params| params.map(sides)), Ok(Some(agreed)), "{answer}");
    }
    assert_eq!(strict.confirm([]), Ok(None));
    let beyond = |name: &str| Err(NegotiationError::Parameter(name.to_owned()));
    assert_eq!(strict.confirm([&b"permessage-deflate; server_max_window_bits=12"[..]]), beyond(SERVER_MAX_WINDOW_BITS));
    assert_eq!(strict.confirm([&b"permessage-deflate; client_max_window_bits=11"[..]]), beyond(CLIENT_MAX_WINDOW_BITS));
    assert_eq!(strict.confirm([&b"permessage-deflate; client_max_window_bits"[..]]), beyond(CLIENT_MAX_WINDOW_BITS));
}

#[test]
fn a_03_the_client_refuses_answers_that_do_not_match_its_offer() {
    let refused = |lines: &[&str]| DeflateConfig::default().confirm(lines.iter().map(|line| line.as_bytes()));
    assert_eq!(refused(&["foo"]), Err(NegotiationError::NotOffered("foo".into())));
    assert_eq!(refused(&["permessage-deflate", "foo"]), Err(NegotiationError::NotOffered("foo".into())));
    assert_eq!(refused(&["permessage-deflate, permessage-deflate"]), Err(NegotiationError::Twice));
    assert_eq!(refused(&["permessage-deflate", "permessage-deflate"]), Err(NegotiationError::Twice));
    let malformed = [
        ",;constructor",
        "permessage-deflate;",
        "permessage-deflate;;server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate=1",
        "\u{e9}",
    ];
    for line in malformed {
        assert_eq!(refused(&[line]), Err(NegotiationError::Malformed), "{line}");
        // A malformed field fails the handshake before any offer is considered, and is never accepted.
        let taken = answer(&DeflateConfig::default(), line);
        assert_eq!(taken, None, "{line}");
    }
}

/// Each endpoint can decompress the messages of the other, with every pair of configurations.
#[test]
fn each_endpoint_can_decompress_the_messages_of_the_other() {
    let configs = || {
        (0..4 * 49).map(|n| {
            let (flags, bits) = (n % 4, n / 4);
            DeflateConfig::default()
                .server_no_context_takeover(flags & 1 == 0)
                .client_no_context_takeover(flags & 2 == 0)
                .server_max_window_bits(9 + bits % 7)
                .client_max_window_bits(9 + bits / 7)
        })
    };
    for (client, server) in configs().flat_map(|client| configs().map(move |server| (client.clone(), server))) {
        let (at_server, answer) = answered(&server, &client.offer()).expect("accepted");
        let at_client = client.confirm([answer.as_bytes()]).expect("valid").expect("accepted");
        let ends = [(at_client.compress, at_server.decompress), (at_server.compress, at_client.decompress)];
        for (sends, receives) in ends {
            assert!(sends.window_bits <= receives.window_bits && (receives.takeover || !sends.takeover));
        }
    }
}

#[test]
fn an_invalid_answer_is_named_with_what_is_wrong_with_it() {
    for (error, text) in [
        (NegotiationError::Malformed, "the list of extensions is malformed"),
        (NegotiationError::NotOffered("x-zip".into()), "the extension \"x-zip\" was not offered"),
        (NegotiationError::Twice, "permessage-deflate is accepted twice"),
        (NegotiationError::Parameter("x".into()), "the parameter \"x\" of permessage-deflate is not acceptable"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
