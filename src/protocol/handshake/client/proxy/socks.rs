//! SOCKS5 (RFC 1928), with user and password (RFC 1929).

use core::net::IpAddr;

use super::error::ProxyError;
use super::step::Step;
use crate::protocol::handshake::client::site::Credentials;
use crate::protocol::handshake::client::url::Url;

/// The client's side of a SOCKS5 negotiation.
#[derive(Clone)]
pub(super) struct Socks {
    state: State,
    /// The encoded message with user and password.
    login: Option<Vec<u8>>,
    /// The encoded CONNECT command.
    command: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    /// The authentication methods were offered.
    Method,
    /// User and password were sent.
    Login,
    /// The command was sent.
    Reply,
}

impl Socks {
    pub(super) fn new(credentials: Option<&Credentials>, url: &Url) -> Result<Socks, ProxyError> {
        let login = credentials.map(login).transpose()?;
        Ok(Socks { state: State::Start, login, command: command(url)? })
    }

    pub(super) fn advance(&mut self, received: &[u8]) -> Result<Step, ProxyError> {
        match self.state {
            State::Start => {
                let methods: &[u8] = if self.login.is_some() { &[NO_LOGIN, USER_PASSWORD] } else { &[NO_LOGIN] };
                let bytes = [&[VERSION, u8::try_from(methods.len()).unwrap_or_default()], methods].concat();
                Ok(self.send(0, bytes, State::Method))
            }
            State::Method => {
                check_version(received)?;
                match (received.get(1), &self.login) {
                    (None, _) => Ok(Step::Receive),
                    (Some(&NO_LOGIN), _) => Ok(self.send(2, self.command.clone(), State::Reply)),
                    (Some(&USER_PASSWORD), Some(login)) => Ok(self.send(2, login.clone(), State::Login)),
                    (Some(&method), _) => Err(ProxyError::Method(method)),
                }
            }
            // RFC 1929 2: VER, STATUS. Some proxies send a wrong version here, so it is ignored.
            State::Login => match received.get(1) {
                None => Ok(Step::Receive),
                Some(0) => Ok(self.send(2, self.command.clone(), State::Reply)),
                Some(_) => Err(ProxyError::LoginRefused),
            },
            State::Reply => {
                check_version(received)?;
                match reply_size(received)? {
                    Some(consumed) if received.len() >= consumed => Ok(Step::Open { consumed }),
                    _ => Ok(Step::Receive),
                }
            }
        }
    }

    fn send(&mut self, consumed: usize, bytes: Vec<u8>, next: State) -> Step {
        self.state = next;
        Step::Send { consumed, bytes }
    }
}

fn check_version(received: &[u8]) -> Result<(), ProxyError> {
    match received.first() {
        Some(&version) if version != VERSION => Err(ProxyError::NotSocks5(version)),
        _ => Ok(()),
    }
}

/// Encodes VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929 2).
fn login(credentials: &Credentials) -> Result<Vec<u8>, ProxyError> {
    let (user, password) = (credentials.user.as_bytes(), credentials.password.as_bytes());
    match (u8::try_from(user.len()), u8::try_from(password.len())) {
        // RFC 1929 requires a password of at least one byte, but some proxies have users without a password.
        (Ok(user_length @ 1..), Ok(password_length)) => {
            Ok([&[1, user_length], user, &[password_length], password].concat())
        }
        _ => Err(ProxyError::Credentials),
    }
}

/// Encodes VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT (RFC 1928 4).
fn command(url: &Url) -> Result<Vec<u8>, ProxyError> {
    const CONNECT: u8 = 1;
    let mut bytes = vec![VERSION, CONNECT, 0];
    match url.ip() {
        Some(IpAddr::V4(address)) => {
            bytes.push(IPV4);
            bytes.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            bytes.push(IPV6);
            bytes.extend_from_slice(&address.octets());
        }
        None => {
            let length = u8::try_from(url.host().len()).map_err(|_| ProxyError::HostTooLong)?;
            bytes.extend_from_slice(&[DOMAIN_NAME, length]);
            bytes.extend_from_slice(url.host().as_bytes());
        }
    }
    bytes.extend_from_slice(&url.port().to_be_bytes());
    Ok(bytes)
}

/// Returns the size of the reply VER, REP, RSV, ATYP, BND.ADDR, BND.PORT (RFC 1928 6), which depends on its first five
/// bytes.
fn reply_size(received: &[u8]) -> Result<Option<usize>, ProxyError> {
    match received {
        [_, code, ..] if *code != 0 => Err(ProxyError::Reply(*code)),
        [_, _, _, IPV4, ..] => Ok(Some(4 + 4 + 2)),
        [_, _, _, IPV6, ..] => Ok(Some(4 + 16 + 2)),
        [_, _, _, DOMAIN_NAME, length, ..] => Ok(Some(4 + 1 + usize::from(*length) + 2)),
        [_, _, _, DOMAIN_NAME] => Ok(None),
        [_, _, _, kind, ..] => Err(ProxyError::AddressType(*kind)),
        _ => Ok(None),
    }
}

/// The version and the authentication methods (RFC 1928 3).
const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const USER_PASSWORD: u8 = 2;

/// The address types (RFC 1928 5).
const IPV4: u8 = 1;
const DOMAIN_NAME: u8 = 3;
const IPV6: u8 = 4;
